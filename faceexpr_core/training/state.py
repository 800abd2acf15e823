"""A run's state on disk, so that no moment loses it: written whole, found again, compared with what is asked now, pruned."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import FaceExprError
from ..files import replace_file
from .settings import EVERY, KEEP, RESUME

FORMAT = "faceexpr.training_state"

_NAME = re.compile(r"step(\d{8})\.safetensors")
_DIGESTS = {
    "photos": "the photos, their captions or their framing are others",
    "class_images": "the pictures of the class are others",
    "prompts": "trigger word, class word or the vocabulary are others",
    "model": "the checkpoint, or the LoRAs on it, are others",
    "text_encoders": "the text encoders, or the LoRAs on them, are others",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunState:
    """`run` says what the run is made of, `values` and `tensors` how far it is; both mappings hold what JSON can."""

    step: int
    run: Mapping[str, Any]
    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(repr=False)


def write_state(path: Path, state: RunState) -> None:
    """Write `state` as safetensors with JSON in its header; the file appears whole or not at all. Raises OSError."""
    from safetensors.torch import save

    header = {"step": state.step, "run": state.run, "values": state.values}
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}, {FORMAT: json.dumps(header)})
    replace_file(path, content)


def read_state(path: Path) -> RunState:
    """Raises FaceExprError when there is none at `path` or it is not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[FORMAT])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
        return RunState(header["step"], header["run"], header["values"], tensors)
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as reason:
        raise FaceExprError(f"{path} cannot be read as the state of a training run ({reason}); delete it, or train anew.") from reason


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of a run's make-up changed, in words: `learning_rate was 0.0001, is 0.0002`."""
    words = []
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            words.append(_DIGESTS.get(name, f"{name} was {before.get(name)}, is {now.get(name)}"))
    return words


@dataclass(frozen=True)
class StateFolder:
    """Where a run keeps its states: one is written `every` so many steps, and the newest `keep` stay. `resume` is one of RESUME.

    Raises FaceExprError for values out of range.
    """

    path: Path
    every: int = EVERY
    keep: int = KEEP
    resume: str = "strict"

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 1:
            raise FaceExprError(f"States every {self.every} steps, {self.keep} kept: both must be 1 or more.")
        if self.resume not in RESUME:
            raise FaceExprError(f"resume is {self.resume!r}; choose one of {', '.join(RESUME)}.")

    def files(self) -> list[Path]:
        """The states, newest first."""
        return sorted((file for file in self.path.glob("step*.safetensors") if _NAME.fullmatch(file.name)), reverse=True)

    def latest(self) -> RunState | None:
        """The newest state that is whole."""
        for file in self.files():
            try:
                return read_state(file)
            except FaceExprError as reason:
                log.warning("%s", reason)
        return None

    def to_resume(self, run: Mapping[str, Any]) -> RunState | None:
        """The state that a run made of `run` goes on from, None to start anew.

        Raises FaceExprError, with `resume` strict, when the newest state is that of another run.
        """
        state = None if self.resume == "off" else self.latest()
        if state is None:
            return None
        if not (changed := differences(state.run, run)):
            return state
        told = f"A run in {self.path} was stopped after {state.step} steps and is not the same: {'; '.join(changed)}."
        if self.resume == "strict":
            raise FaceExprError(f"{told} Set these back to go on with it, choose another name, or choose to start anew, which gives it up.")
        log.warning("%s The training starts anew.", told)
        return None

    def write(self, state: RunState) -> None:
        """Write `state`, then take away those that are too many. Where the disk takes no more, that is logged and the run goes on."""
        try:
            write_state(self.path / f"step{state.step:08}.safetensors", state)
        except OSError as reason:
            log.warning("The state of step %d could not be saved in %s: %s", state.step, self.path, reason.strerror or reason)
            return
        for file in self.files()[self.keep :]:
            file.unlink(missing_ok=True)
        for left_over in self.path.glob(".step*.part"):
            left_over.unlink(missing_ok=True)

    def drop_after(self, step: int) -> None:
        """Delete the states of later steps."""
        for file in self.files():
            if int(file.stem[4:]) > step:
                file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete every state, and the folder if nothing else lies in it. For a run that is finished and saved."""
        for file in (*self.files(), *self.path.glob(".step*.part")):
            file.unlink(missing_ok=True)
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()
