"""`faceexpr generate`: pictures with chosen expressions, on diffusers."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import FaceExprError
from .expressions import NONE, names

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline
    from PIL import Image

METADATA_KEY = "faceexpr"
"""The PNG text chunk that holds a picture's settings as JSON."""


def add_generate_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `generate` to the `faceexpr` command."""
    parser = subparsers.add_parser(
        "generate",
        help="draw pictures with chosen expressions",
        description="Draw pictures with chosen expressions. The same settings give the same picture as the nodes in ComfyUI "
        "(Euler, normal schedule).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors)")
    parser.add_argument("--prompt", required=True, help="what to draw; the expression goes where {expression} stands, or to the end")
    parser.add_argument(
        "--expression",
        nargs="+",
        default=["neutral"],
        metavar="E",
        help=f"one or more of: {', '.join((NONE, *names()))}; each gives its own pictures",
    )
    parser.add_argument("--intensity", type=float, default=1.0, help="0 neutral, 1 what the words give, up to 1.5 exaggerated")
    parser.add_argument("--second_expression", default=NONE, help="an expression to blend in")
    parser.add_argument("--second_weight", type=float, default=0.5, help="how strongly, 0 to 1.5")
    parser.add_argument("--action_units", default="", help="FACS action units, such as AU1+AU2 or R12; they share the intensity")
    parser.add_argument("--expression_scale", type=float, help="epsilon mode: scale the expression at each step (1 changes nothing)")
    parser.add_argument("--negative", default="", help="what to avoid")
    parser.add_argument("--lora", type=Path, action="append", default=[], help="a LoRA file; may be given more than once")
    parser.add_argument("--lora_strength", type=float, default=1.0, help="strength of every LoRA")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the pictures; nothing in it is overwritten")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise, the same for every expression")
    parser.add_argument("--count", type=int, default=1, help="pictures for each expression")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    parser.add_argument("--cfg", type=float, default=5.0, help="guidance: how closely to follow the prompt")
    parser.add_argument("--width", type=int, help="pixels, a multiple of 8 (default: what the model was made for)")
    parser.add_argument("--height", type=int, help="pixels, a multiple of 8 (default: what the model was made for)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="precision (default: float32 on cpu, else float16)")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> None:
    """Draw and save what the arguments ask for; prints the path of each picture. Raises FaceExprError for what cannot be done."""
    import torch
    from PIL import Image

    from . import diffusers_host, text

    if arguments.steps < 1 or arguments.count < 1:
        raise FaceExprError(f"--steps {arguments.steps} --count {arguments.count}: both must be at least 1.")
    for file in arguments.lora:
        if not file.is_file():
            raise FaceExprError(f"there is no LoRA file {file}. Give the path of a .safetensors file.")
    diffusers_host.check_size(arguments.width or 8, arguments.height or 8)
    terms = {
        expression: text.expression_terms(
            expression, arguments.intensity, arguments.second_expression, arguments.second_weight, arguments.action_units
        )
        for expression in arguments.expression
    }
    device = arguments.device or diffusers_host.best_device()
    dtype = getattr(torch, arguments.dtype or ("float32" if device == "cpu" else "float16"))
    pipe = diffusers_host.load_pipeline(arguments.model, dtype, device)
    load_loras(pipe, arguments.lora, arguments.lora_strength)
    native = 8 * pipe.unet.config.sample_size
    width, height = arguments.width or native, arguments.height or native

    for expression, parts in terms.items():
        prompt = text.build_prompts(arguments.prompt, parts, partial(diffusers_host.count_tokens, pipe))
        pictures = diffusers_host.generate(
            pipe,
            prompt,
            negative=arguments.negative,
            seed=arguments.seed,
            count=arguments.count,
            steps=arguments.steps,
            cfg=arguments.cfg,
            width=width,
            height=height,
            expression_scale=arguments.expression_scale,
            on_step=partial(_show, expression),
        )
        for number, picture in enumerate(pictures):
            settings = {
                **{key: value for key, value in vars(arguments).items() if key not in ("func", "verb", "output_dir", "lora")},
                "lora": [path.name for path in arguments.lora],
                "model": Path(arguments.model).name,
                "expression": expression,
                "width": width,
                "height": height,
                "picture": number,
                "prompts": {"neutral": prompt.neutral, "expressions": prompt.expressions, "weights": prompt.weights},
            }
            print(save_picture(Image.fromarray(picture.numpy()), arguments.output_dir, f"{expression}_{arguments.seed}", settings))


def load_loras(pipe: StableDiffusionXLPipeline, files: list[Path], strength: float) -> None:
    """Apply LoRA files (kohya or diffusers keys) to the pipeline. Raises FaceExprError for a file that does not fit."""
    for number, file in enumerate(files):
        try:
            pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name=f"lora{number}", local_files_only=True)
        except (ValueError, RuntimeError, KeyError, OSError) as error:
            raise FaceExprError(f"the LoRA {file} does not fit this model: {error}") from error
    if files:
        pipe.set_adapters([f"lora{number}" for number in range(len(files))], [strength] * len(files))


def save_picture(picture: Image.Image, folder: Path, stem: str, settings: Mapping[str, Any]) -> Path:
    """Save as the first free `<stem>_00001.png` in `folder`, with the settings as text in the file.

    Raises FaceExprError if it cannot be written; nothing is left then.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(METADATA_KEY, json.dumps(settings))
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", stem)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path, file = _open_new(folder, name)
        try:
            with file:
                picture.save(file, format="PNG", pnginfo=info)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FaceExprError(
            f"the picture could not be saved in {folder}: {error}. Free some space or choose another --output_dir."
        ) from error
    return path


def _open_new(folder: Path, name: str) -> tuple[Path, BinaryIO]:
    for number in count(1):
        path = folder / f"{name}_{number:05d}.png"
        try:
            return path, path.open("xb")
        except FileExistsError:
            continue
    raise AssertionError


def _show(expression: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{expression}: {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
