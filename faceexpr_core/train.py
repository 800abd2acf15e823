"""`faceexpr train`: a person's LoRA from a folder of photos, on diffusers."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import FaceExprError
from .train_settings import BACKGROUND_WEIGHT, FILE_PRECISIONS, PRECISIONS, SCHEDULES, TrainSettings

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel
    from rich.progress import Progress, TaskID

    from .subject import Subject
    from .training import Step, TrainResult
    from .training_set import TrainingSet


def add_train_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train` to the `faceexpr` command."""
    parser = subparsers.add_parser(
        "train",
        help="learn a person's LoRA from a folder of photos",
        description="Learn a person's LoRA from a folder of photos. The same settings give the same losses as the node in ComfyUI.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(func=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from .subject import FRAMINGS, SubjectSettings

    default, photos = TrainSettings(), SubjectSettings()
    add = parser.add_argument
    add("--model", required=True, help="'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors)")
    add("--photos", type=Path, required=True, metavar="DIR", help="folder of photos of the person; a .txt beside a photo is its caption")
    add("--output", type=Path, required=True, metavar="FILE", help="the LoRA (.safetensors); a number is added when the name is taken")
    add("--trigger", default=photos.trigger, help="a rare word that will mean this person")
    add("--class_word", default=photos.class_word, help="what the person is: man, woman, person ...")
    add("--resolution", type=int, default=photos.resolution, help="side of the training pictures in pixels (128 for mini)")
    add("--framing", choices=FRAMINGS, default=photos.framing, help="cut a square around the face, or keep the largest square")
    add("--padding", type=float, default=photos.padding, help="room on each side of the face as a share of its size, for 'face crop'")
    add("--face", type=int, default=photos.face_index, help="of several faces in a photo: 0 is the largest, 1 the second largest ...")
    add("--keep_small_faces", action="store_true", help="only report faces smaller than an eighth of the resolution")
    add("--keep_duplicates", action="store_true", help="only report near-copies of an earlier photo")
    add("--steps", type=int, default=default.steps, help="optimiser steps (350 for mini)")
    add("--learning_rate", type=float, default=default.learning_rate, help="how far each step goes (6e-4 for mini)")
    add("--rank", type=int, default=default.rank, help="size of the LoRA (16 for mini)")
    add("--alpha", type=float, default=default.alpha, help="scale of the LoRA is alpha / rank; 0 means as the rank")
    add("--batch_size", type=int, default=default.batch_size, help="photos at once (4 for mini)")
    add("--accumulation", type=int, default=default.accumulation, help="batches averaged into one step (1 for mini)")
    add("--schedule", choices=SCHEDULES, default=default.schedule, help="learning rate after the warm-up")
    add("--warmup", type=int, default=default.warmup, help="steps over which the learning rate rises from 0")
    add("--min_snr_gamma", type=float, default=default.min_snr_gamma, help="hold back timesteps with little noise; 0 turns it off")
    add("--background_weight", type=float, default=BACKGROUND_WEIGHT, help="how much the picture outside the face counts, 0 to 1")
    add("--ema", type=float, default=default.ema, help="decay of the moving average of the weights that is saved; 0 turns it off")
    add("--precision", choices=PRECISIONS, default=default.precision, help="arithmetic of the U-Net; auto: fp32 on the CPU, bf16 on a GPU")
    add("--gradient_checkpointing", action=argparse.BooleanOptionalAction, help="less memory, more time (default: with a GPU)")
    add("--seed", type=int, default=default.seed, help="first weights, order of photos, timesteps and noise")
    add("--file_precision", choices=FILE_PRECISIONS, default="fp16", help="numbers in the file")
    add("--device", help="cpu, cuda, mps (default: the best there is)")


def run(arguments: argparse.Namespace) -> int:
    """Train and save as the arguments ask; prints the file's path. Returns 0.

    Ctrl-C or a loss that is not finite ends the run early: what was learned is saved under a name that says so, then raised.
    Raises FaceExprError for what cannot be done.
    """
    import torch

    from .diffusers_host import best_device
    from .lora import SAVE_DTYPES, require_space, save_result
    from .training import compute_dtype, lora_parameters

    settings = settings_of(arguments)
    path = output_file(arguments.output)
    device = torch.device(arguments.device or best_device())
    subject, data, unet = encode(arguments, device, compute_dtype(settings.precision, device))
    require_space(path.parent, lora_parameters(unet, settings.rank) * SAVE_DTYPES[arguments.file_precision].itemsize)
    result = _train_with_bar(unet, data, settings, device)
    saved = save_result(
        path,
        result,
        settings,
        subject,
        background_weight=arguments.background_weight,
        precision=arguments.file_precision,
        fallbacks=(Path(tempfile.gettempdir()),),
    )
    print(saved)
    if result.stopped_by is not None:
        print(f"faceexpr: stopped after {result.steps} of {settings.steps} steps; the LoRA so far is saved", file=sys.stderr)
        raise result.stopped_by
    return 0


def output_file(given: Path) -> Path:
    """The LoRA's file: `given`, with `.safetensors` added unless it ends so. Raises FaceExprError for a folder."""
    if given.is_dir():
        raise FaceExprError(f"--output {given} is a folder; give the name of a file in it, such as {given / 'anna.safetensors'}.")
    return given if given.suffix == ".safetensors" else given.with_name(f"{given.name}.safetensors")


def settings_of(arguments: argparse.Namespace) -> TrainSettings:
    """The trainer's settings in the arguments. Raises FaceExprError for a value out of range."""
    names = TrainSettings.__dataclass_fields__
    return TrainSettings(**{name: value for name, value in vars(arguments).items() if name in names})


def encode(arguments: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> tuple[Subject, TrainingSet, UNet2DConditionModel]:
    """Photos -> subject and training set; also the U-Net, on the CPU, all else of the pipeline let go."""
    import torch

    from . import diffusers_host
    from .images import read_images
    from .subject import SubjectSettings, prepare_subject
    from .training_set import build_training_set

    chosen = SubjectSettings(
        trigger=arguments.trigger,
        class_word=arguments.class_word,
        resolution=arguments.resolution,
        framing=arguments.framing,
        padding=arguments.padding,
        face_index=arguments.face,
        drop_small=not arguments.keep_small_faces,
        drop_duplicates=not arguments.keep_duplicates,
    )
    subject = prepare_subject(read_images(arguments.photos), chosen)
    print(subject.report, file=sys.stderr)
    # bfloat16 is too coarse for embeddings and latents that are computed once and used for the whole run
    pipe = diffusers_host.load_pipeline(arguments.model, torch.float32 if dtype == torch.float32 else torch.float16)
    for part in (pipe.text_encoder, pipe.text_encoder_2, pipe.vae):
        part.to(device)
    data = build_training_set(
        subject,
        partial(diffusers_host.encode_prompts, pipe),
        partial(diffusers_host.encode_images, pipe),
        arguments.background_weight,
    )
    return subject, data, pipe.unet


def _train_with_bar(unet: UNet2DConditionModel, data: TrainingSet, settings: TrainSettings, device: torch.device) -> TrainResult:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from .training import train_lora

    console = Console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=settings.steps, loss=float("nan"))
        return train_lora(unet, data, settings, partial(_advance, bar, task), device)


def _advance(bar: Progress, task: TaskID, step: Step) -> None:
    bar.update(task, completed=step.number, loss=step.loss)


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m faceexpr_core.train`: the same as `faceexpr train`."""
    from .cli import main as faceexpr

    return faceexpr(["train", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
