"""What processes that share work over files have in common: their part of it, waiting for each other, what they say."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import mini
from ..errors import FaceExprError
from ..training.settings import PREDICTIONS
from .flags import refuse_idle_negative

if TYPE_CHECKING:
    from ..measure.judges import Judges

LINES = 20
"""Where there is no terminal, so many lines a run stand for the bar."""
WAIT = 2.0
"""Seconds between looks for what another process makes."""
_PIECE, _PIECES = 4096, 1024
"""Of each file of weights that many pieces of so many bytes are read, evenly over it."""


@dataclass(frozen=True)
class Share:
    """This process's number among those that a launcher (accelerate, torchrun) started, and on its machine."""

    rank: int = 0
    processes: int = 1
    local: int = 0

    @staticmethod
    def here() -> Share:
        """As the launcher's environment says."""
        number = {name: int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))}
        return Share(number["RANK"], number["WORLD_SIZE"], number["LOCAL_RANK"])

    def of(self, items: Sequence[Any]) -> Sequence[Any]:
        """Every so many of them, each process its own."""
        return items[self.rank :: self.processes]

    def device(self, asked: str) -> str:
        """Where to compute: of several processes on one machine each has its own card."""
        import torch

        several = self.processes > 1 and asked in ("", "cuda") and torch.cuda.is_available()
        return f"cuda:{self.local % torch.cuda.device_count()}" if several else asked


def add_drawing_arguments(parser: argparse.ArgumentParser) -> None:
    """How all pictures of such a work are drawn, and on which machine."""
    add = parser.add_argument_group("drawing").add_argument
    add("--negative", default="", help="what to avoid")
    add("--steps", type=int, default=20, help="denoising steps (20)")
    add("--cfg", type=float, default=5.0, help="guidance (5)")
    add("--width", type=int, help="pixels, a multiple of 8 (what the model was made for)")
    add("--height", type=int, help="pixels, a multiple of 8 (what the model was made for)")
    add("--prediction_type", choices=PREDICTIONS, default="", help="what the model predicts (as the checkpoint says)")
    add("--device", default="", help="cpu, cuda, mps (the best there is)")
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="precision (float32 on cpu, else float16)")


def check_drawing(arguments: argparse.Namespace) -> None:
    """Raises FaceExprError for steps and sizes that cannot be drawn, and for a negative prompt without guidance."""
    from ..diffusers_host.sampling import check_size

    if arguments.steps < 1:
        raise FaceExprError(f"--steps {arguments.steps}: at least 1 is needed.")
    check_size(arguments.width or 8, arguments.height or 8)
    refuse_idle_negative(arguments)


def model_digest(model: str) -> str:
    """A model's name and a digest of its configurations, and of its weights' names, sizes and pieces: told without reading gigabytes."""
    location = mini.path() if model == "mini" else Path(model)
    if not location.exists():
        raise FaceExprError(f"there is no model {model}. Give 'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors).")
    digest = hashlib.sha256()
    for path in [location] if location.is_file() else sorted(location.rglob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for start in range(0, size, max(_PIECE, size // _PIECES)):
                file.seek(start)
                digest.update(file.read(_PIECE))
    for path in sorted(location.rglob("*config.json")) if location.is_dir() else ():
        digest.update(path.relative_to(location).as_posix().encode() + path.read_bytes())
    return f"{Path(model).name} {digest.hexdigest()[:16]}"


def drawn_by(arguments: argparse.Namespace, drawing: Mapping[str, object]) -> dict[str, object]:
    """What decides a folder's pictures beside their prompts, and what is measured in them, for `records.keep_meaning`."""
    from ..measure.judges import measured_by

    return {
        "model": model_digest(arguments.model),
        "prediction": arguments.prediction_type,
        "drawing": dict(drawing),
        "dtype": arguments.dtype,
        "measured by": measured_by(),
    }


def open_judges() -> Judges:
    """Both judges and SFace, to be closed."""
    from ..measure.judges import Judges

    return Judges()


def say(words: str) -> None:
    """On stderr."""
    print(f"faceexpr: {words}", file=sys.stderr, flush=True)


def left_to_others(missing: int, what: str) -> None:
    """Says that other processes still draw, the last of which writes `what`."""
    say(f"this process is done; {missing} pictures are left to the others, the last of which writes the {what}")


def wait_for(there: Callable[[], bool], what: str) -> None:
    """Until another process has made it; a launcher ends all of them when one fails."""
    for look in range(sys.maxsize):
        if there():
            return
        if look == 1:
            say(f"waiting for another process: {what}")
        time.sleep(WAIT)


class Progress:
    """How many pictures are done, and about how long the rest will take, on stderr; silent unless it `speaks`."""

    def __init__(self, total: int, speaks: bool) -> None:
        self._total, self._speaks, self._done, self._started = total, speaks, 0, time.monotonic()

    def step(self) -> None:
        self._done += 1
        seconds = (time.monotonic() - self._started) / self._done
        left = f"{seconds:.1f} s each, about {seconds * (self._total - self._done) / 60:.0f} min left"
        line = f"{self._done} of {self._total} pictures, {left}"
        if not self._speaks:
            return
        if sys.stderr.isatty():
            print(f"\r{line}    ", end="\n" if self._done == self._total else "", file=sys.stderr, flush=True)
        elif self._done == self._total or self._done % max(1, self._total // LINES) == 0:
            say(line)
