"""`faceexpr generate`: pictures with chosen expressions, on diffusers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FaceExprError
from ..expressions import NONE, SECOND_WEIGHT, canonical_name, names
from ..fusion.run import GUIDANCE, STEPS
from ..fusion.settings import (
    EXPRESSION_TEXT,
    MODES,
    NEUTRAL_TEXT,
    SITES,
    FusionSettings,
    by_fusion_alone,
    default_site,
    paper_settings,
    site_settings,
)
from ..training.settings import PREDICTIONS
from .flags import TellsDefaults, check_number, check_seeds, refuse_idle_intensity, refuse_idle_negative, refuse_unused, run_of
from .loras import check_loras, load_loras
from .saved_picture import require_folder, save_picture
from .telling import Progress, say

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

    from ..diffusers_host.fusion import Fusion
    from ..fusion.bank import FeatureBank
    from ..fusion.run import Run
    from ..text import ExpressionPrompt, Term

PROMPT = "a photo of a person"
OF_FUSION = {
    "fusion_text": NEUTRAL_TEXT,
    "fusion_site": None,
    "fusion_mode": None,
    "fusion_layers": None,
    "fusion_window": None,
    "donor_prompt": None,
}
"""Options that only a fusion uses, with their defaults."""

UNSAVED = ("func", "verb", "output_dir", "no_metadata", "lora", "features")
"""Arguments that are no setting of a picture, or are saved as the names of files."""


def add_generate_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `generate` to the `faceexpr` command."""
    parser = subparsers.add_parser(
        "generate",
        help="draw pictures with chosen expressions",
        description="Draw pictures with chosen expressions. The same settings give the same picture as the nodes in ComfyUI "
        "(Euler, normal schedule).",
        formatter_class=TellsDefaults,
    )
    parser.add_argument("--model", required=True, help="'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors)")
    parser.add_argument("--prompt", default=PROMPT, help="what to draw; the expression goes where {expression} stands, or to the end")
    parser.add_argument(
        "--expression",
        nargs="+",
        default=["neutral"],
        metavar="E",
        help=f"one or more of: {', '.join((NONE, *names()))}; each gives its own pictures (default: neutral)",
    )
    add_expression_arguments(parser)
    parser.add_argument("--expression_scale", type=float, help="epsilon mode: scale the expression at each step (1 changes nothing)")
    parser.add_argument("--negative", default="", help="what to avoid")
    parser.add_argument("--lora", type=Path, action="append", default=[], help="a LoRA file, or a PEFT adapter's folder; one or more times")
    parser.add_argument("--lora_strength", type=float, default=1.0, help="strength of every LoRA")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the pictures; nothing in it is overwritten")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise, the same for every expression")
    parser.add_argument("--count", type=int, default=1, help="pictures for each expression")
    add_run_arguments(parser)
    fused = parser.add_argument_group(
        "fusion",
        "Bring out the expression by features of the base model (Attention-Focused Fusion). Off unless one of the first two is given. "
        "With --fusion_strength alone a picture costs hardly more; at the sites cross_attention and skip, whose twins are drawn whole, "
        "about three times as much.",
    )
    fused.add_argument("--features", type=Path, help="expression features that `faceexpr extract` wrote")
    fused.add_argument(
        "--fusion_strength",
        type=float,
        help="how strongly, 0 off, 1 usual, up to 4; without --features the base model itself says what the expression is",
    )
    fused.add_argument(
        "--fusion_text",
        choices=(NEUTRAL_TEXT, EXPRESSION_TEXT),
        default=NEUTRAL_TEXT,
        help="the text of a fused picture. neutral: the expression comes by fusion alone, which keeps the rest of the picture; expression: "
        "both say it, and it comes out stronger. With an --expression_scale other than 1 always the expression's",
    )
    fused.add_argument("--fusion_site", choices=SITES, help=f"where in the U-Net (default: {default_site(False)}, or the features')")
    fused.add_argument("--fusion_mode", choices=MODES, help="twin: only the change travels; adain: no neutral twin; paper: as published")
    fused.add_argument("--fusion_layers", help="all, decoder or encoder; for the site skip: 1, 2, 3, 2+3 or all")
    fused.add_argument(
        "--fusion_window", type=float, nargs=2, metavar=("LOW", "HIGH"), help="noise levels, as shares of the schedule (0 to 1)"
    )
    fused.add_argument("--donor_prompt", help="the base model's own prompt, without the person's trigger word (default: --prompt)")
    parser.set_defaults(func=run)


def add_expression_arguments(parser: argparse.ArgumentParser) -> None:
    """Options beside `--expression` that `expression_terms` takes."""
    parser.add_argument("--intensity", type=float, default=1.0, help="0 neutral, 1 what the words give, up to 1.5 exaggerated")
    parser.add_argument("--second_expression", default=NONE, help="an expression to blend in")
    parser.add_argument("--second_weight", type=float, default=SECOND_WEIGHT, help="how strongly, 0 to 1.5")
    parser.add_argument("--action_units", default="", help="FACS action units, such as AU1+AU2, R12 or AU6:0.5; they share the intensity")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a run of the sampler, and of the machine."""
    parser.add_argument("--steps", type=int, default=STEPS, help="denoising steps")
    parser.add_argument("--cfg", type=float, default=GUIDANCE, help="guidance: how closely to follow the prompt")
    parser.add_argument("--width", type=int, help="pixels, a multiple of 8 (default: what the model was made for)")
    parser.add_argument("--height", type=int, help="pixels, a multiple of 8 (default: what the model was made for)")
    add_machine_arguments(parser)


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of how the model is read and where it runs."""
    parser.add_argument(
        "--prediction_type", choices=PREDICTIONS, default="", help="what the model predicts (default: as the checkpoint says)"
    )
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="precision (default: float32 on cpu, else float16)")
    parser.add_argument(
        "--no_metadata", action="store_true", help="pictures do not say how they were made, nor that a model drew them; otherwise they do"
    )


def terms_of(arguments: argparse.Namespace, expression: str) -> tuple[Term, ...]:
    """What an expression is in these arguments. Raises FaceExprError."""
    from ..text import expression_terms

    if arguments.second_expression == NONE:
        refuse_unused(
            arguments, {"second_weight": SECOND_WEIGHT}, "there is no second expression. Give --second_expression, or leave it out."
        )
    return expression_terms(expression, arguments.intensity, arguments.second_expression, arguments.second_weight, arguments.action_units)


def spelled(expression: str) -> str:
    """An expression as the vocabulary spells it, for files' names and what they say; `none` as it is. Raises FaceExprError for others."""
    return expression if expression == NONE else canonical_name(expression)


def moved_by(arguments: argparse.Namespace, expression: str) -> tuple[str, ...]:
    """The regions of the face that it moves."""
    from ..fusion.donor_faces import moved_regions

    return moved_regions(*_asked(arguments, expression))


def held_by(arguments: argparse.Namespace, expression: str) -> tuple[str, ...]:
    """The regions to which fusion holds it, () for all of the face."""
    from ..fusion.donor_faces import held_regions

    return held_regions(*_asked(arguments, expression))


def _asked(arguments: argparse.Namespace, expression: str) -> tuple[str, str, str]:
    return expression, arguments.second_expression if arguments.second_weight > 0 else NONE, arguments.action_units


def open_pipeline(arguments: argparse.Namespace) -> StableDiffusionXLPipeline:
    """The model of the arguments, in their precision and on their device."""
    import torch

    from ..diffusers_host import devices, pipeline
    from ..diffusers_host.placement import manage

    device = devices.chosen_device(arguments.device or "")
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else devices.drawing_dtype(device)
    pipe = pipeline.load_pipeline(arguments.model, dtype, prediction=arguments.prediction_type)
    manage(pipe, device)
    return pipe


def fusion_settings(
    site: str | None,
    mode: str | None = None,
    strength: float | None = None,
    layers: str | None = None,
    window: Sequence[float] | None = None,
) -> FusionSettings:
    """A site's or the published settings, changed by what is given. Raises FaceExprError for values out of range."""
    base = paper_settings() if mode == "paper" and site in (None, "skip") else site_settings(site or default_site(photo=False))
    given: dict[str, Any] = {"mode": mode, "strength": strength, "layers": layers, "window": None if window is None else tuple(window)}
    return replace(base, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is drawn: an expression's words by the name that its pictures get, and what is fused into them. `neutral_text`: a fused picture
    is asked for at rest."""

    terms: Mapping[str, tuple[Term, ...]]
    settings: FusionSettings
    bank: FeatureBank | None
    neutral_text: bool


def run(arguments: argparse.Namespace) -> None:
    """Draw and save what the arguments ask for; prints the path of each picture. Raises FaceExprError for what cannot be done."""
    from PIL import Image

    from .. import text
    from ..diffusers_host import encoding, sampling
    from ..diffusers_host.pipeline import native_side

    wanted = checked(arguments)
    pipe = open_pipeline(arguments)
    load_loras(pipe, arguments.lora, arguments.lora_strength)
    how = run_of(arguments, native_side(pipe), arguments.seed)
    notes: list[str] = []
    for expression, parts in wanted.terms.items():
        prompt = text.build_prompts(arguments.prompt, parts, partial(encoding.count_tokens, pipe))
        fusions, reports = fusions_for(pipe, arguments, wanted, how, expression, prompt)
        notes += reports
        with closing(Progress(lines=0)) as progress:
            pictures = sampling.generate(
                pipe,
                prompt.at_rest() if fusions and wanted.neutral_text else prompt,
                how,
                count=arguments.count,
                expression_scale=arguments.expression_scale,
                fusion=fusions,
                on_step=partial(_show, progress, expression),
                on_note=notes.append,
            )
        told = told_of(arguments, wanted, how, expression, prompt, bool(fusions))
        for number, picture in enumerate(pictures):
            saved = None if arguments.no_metadata else {**told, "picture": number}
            print(save_picture(Image.fromarray(picture.numpy()), arguments.output_dir, f"{expression}_{arguments.seed}", saved))
    for note in dict.fromkeys(notes):
        say(note)


def checked(arguments: argparse.Namespace) -> Wanted:
    """What the arguments ask for, before the model is loaded. Raises FaceExprError for what cannot be done or would change nothing."""
    from ..fusion.bank import fused_places
    from ..fusion.recorder import load_bank

    if arguments.count < 1:
        raise FaceExprError(f"--count {arguments.count}: at least 1 is needed.")
    run_of(arguments)
    check_number(arguments, "expression_scale")
    check_seeds([arguments.seed])
    check_loras(arguments)
    refuse_idle_negative(arguments)
    if arguments.features is not None:
        refuse_unused(arguments, {"donor_prompt": None}, "the file of --features says what the expression is. Leave one of them out.")
    elif arguments.fusion_strength is None:
        refuse_unused(arguments, OF_FUSION, "nothing is fused. Give --features or --fusion_strength, or leave it out.")
    expressions = [*map(spelled, arguments.expression)]
    terms = {expression: terms_of(arguments, expression) for expression in expressions}
    if arguments.features is None:
        refuse_idle_intensity(arguments, expressions)
    bank = None if arguments.features is None else load_bank(arguments.features)
    settings = fusion_settings(
        arguments.fusion_site or (None if bank is None else bank.site),
        arguments.fusion_mode,
        arguments.fusion_strength,
        arguments.fusion_layers or (None if bank is None else "all"),  # of those that were recorded
        arguments.fusion_window,
    )
    if bank is not None:
        fused_places(bank, settings, bank.places())
    neutral_text = settings.strength > 0 and by_fusion_alone(arguments.fusion_text, arguments.expression_scale)
    if bank is not None and neutral_text:
        terms = {_shown_by(bank, arguments, expressions): terms[expressions[0]]}
    require_folder(arguments.output_dir)
    return Wanted(terms, settings, bank, neutral_text)


def fusions_for(
    pipe: StableDiffusionXLPipeline, arguments: argparse.Namespace, wanted: Wanted, how: Run, expression: str, prompt: ExpressionPrompt
) -> tuple[list[Fusion], list[str]]:
    """What is fused into an expression's pictures, of the features that were given or of the base model's own; what is to be told of it."""
    from ..diffusers_host import encoding, sampling
    from ..diffusers_host.donors import own_donors
    from ..text import build_prompts

    if wanted.bank is not None:
        return sampling.fusions_of(wanted.bank, wanted.settings, how, arguments.count, prompt.neutral), []
    if not arguments.fusion_strength or not moved_by(arguments, expression):
        return [], []
    donor = build_prompts(arguments.donor_prompt or arguments.prompt, wanted.terms[expression], partial(encoding.count_tokens, pipe))
    return own_donors(pipe, donor, wanted.settings, how, arguments.count, moved=held_by(arguments, expression))


def told_of(
    arguments: argparse.Namespace, wanted: Wanted, how: Run, expression: str, prompt: ExpressionPrompt, fused: bool
) -> dict[str, Any]:
    """What the files of an expression's pictures say of them: every setting, files and the model by their names alone."""
    return {
        **{key: value for key, value in vars(arguments).items() if key not in UNSAVED},
        "lora": [path.name for path in arguments.lora],
        "features": None if wanted.bank is None else arguments.features.name,
        "fusion": {**asdict(wanted.settings), "strength 1": wanted.settings.units} if fused else None,
        "model": Path(arguments.model).name,
        "expression": expression,
        "second_expression": spelled(arguments.second_expression),
        "width": how.width,
        "height": how.height,
        "prompts": {"neutral": prompt.neutral, "expressions": prompt.expressions, "weights": prompt.weights},
    }


def _show(progress: Progress, expression: str, done: int, total: int) -> None:
    progress.show(f"{expression}: {done}/{total}", done, total)


def _shown_by(bank: FeatureBank, arguments: argparse.Namespace, expressions: Sequence[str]) -> str:
    """The expression of pictures with a neutral text, which features alone decide. Raises FaceExprError where another one was asked for."""
    reason = "the features say what the expression is, and --fusion_strength how strongly. Leave it out, or give --fusion_text expression."
    refuse_unused(arguments, {"intensity": 1.0, "second_expression": NONE, "action_units": ""}, reason)
    shown = bank.notes.get("expression") or "features"
    if [*expressions] not in (["neutral"], [shown]):
        raise FaceExprError(f"--expression {' '.join(expressions)} would change nothing: {reason}")
    return shown
