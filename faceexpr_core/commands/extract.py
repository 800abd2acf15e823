"""`faceexpr extract`: the features of an expression, from words or from a photograph of anybody, on diffusers."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError
from ..expressions import NONE, names
from ..fusion.run import STEPS
from ..fusion.settings import CONTEXT_SITE, MODES, SITES, FusionSettings, default_levels, default_site, require_photo_site
from .flags import TellsDefaults, check_seeds, refuse_idle_negative, refuse_unused, run_of
from .generate import (
    PROMPT,
    add_expression_arguments,
    add_run_arguments,
    fusion_settings,
    held_by,
    moved_by,
    open_pipeline,
    spelled,
    terms_of,
)
from .given_picture import read_given
from .saved_picture import require_folder, save_picture
from .telling import Evaluations, say

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

    from ..fusion.donor_faces import Picture
    from ..fusion.donors import Donors
    from ..text import Term


def add_extract_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `extract` to the `faceexpr` command."""
    parser = subparsers.add_parser(
        "extract",
        help="keep an expression's features for later pictures",
        description="Record what the base model makes of an expression, from words or from a photo of anybody, for `faceexpr generate "
        "--features` and for Load Features in ComfyUI. Writes the features (.safetensors) and a picture of them: the neutral "
        "and the expressive twin, and where they differ. Features of words at the default site serve any steps, others the noise "
        "levels they were made for.",
        formatter_class=TellsDefaults,
    )
    parser.add_argument("--model", required=True, help="'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors)")
    parser.add_argument("--expression", required=True, metavar="E", help=f"one of: {', '.join((NONE, *names()))}")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the features; nothing in it is overwritten")
    parser.add_argument(
        "--prompt", default=PROMPT, help="what the twins show; the expression goes where {expression} stands, or to the end"
    )
    add_expression_arguments(parser)
    parser.add_argument("--photo", type=Path, help="take the expression from this photo; --expression then says in words what it shows")
    parser.add_argument("--neutral_photo", type=Path, help="the same person with a neutral face, seen from the same side")
    parser.add_argument(
        "--neutral", choices=("drawn", "none"), default="drawn", help="without --neutral_photo: let the model draw one, or do without"
    )
    parser.add_argument("--negative", default="", help="what to avoid")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")
    add_run_arguments(parser)
    parser.add_argument("--sigmas", type=float, nargs="+", help="the sampler's noise levels, falling, in place of --steps")
    parser.add_argument(
        "--site", choices=SITES, help=f"where in the U-Net to record (default: {default_site(False)}; for a photo {default_site(True)})"
    )
    parser.add_argument("--mode", choices=MODES, default="twin", help="paper: the published places and window")
    parser.add_argument("--layers", help="all, decoder or encoder; for the site skip: 1, 2, 3, 2+3 or all")
    parser.add_argument("--window", type=float, nargs=2, metavar=("LOW", "HIGH"), help="noise levels, as shares of the schedule (0 to 1)")
    parser.add_argument(
        "--tokens", choices=("face", "all"), default="face", help="what to keep of each map: where the expression acts, or all"
    )
    parser.add_argument(
        "--levels",
        type=int,
        help=f"how many noise levels to keep at most: fewer need less memory (default: all; of a photo {default_levels(True)})",
    )
    parser.set_defaults(func=run)


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is recorded: an expression in words, and the regions of the face that it moves; photos as uint8 [H, W, 3]."""

    expression: str
    terms: tuple[Term, ...]
    moved: tuple[str, ...]
    settings: FusionSettings
    photo: Picture | None
    neutral_photo: Picture | None


def run(arguments: argparse.Namespace) -> None:
    """Record and save what the arguments ask for; prints the paths of both files. Raises FaceExprError for what cannot be done."""
    from ..fusion.donors import describe

    wanted = checked(arguments)
    made = record(open_pipeline(arguments), arguments, wanted)
    for path in save(made, arguments, wanted.expression):
        print(path)
    say(describe(made))


def checked(arguments: argparse.Namespace) -> Wanted:
    """What the arguments ask for, before the model is loaded. Raises FaceExprError for what cannot be done or would change nothing."""
    from ..faces.detector import FaceDetector
    from ..faces.images import read_rgb
    from ..fusion.donor_faces import crop_photos

    run_of(arguments, sigmas=_schedule(arguments.sigmas))
    check_seeds([arguments.seed])
    if arguments.levels is not None and arguments.levels < 1:
        raise FaceExprError(f"--levels {arguments.levels}: at least 1 is needed.")
    if arguments.neutral_photo is not None and arguments.photo is None:
        raise FaceExprError("--neutral_photo was given without --photo. Give the photo with the expression too.")
    _refuse_unused(arguments)
    expression = spelled(arguments.expression)
    terms, moved = terms_of(arguments, expression), held_by(arguments, expression)
    if arguments.photo is None and not (moved_by(arguments, expression) and arguments.intensity):
        raise FaceExprError(
            f"--expression {arguments.expression} --intensity {arguments.intensity:g} moves nothing in the face: there are no features to "
            "record. Give another expression, --action_units, or a --photo."
        )
    site = arguments.site or (None if arguments.mode == "paper" else default_site(arguments.photo is not None))
    settings = fusion_settings(site, arguments.mode, layers=arguments.layers, window=arguments.window)
    if settings.site == CONTEXT_SITE:
        idle = {"tokens": "face", "levels": None, "window": None}
        refuse_unused(
            arguments, idle, f"the site {CONTEXT_SITE} records the words alone, at no noise level. Give another --site, or leave it out."
        )
    photo, neutral_photo = (None if path is None else read_given(path, read_rgb) for path in (arguments.photo, arguments.neutral_photo))
    if photo is not None:
        require_photo_site(settings.site)
        with FaceDetector() as detector:  # for want of a face no model need be loaded, which alone says the crops' size
            crop_photos(photo, neutral_photo, 8, detector)
    require_folder(arguments.output_dir)
    return Wanted(expression, terms, moved, settings, photo, neutral_photo)


def _refuse_unused(arguments: argparse.Namespace) -> None:
    """Raise FaceExprError for options that have no effect beside the others."""
    refuse_idle_negative(arguments)
    if arguments.sigmas:
        refuse_unused(arguments, {"steps": STEPS}, "--sigmas says which steps are taken. Leave one of them out.")
    if arguments.photo is None or arguments.neutral_photo is not None:
        refuse_unused(arguments, {"neutral": "drawn"}, "it is for a --photo without a --neutral_photo. Leave it out.")
    if arguments.mode == "adain":
        raise FaceExprError(
            "--mode adain would change nothing: features are recorded alike for it. Give it to generate, as --fusion_mode adain."
        )


def record(pipe: StableDiffusionXLPipeline, arguments: argparse.Namespace, wanted: Wanted) -> Donors:
    """The features and the twins that they were recorded from. Raises FaceExprError where a photo shows no face."""
    from .. import text
    from ..diffusers_host import encoding
    from ..diffusers_host.donors import draw_donors
    from ..diffusers_host.pipeline import native_side
    from ..faces.detector import FaceDetector
    from ..faces.images import shown_name
    from ..fusion.donor_faces import crop_photos

    run, crops = run_of(arguments, native_side(pipe), arguments.seed, _schedule(arguments.sigmas)), None
    if wanted.photo is not None:
        with FaceDetector() as detector:
            crops = crop_photos(wanted.photo, wanted.neutral_photo, min(run.width, run.height), detector)
    with closing(Evaluations()) as calls:
        return draw_donors(
            pipe,
            text.build_prompts(arguments.prompt, wanted.terms, partial(encoding.count_tokens, pipe)),
            wanted.settings,
            run,
            crops,
            neutral=arguments.neutral,
            moved=wanted.moved,
            model=shown_name(Path(arguments.model)),
            expression=wanted.expression,
            keep=arguments.tokens,
            levels=default_levels(crops is not None) if arguments.levels is None else arguments.levels,
            on_call=calls.step,
        )


def save(made: Donors, arguments: argparse.Namespace, expression: str) -> tuple[Path, Path]:
    """Where the features lie and where their picture, under one new name in the folder. Raises FaceExprError where the disk does not take
    both; none of them is left then."""
    from PIL import Image

    from ..fusion.donor_faces import twins_picture
    from ..fusion.recorder import save_bank

    sheet = Image.fromarray(twins_picture(made.twins, made.bank.mask))
    told = None if arguments.no_metadata else {**made.bank.notes, "site": made.bank.site}
    picture = save_picture(sheet, arguments.output_dir, f"{expression}_{arguments.seed}", told)
    try:
        return save_bank(made.bank, picture.with_suffix(".safetensors")), picture
    except FaceExprError:
        picture.unlink()
        raise


def _schedule(sigmas: list[float] | None) -> tuple[float, ...]:
    """Noise levels as given, with the 0 at which a sampler ends."""
    if not sigmas:
        return ()
    return tuple(sigmas) if sigmas[-1] == 0 else (*sigmas, 0.0)
