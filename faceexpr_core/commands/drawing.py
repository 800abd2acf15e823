"""How all pictures of an evaluation or a data set are drawn: the flags, what they mean, and the drawer."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import name_bytes
from ..fusion.run import GUIDANCE, STEPS
from ..training.settings import PREDICTIONS
from .flags import refuse_idle_negative, run_of

if TYPE_CHECKING:
    from ..evaluation.draw import Drawer

_PIECE, _PIECES = 4096, 1024
"""Of each file of weights that many pieces of so many bytes are read, evenly over it."""


def add_drawing_arguments(parser: argparse.ArgumentParser) -> None:
    """How all pictures of such a work are drawn, and on which machine."""
    add = parser.add_argument_group("drawing").add_argument
    add("--negative", default="", help="what to avoid")
    add("--steps", type=int, default=STEPS, help=f"denoising steps ({STEPS})")
    add("--cfg", type=float, default=GUIDANCE, help=f"guidance ({GUIDANCE:g})")
    add("--width", type=int, help="pixels, a multiple of 8 (what the model was made for)")
    add("--height", type=int, help="pixels, a multiple of 8 (what the model was made for)")
    add("--prediction_type", choices=PREDICTIONS, default="", help="what the model predicts (as the checkpoint says)")
    add("--device", default="", help="cpu, cuda, mps (the best there is)")
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="precision (float32 on cpu, else float16)")


def check_drawing(arguments: argparse.Namespace) -> None:
    """Raises FaceExprError for what cannot be drawn, and for a negative prompt without guidance."""
    run_of(arguments)
    refuse_idle_negative(arguments)


def drawn_by(arguments: argparse.Namespace) -> dict[str, object]:
    """What decides a folder's pictures beside their prompts, and what is measured in them, for `records.keep_meaning`; a size of 0 is the
    model's own. Raises FaceExprError where there is no such model."""
    from ..measure.judges import measured_by

    return {
        "model": checkpoint_digest(arguments.model),
        "prediction": arguments.prediction_type,
        "drawing": {**run_of(arguments).meaning(), "width": arguments.width or 0, "height": arguments.height or 0},
        "dtype": arguments.dtype,
        "measured by": measured_by(),
    }


def checkpoint_digest(model: str) -> str:
    """A model's name and a digest of its configurations, and of its weights' names, sizes and pieces: told without reading gigabytes.
    Raises FaceExprError where there is none."""
    from ..diffusers_host.pipeline import located

    location, digest = located(model), hashlib.sha256()
    for path in [location] if location.is_file() else sorted(location.rglob("*.safetensors")):
        size = path.stat().st_size
        digest.update(name_bytes(f"{path.name} {size}"))
        with path.open("rb") as file:
            for start in range(0, size, max(_PIECE, size // _PIECES)):
                file.seek(start)
                digest.update(file.read(_PIECE))
    for path in sorted(location.rglob("*config.json")) if location.is_dir() else ():
        digest.update(name_bytes(path.relative_to(location).as_posix()) + path.read_bytes())
    return f"{Path(model).name} {digest.hexdigest()[:16]}"


def open_drawer(arguments: argparse.Namespace, device: str) -> Drawer:
    """What draws as the flags say, its model loaded for `device` ("": the best there is). Raises FaceExprError where it cannot be."""
    from ..diffusers_host.pipeline import native_side
    from ..evaluation.draw import Drawer
    from .generate import open_pipeline
    from .loras import load_loras

    pipe = open_pipeline(argparse.Namespace(**{**vars(arguments), "device": device}))
    return Drawer(pipe, run_of(arguments, native_side(pipe)), lambda pipe, file, strength: load_loras(pipe, [file], strength))
