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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import FaceExprError
from ..files import replace_streamed
from .differences import NAMES, differences
from .settings import ADDED_LATER, EVERY, KEEP, RESUME

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
_FREE = ("steps", "init_lora_weights")
"""What a run may be gone on with otherwise than it began."""

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


@dataclass(frozen=True)
class Wording:
    """How the door of a run, a node or a command, says to its user: how a run that was stopped is gone on with (`again`, a sentence), what
    is left for one that cannot be (`otherwise`), and what its settings are called there (`names`, by their names in TrainSettings)."""

    again: str = ""
    otherwise: str = "choose another name, or start anew, which gives it up"
    names: Mapping[str, str] = field(default_factory=lambda: NAMES)


@dataclass(frozen=True)
class StateFolder:
    """Where a run keeps its states: one is written `every` so many steps, and the newest `keep` stay. `resume` is one of RESUME.

    With `lengthened_later` a finished run's newest state stays, so that more steps can be added. Raises FaceExprError for values out of
    range.
    """

    path: Path
    every: int = EVERY
    keep: int = KEEP
    resume: str = "strict"
    lengthened_later: bool = False
    wording: Wording = field(default=Wording(), compare=False)

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
            f"and that you may read it, then start this again; or {self.wording.otherwise}."
        )

    def to_resume(self, run: Mapping[str, Any]) -> RunState | None:
        """The state that a run made of `run` goes on from, None to start anew. Steps may be another number, and how the first weights
        were drawn: the state holds what became of them.

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
            self._another(state, run)

    def _another(self, state: RunState, run: Mapping[str, Any]) -> str:
        """Why a run made of `run` does not go on from `state`, "" where it does; with `resume` strict that is raised."""
        free = {name: run.get(name, ADDED_LATER.get(name)) for name in _FREE}
        changed = differences({**state.run, **free}, run, self.wording.names)
        if not changed and state.step <= run.get("steps", state.step):
            return ""
        changed = changed or [f"{run['steps']} steps are asked for, and it has taken more"]
        told = f"A run in {self.path} stands after {state.step} steps and is not the same: {'; '.join(changed)}."
        if self.resume == "strict":
            raise FaceExprError(f"{told} Set these back to go on with it, {self.wording.otherwise}.")
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
