"""A run's state on disk, so that no moment loses it: written whole, found again, compared with what is asked now, pruned."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import FaceExprError
from ..files import replace_streamed
from .options import OPTIONS
from .settings import ADDED_LATER, EVERY, KEEP, RESUME, TrainSettings

FORMAT = "faceexpr.training_state"

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_NAME = re.compile(r"step(\d{8})\.safetensors")
_DIGESTS = {
    "photos": "the photos, their captions (trigger word, class word), their framing or background_weight are others",
    "class_images": "the pictures of the class (prior_images) are others",
    "prompts": "trigger word, class word or the vocabulary are others",
    "model": "the checkpoint, or the LoRAs on it, are others",
    "start": "the LoRA that it starts from (start_from) is another",
    "text_encoders": "the text encoders, or the LoRAs on them, are others",
    "vae": "the VAE is another",
    "crafting_gradient": "expression crafting learns otherwise since version 0.2.0",
}
_NAMES = {
    **{one.field: one.name if one.widget is not None else f"{one.name} (in the node: more)" for one in OPTIONS},
    "prediction": "what the model predicts (model_predicts, --prediction_type)",
    "zero_snr": "the model's zero SNR",
    "side": "the photos' size (resolution)",
}
"""What the user knows a setting by."""
_PARTS = {
    "class_images": ("prior",),
    "prompts": ("prior", "crafting_weight"),
    "crafting_gradient": ("crafting_weight",),
    "text_encoders": ("text_encoder",),
    "text_encoder_learning_rate": ("text_encoder",),
    "text_encoder_weight_decay": ("text_encoder",),
}
"""What comes, goes or is counted otherwise with a setting, which alone is told then."""
_LATER = ("side", "text_encoders", "vae")
"""What states of older versions may lack."""

SIGNS = "signs-"
SIGNED = ("model", "text_encoders")
"""Digests that begin with SIGNS (see `fingerprint`)."""

OTHERWISE = "choose another name, or start anew, which gives it up"
"""What is left to do with a run that cannot be gone on with, where no door says it in its own words."""

Read = TypeVar("Read")

log = logging.getLogger(__name__)


class NotWholeError(FaceExprError):
    """A file that was read and is not the whole state of a run."""


@dataclass(frozen=True)
class RunState:
    """`run` says what the run is made of, `values` and `tensors` how far it is; both mappings hold what JSON can."""

    step: int
    run: Mapping[str, Any]
    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(repr=False)


def write_state(path: Path, state: RunState) -> None:
    """Write `state` as safetensors with JSON in its header; the file appears whole or not at all. One tensor at a time is copied.

    Raises OSError, and TypeError for values that JSON cannot hold.
    """
    replace_streamed(path, _pieces(state))


def _pieces(state: RunState) -> Iterator[bytes | memoryview]:
    """A file of safetensors: the header's length, the header (offsets of each tensor, and metadata), the tensors' bytes.

    safetensors' own writer wants all tensors on the CPU at once: a second copy of everything that is on a card.
    """
    own = json.dumps({"step": state.step, "run": state.run, "values": state.values})
    header: dict[str, Any] = {"__metadata__": {FORMAT: own}}
    tensors = sorted(state.tensors.items(), key=lambda named: -named[1].element_size())  # each begins at a multiple of its size
    end = 0
    for name, tensor in tensors:
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 8)
    yield len(words).to_bytes(8, "little")
    yield words
    for _, tensor in tensors:
        if tensor.numel():
            yield tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def read_state(path: Path) -> RunState:
    """Raises OSError for a file that cannot be read, NotWholeError for one that is not whole."""
    with _opened(path, "pt") as (file, header):
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
        return RunState(header["step"], header["run"], header["values"], tensors)


def read_head(path: Path) -> RunState:
    """A state without its tensors, from the file's header alone. Raises as `read_state`."""
    with _opened(path, "np") as (_, header):
        return RunState(header["step"], header["run"], header["values"], {})


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    from safetensors import SafetensorError, safe_open

    try:
        path.open("rb").close()  # safetensors says of every file that it may not open that it is not there
        with safe_open(path, framework=framework) as file:
            yield file, json.loads((file.metadata() or {})[FORMAT])
    except (SafetensorError, KeyError, json.JSONDecodeError) as reason:
        raise NotWholeError(f"{path} cannot be read as the state of a training run ({reason}); delete it, or train anew.") from reason


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of a run's make-up changed, in words that name it as the user does: `learning_rate was 0.0001, is 0.0002`."""
    words = []
    before, now = {**ADDED_LATER, **before}, {**ADDED_LATER, **now}
    for name in sorted({*before, *now}):
        of_older_version = name in _LATER and name not in before
        of_older_version |= name in SIGNED and name in before and not str(before[name]).startswith(SIGNS)  # in a digest that is no more
        of_another = any(before.get(whole) != now.get(whole) for whole in _PARTS.get(name, ()))
        if before.get(name) != now.get(name) and not of_older_version and not of_another:
            values = f"{_NAMES.get(name, name)} was {_said(before, name)}, is {_said(now, name)}"
            words.append(_DIGESTS.get(name, values))
    return words


def _said(run: Mapping[str, Any], name: str) -> Any:
    value = run.get(name, getattr(TrainSettings, name, None))
    return ("off", "on")[value] if isinstance(value, bool) else value


@dataclass(frozen=True)
class StateFolder:
    """Where a run keeps its states: one is written `every` so many steps, and the newest `keep` stay. `resume` is one of RESUME.

    With `lengthened_later` a finished run's newest state stays, so that more steps can be added. `otherwise` says what the user can do with
    a run that cannot be gone on with. Raises FaceExprError for values out of range.
    """

    path: Path
    every: int = EVERY
    keep: int = KEEP
    resume: str = "strict"
    lengthened_later: bool = False
    otherwise: str = field(default=OTHERWISE, compare=False)

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 1:
            raise FaceExprError(f"States every {self.every} steps, {self.keep} kept: both must be 1 or more.")
        if self.resume not in RESUME:
            raise FaceExprError(f"resume is {self.resume!r}; choose one of {', '.join(RESUME)}.")

    def files(self) -> list[Path]:
        """The states, newest first."""
        return sorted((file for file in self.path.glob("step*.safetensors") if _NAME.fullmatch(file.name)), reverse=True)

    def newest(self) -> int:
        """The step of the newest state, 0 without one, as the files' names say."""
        return max((int(file.stem[4:]) for file in self.files()), default=0)

    def latest(self) -> RunState | None:
        """The newest state that is whole. Raises FaceExprError for a newer one, or a folder, that cannot be read: it may be whole."""
        return self._newest_whole(read_state)

    def stopped_run(self) -> Mapping[str, Any] | None:
        """What the run of the newest state is made of, which may be gone on with; None where there is none, or `resume` is off. Raises as
        `latest`."""
        state = None if self.resume == "off" else self._newest_whole(read_head)
        return None if state is None else state.run

    def _newest_whole(self, read: Callable[[Path], Read]) -> Read | None:
        try:
            os.listdir(self.path)  # glob finds nothing in a folder that may not be read
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as reason:
            raise self._unread(self.path, reason) from reason
        for file in self.files():
            try:
                return read(file)
            except NotWholeError as reason:
                log.warning("%s", reason)
            except OSError as reason:
                raise self._unread(file, reason) from reason
        return None

    def _unread(self, path: Path, reason: OSError) -> FaceExprError:
        return FaceExprError(
            f"{path} may hold how far a training has come, but cannot be read ({reason.strerror or reason}). See that its disk is there "
            f"and that you may read it, then start this again; or {self.otherwise}."
        )

    def to_resume(self, run: Mapping[str, Any]) -> RunState | None:
        """The state that a run made of `run` goes on from, None to start anew. The number of steps alone may be another.

        Raises as `latest`, and with `resume` strict FaceExprError when the newest state is that of another run, or of a later step than is
        asked for.
        """
        state = None if self.resume == "off" else self.latest()
        told = "" if state is None else self._another(state, run)
        if told:
            log.warning("%s The training starts anew.", told)
        return None if told else state

    def require_same(self, run: Mapping[str, Any]) -> None:
        """Raise what `to_resume` will with a run made of `run`, whose pictures of the class need not be known yet."""
        state = self._newest_whole(read_head) if self.resume == "strict" else None
        if state is not None:
            self._another(
                replace(state, run={name: made for name, made in state.run.items() if name in run or name != "class_images"}), run
            )

    def _another(self, state: RunState, run: Mapping[str, Any]) -> str:
        """Why a run made of `run` does not go on from `state`, "" where it does; with `resume` strict that is raised."""
        changed = differences({**state.run, "steps": run.get("steps")}, run)
        if not changed and state.step <= run.get("steps", state.step):
            return ""
        changed = changed or [f"{run['steps']} steps are asked for, and it has taken more"]
        told = f"A run in {self.path} stands after {state.step} steps and is not the same: {'; '.join(changed)}."
        if self.resume == "strict":
            raise FaceExprError(f"{told} Set these back to go on with it, {self.otherwise}.")
        return told

    def write(self, state: RunState) -> None:
        """Write `state`, then take away those that are too many. A full disk gets room from the older states; the newest stays till then.

        Raises what `write_state` does.
        """
        path = self.path / f"step{state.step:08}.safetensors"
        try:
            write_state(path, state)
        except OSError as reason:
            older = self.files()[1:]
            if reason.errno not in (errno.ENOSPC, errno.EDQUOT) or not older:
                raise
            for file in older:
                _remove(file)
            write_state(path, state)
        for file in (*self.files()[self.keep :], *self.path.glob(".step*.part")):
            _remove(file)

    def require_space(self, size: int, steps: int) -> None:
        """Make sure, before the training, that the disk takes the states of `size` bytes that a run of `steps` steps has at once.

        One more than are kept, while it takes the place of the oldest. Raises FaceExprError.
        """
        copies = min(self.keep + 1, -(-steps // self.every) + 1)
        there = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.is_dir())
        free = shutil.disk_usage(there).free + sum(file.stat().st_size for file in self.files())
        if free < copies * size:
            needed = f"{copies * size / 2**20:.0f} MB ({copies} of {size / 2**20:.0f} MB)"
            raise FaceExprError(
                f"The run's states need {needed}, but the disk of {self.path} has {free / 2**20:.0f} MB free. "
                "Free some space, keep fewer states, or lower the rank."
            )

    def drop_after(self, step: int) -> None:
        """Delete the states of later steps."""
        for file in self.files():
            if int(file.stem[4:]) > step:
                _remove(file)

    def finish(self) -> None:
        """For a run that is finished and saved: `clear`, or with `lengthened_later` all states but the newest are deleted."""
        if not self.lengthened_later:
            self.clear()
        for file in self.files()[1:]:
            _remove(file)

    def clear(self) -> None:
        """Delete every state, and the folder if nothing else lies in it."""
        for file in (*self.files(), *self.path.glob(".step*.part")):
            _remove(file)
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()


def _remove(file: Path) -> None:
    """What cannot be deleted now costs space, not the run."""
    try:
        file.unlink(missing_ok=True)
    except OSError as reason:
        log.warning("%s could not be deleted: %s", file, reason.strerror or reason)
