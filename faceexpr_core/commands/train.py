"""`faceexpr train`: a person's LoRA from a folder of photos, on diffusers; and the paper's command, as `python -m faceexpr_core.train`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError
from ..training.settings import (
    FILE_PRECISIONS,
    OPTIMIZERS,
    PRECISIONS,
    PREDICTIONS,
    PRESETS,
    PRIOR_IMAGES,
    PRIORS,
    SCHEDULES,
    TrainSettings,
    preset,
    preset_settings,
    require_used,
)

if TYPE_CHECKING:
    from .train_job import TrainJob


def add_train_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train` to the `faceexpr` command."""
    presets = "\n".join(f"  {name:<10}{one.summary}" for name, one in PRESETS.items())
    parser = subparsers.add_parser(
        "train",
        help="learn a person's LoRA from a folder of photos",
        description="Learn a person's LoRA from a folder of photos. The same settings give the same losses as the node in ComfyUI.\n"
        "A run that was stopped goes on when the same command is given again.",
        epilog=f"presets, of which every value can be given otherwise:\n{presets}\n\n"
        "for FaceExpr Mini: --resolution 128 --rank 16 --steps 700 --learning_rate 6e-4 --batch_size 4 --accumulation 1 --convolutions",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(func=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..photos.subject import FRAMINGS, SubjectSettings
    from .train_job import TRACKERS

    default, photos = TrainSettings(), SubjectSettings()
    add = parser.add_argument
    add("--model", required=True, help="'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors)")
    add("--vae", default="", help="a VAE in place of the model's own: its folder, or a .safetensors file")
    add("--photos", type=Path, required=True, metavar="DIR", help="folder of photos; captions in .txt beside them, or in metadata.jsonl")
    add("--output", type=Path, required=True, metavar="FILE", help="the LoRA (.safetensors); a number is added when the name is taken")
    add("--prediction_type", choices=PREDICTIONS, default="", help="what the model predicts (as the checkpoint says)")
    add("--preset", choices=tuple(PRESETS), default="default", help="where the values come from that are not given")

    add = parser.add_argument_group("photos").add_argument
    add("--trigger", default=photos.trigger, help=f"a rare word that will mean this person ({photos.trigger})")
    add("--class_word", default=photos.class_word, help=f"what the person is: man, woman ... ({photos.class_word})")
    add("--resolution", type=int, help="side of the training pictures in pixels (preset)")
    add("--framing", choices=FRAMINGS, default=photos.framing, help="a square around the face, or the largest square (face crop)")
    add("--padding", type=float, default=photos.padding, help=f"room around the face as a share of its size ({photos.padding})")
    add("--face", type=int, default=photos.face_index, help="of several faces in a photo: 0 the largest, 1 the second largest ... (0)")
    add("--keep_small_faces", action="store_true", help="only report faces smaller than an eighth of the resolution")
    add("--keep_duplicates", action="store_true", help="only report near-copies of an earlier photo")
    add("--flip", action=argparse.BooleanOptionalAction, help="also learn the photos mirrored; faces are not symmetric")

    add = parser.add_argument_group("training").add_argument
    add("--steps", type=int, help="optimiser steps (preset)")
    add("--learning_rate", type=float, help=f"how far each step goes ({default.learning_rate:g})")
    add("--rank", type=int, help="size of the LoRA (preset)")
    add("--alpha", type=float, help="scale of the LoRA is alpha / rank; 0 means as the rank (0)")
    add("--blocks", help="parts of the U-Net that learn: all, or some of down, middle, up, down.1 ... with commas (all)")
    add("--convolutions", action=argparse.BooleanOptionalAction, help="also learn on the ResNet blocks' convolutions; a larger file")
    add("--train_text_encoder", dest="text_encoder", action=argparse.BooleanOptionalAction, help="the text encoders learn too")
    add("--text_encoder_learning_rate", type=float, help=f"their rate; 0 is as --learning_rate ({default.text_encoder_learning_rate:g})")
    add("--text_encoder_weight_decay", type=float, help=f"their weight decay ({default.text_encoder_weight_decay:g})")
    add("--batch_size", type=int, help=f"photos at once ({default.batch_size})")
    add("--accumulation", type=int, help=f"batches averaged into one step ({default.accumulation})")
    add("--schedule", choices=SCHEDULES, help=f"learning rate after the warm-up ({default.schedule})")
    add("--warmup", type=int, help=f"steps over which the learning rate rises from 0 ({default.warmup})")
    add("--optimizer", choices=OPTIMIZERS, help=f"adamw8bit needs bitsandbytes and an NVIDIA GPU, else it is adamw ({default.optimizer})")
    add("--weight_decay", type=float, help=f"weight decay ({default.weight_decay:g})")
    add("--max_grad_norm", type=float, help=f"longest gradient; 0 is any ({default.max_grad_norm:g})")
    add("--min_snr_gamma", type=float, help=f"hold back timesteps with little noise; 0 turns it off ({default.min_snr_gamma:g})")
    add("--noise_offset", type=float, help="noise that is the same all over the picture; for very dark and bright photos (0)")
    add("--background_weight", type=float, help="how much the picture outside the face counts, 0 to 1 (preset)")
    add("--captions", action=argparse.BooleanOptionalAction, help="learn each photo with its own caption (preset)")
    add("--caption_dropout", type=float, help="share of photos learned without a caption (0)")
    add("--ema", type=float, help="decay of the moving average of the weights that is saved; 0 turns it off (preset)")
    add("--precision", choices=PRECISIONS, help="arithmetic of the U-Net; auto: fp32 on the CPU, bf16 on a GPU (preset)")
    add("--gradient_checkpointing", action=argparse.BooleanOptionalAction, help="less memory, more time (preset; else with a GPU)")
    add("--seed", type=int, help="first weights, order of photos, timesteps and noise (0)")

    add = parser.add_argument_group("keeping the class and its expressions").add_argument
    add("--prior", choices=PRIORS, help="prior preservation: on pictures of the class, or distill, without pictures (preset)")
    add("--prior_weight", type=float, help=f"its weight ({default.prior_weight:g})")
    add("--prior_images", type=int, default=PRIOR_IMAGES, help=f"pictures of the class ({PRIOR_IMAGES})")
    add("--class_images", type=Path, metavar="DIR", help="your own, or where they are drawn and kept (class_images beside the LoRA)")
    add("--crafting_weight", type=float, help="expression crafting: its weight; 0 turns it off (preset)")
    add("--crafting_every", type=int, help=f"on each so many-th step ({default.crafting_every})")
    add("--crafting_ramp", type=float, help=f"share of the run over which its weight rises ({default.crafting_ramp:g})")
    add("--crafting_mask", action=argparse.BooleanOptionalAction, help="only where the expression moves the face")

    add = parser.add_argument_group("seeing and keeping it").add_argument
    add(
        "--preview_every", type=int, default=0, help="draw the person with four expressions every so many steps, beside the LoRA (0: never)"
    )
    add("--report_to", choices=TRACKERS, default="none", help="where the losses go (none)")
    add("--state_every", type=int, help="steps from one saved state to the next (50)")
    add("--state_keep", type=int, help="states that are kept; a finished run deletes them (2)")
    add(
        "--resume",
        choices=("strict", "auto", "off"),
        help="strict: go on with a stopped run of the same settings, else refuse; auto: else start anew; off: start anew (strict)",
    )
    add("--file_precision", choices=FILE_PRECISIONS, default="fp16", help="numbers in the file (fp16)")
    add("--device", default="", help="cpu, cuda, mps (the best there is)")


def run(arguments: argparse.Namespace) -> int:
    """Train and save as the arguments ask; prints the file's path. Returns 0; raises as `run_job` does."""
    from .train_job import run_job

    return run_job(job_of(arguments))


def job_of(arguments: argparse.Namespace) -> TrainJob:
    """The run that the arguments ask for. Raises FaceExprError for what cannot be."""
    from ..photos.dataset import read_dataset
    from ..photos.subject import SubjectSettings
    from ..training.state import StateFolder
    from .train_job import ClassPictures, Previews, TrainJob

    chosen = preset(arguments.preset)
    kept = {"every": arguments.state_every, "keep": arguments.state_keep, "resume": arguments.resume}
    output = output_file(arguments.output)
    settings = settings_of(arguments)
    _check(arguments, settings)
    return TrainJob(
        model=arguments.model,
        vae=arguments.vae,
        prediction=arguments.prediction_type,
        images=read_dataset(arguments.photos),
        subject=SubjectSettings(
            trigger=arguments.trigger,
            class_word=arguments.class_word,
            resolution=chosen.resolution if arguments.resolution is None else arguments.resolution,
            framing=arguments.framing,
            padding=arguments.padding,
            face_index=arguments.face,
            drop_small=not arguments.keep_small_faces,
            drop_duplicates=not arguments.keep_duplicates,
        ),
        settings=settings,
        preset=arguments.preset,
        background_weight=chosen.background_weight if arguments.background_weight is None else arguments.background_weight,
        output=output,
        file_precision=arguments.file_precision,
        class_pictures=ClassPictures(arguments.class_images or output.with_name("class_images"), arguments.prior_images),
        previews=Previews(output.with_name(f"{output.stem}_previews"), arguments.preview_every),
        states=StateFolder(output.with_name(f"{output.stem}_state"), **{name: value for name, value in kept.items() if value is not None}),
        report_to=arguments.report_to,
        log_folder=output.with_name(f"{output.stem}_logs"),
        device=arguments.device,
    )


def _check(arguments: argparse.Namespace, settings: TrainSettings) -> None:
    least = {"prior_images": 1, "preview_every": 0, "state_every": 1, "state_keep": 1}
    for name, low in least.items():
        if (value := getattr(arguments, name)) is not None and value < low:
            raise FaceExprError(f"--{name} is {value}; give {low} or more.")
    if arguments.prior_images > 100_000:
        raise FaceExprError(f"--prior_images is {arguments.prior_images}; give 100000 or less.")
    if arguments.background_weight is not None and not 0 <= arguments.background_weight <= 1:
        raise FaceExprError(f"--background_weight is {arguments.background_weight}; give a value from 0 (only the face counts) to 1.")
    if settings.prior != "images" and (arguments.class_images is not None or arguments.prior_images != PRIOR_IMAGES):
        raise FaceExprError(f"--class_images and --prior_images belong to --prior images, but prior is {settings.prior}; leave them out.")
    if arguments.class_images is not None and arguments.class_images.is_file():
        raise FaceExprError(f"--class_images {arguments.class_images} is a file; give a folder of pictures, or an empty one.")


def output_file(given: Path) -> Path:
    """The LoRA's file: `given`, with `.safetensors` added unless it ends so. Raises FaceExprError for a folder."""
    if given.is_dir():
        raise FaceExprError(f"--output {given} is a folder; give the name of a file in it, such as {given / 'anna.safetensors'}.")
    return given if given.suffix == ".safetensors" else given.with_name(f"{given.name}.safetensors")


def settings_of(arguments: argparse.Namespace) -> TrainSettings:
    """The preset's settings with the arguments that were given. Raises FaceExprError for a value out of range or without effect."""
    names = TrainSettings.__dataclass_fields__
    given = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    settings = preset_settings(arguments.preset, **given)
    require_used(settings, given)
    return settings


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m faceexpr_core.train`, `accelerate launch -m faceexpr_core.train`: the paper's command."""
    from .dreambooth_flags import main as paper

    return paper(sys.argv[1:] if argv is None else argv)
