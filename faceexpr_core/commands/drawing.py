"""How all pictures of an evaluation or a data set are drawn: the flags, what they mean, and the drawer."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .. import mini
from ..errors import FaceExprError
from ..files import name_bytes
from ..training.settings import PREDICTIONS
from .flags import refuse_idle_negative

if TYPE_CHECKING:
    from ..evaluation.draw import Drawer
    from ..evaluation.plan import Drawing

_PIECE, _PIECES = 4096, 1024
"""Of each file of weights that many pieces of so many bytes are read, evenly over it."""


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
    check_size(*(8 if side is None else side for side in (arguments.width, arguments.height)))
    refuse_idle_negative(arguments)


def drawing_of(arguments: argparse.Namespace, native: int) -> Drawing:
    """What the flags say of it; `native` pixels where no size is given."""
    from ..evaluation.plan import Drawing

    return Drawing(arguments.steps, arguments.cfg, arguments.width or native, arguments.height or native, arguments.negative)


def drawn_by(arguments: argparse.Namespace) -> dict[str, object]:
    """What decides a folder's pictures beside their prompts, and what is measured in them, for `records.keep_meaning`; a size of 0 is the
    model's own. Raises FaceExprError where there is no such model."""
    from ..measure.judges import measured_by

    return {
        "model": checkpoint_digest(arguments.model),
        "prediction": arguments.prediction_type,
        "drawing": asdict(drawing_of(arguments, native=0)),
        "dtype": arguments.dtype,
        "measured by": measured_by(),
    }


def checkpoint_digest(model: str) -> str:
    """A model's name and a digest of its configurations, and of its weights' names, sizes and pieces: told without reading gigabytes.
    Raises FaceExprError where there is none."""
    from ..diffusers_host.pipeline import require_text

    location = mini.path() if model == "mini" else Path(model)
    require_text(location)
    if not location.exists():
        raise FaceExprError(f"there is no model {model}. Give 'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors).")
    digest = hashlib.sha256()
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
    return Drawer(pipe, drawing_of(arguments, native_side(pipe)), lambda pipe, file, strength: load_loras(pipe, [file], strength))
