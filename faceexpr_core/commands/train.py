"""`faceexpr train`: a person's LoRA from a folder of photos, on diffusers; and the paper's command, as `python -m faceexpr_core.train`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import mini
from ..errors import FaceExprError
from ..training.asked import prior_of_pictures, require_in_range
from ..training.options import BY_NAME, KEEPING, OPTIONS, SEEING, TRAINING
from ..training.settings import PREDICTIONS, PRESETS, PRIOR_IMAGES, TrainSettings, preset, preset_settings, require_used
from .flags import add_flag, refuse_unused
from .watch import TRACKERS

if TYPE_CHECKING:
    from ..photos.settings import SubjectSettings
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
        f"for FaceExpr Mini: --resolution {mini.RESOLUTION} --rank 16 --steps 400 --learning_rate 6e-4 --batch_size 4 --accumulation 1 "
        "--text_encoder_learning_rate 3e-4\nin minutes, as Mini's quick start: --prior off --crafting_weight 0 --no-train_text_encoder in "
        "place of the last",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(func=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All flags of `faceexpr train`; those that are settings are None unless given."""
    add = parser.add_argument
    add("--model", required=True, help="'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors)")
    add("--vae", default="", help="a VAE in place of the model's own: its folder, or a .safetensors file")
    add("--photos", type=Path, required=True, metavar="DIR", help="folder of photos; captions in .txt beside them, or in metadata.jsonl")
    add("--output", type=Path, required=True, metavar="FILE", help="the LoRA (.safetensors); a number is added when the name is taken")
    add("--prediction_type", choices=PREDICTIONS, default="", help="what the model predicts (as the checkpoint says)")
    add_flag(parser, BY_NAME["preset"])

    add_flag(add_photo_arguments(parser), BY_NAME["flip"])
    groups = {title: parser.add_argument_group(title) for title in (TRAINING, KEEPING, SEEING)}
    for option in OPTIONS:
        if option.flag and option.name != "preset" and option.group in groups:
            add_flag(groups[option.group], option)
    groups[KEEPING].add_argument(
        "--class_images", type=Path, metavar="DIR", help="your own, or where they are drawn and kept (class_images beside the LoRA)"
    )
    add = groups[SEEING].add_argument
    add("--report_to", choices=TRACKERS, default="none", help="where the losses go (none)")
    add("--device", default="", help="cpu, cuda, mps (the best there is)")


def add_photo_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """What says how photos are read, whatever is then learned from them."""
    from ..photos.settings import EVERYBODY, FRAMINGS, SubjectSettings

    photos = SubjectSettings()
    group = parser.add_argument_group("photos")
    add = group.add_argument
    add("--trigger", default=photos.trigger, help=f"a rare word that will mean this person ({photos.trigger})")
    add("--class_word", default=photos.class_word, help=f"what the person is: man, woman ... ({photos.class_word})")
    add("--resolution", type=int, help="side of the training pictures in pixels (preset)")
    add("--framing", choices=FRAMINGS, default=photos.framing, help="a square around the face, or the largest square (face crop)")
    add("--padding", type=float, default=photos.padding, help=f"room around the face as a share of its size ({photos.padding})")
    add("--face", type=int, default=photos.face_index, help="above 0: by its size, 1 the second largest face of each photo ... (0)")
    add("--keep_small_faces", action="store_true", help="only report faces smaller than an eighth of the resolution")
    add("--keep_duplicates", action="store_true", help="only report near-copies of an earlier photo")
    add(
        "--person",
        type=int,
        default=photos.person,
        help=f"of several people: 0 who is in most photos, 1 the next ..., {EVERYBODY} each photo's largest face (0)",
    )
    return group


def run(arguments: argparse.Namespace) -> int:
    """Train and save as the arguments ask; prints the file's path. Returns 0; raises as `run_job` does."""
    from .train_job import run_job

    return run_job(job_of(arguments))


def job_of(arguments: argparse.Namespace) -> TrainJob:
    """The run that the arguments ask for. Raises FaceExprError for what cannot be."""
    from ..photos.dataset import read_dataset
    from ..photos.room import share_apart
    from ..training.previews import Previews
    from ..training.run import ClassPictures
    from ..training.state import StateFolder, Wording
    from .train_job import TrainJob, world_size

    output = output_file(arguments.output)
    settings, given = settings_of(arguments), given_settings(arguments)
    _check(arguments, settings)
    return TrainJob(
        model=arguments.model,
        vae=arguments.vae,
        prediction=arguments.prediction_type,
        images=read_dataset(arguments.photos, share=share_apart(world_size())),
        subject=photo_settings(arguments),
        settings=settings,
        preset=arguments.preset,
        given=given,
        side_given=arguments.resolution is not None,
        background_weight=arguments.background_weight,
        output=output,
        file_precision=arguments.file_precision,
        class_pictures=ClassPictures(arguments.class_images or output.with_name("class_images"), arguments.prior_images),
        previews=Previews(output.with_name(f"{output.stem}_previews"), arguments.preview_every, paired=True),
        states=StateFolder(
            output.with_name(f"{output.stem}_state"),
            arguments.state_every,
            arguments.state_keep,
            arguments.resume,
            arguments.finished_state == "keep",
            Wording(
                f"the same command{' without --resume off' if arguments.resume == 'off' else ''} goes on from here",
                "give another --output, or give --resume off, which gives it up",
            ),
        ),
        start=arguments.start_from,
        report_to=arguments.report_to,
        log_folder=output.with_name(f"{output.stem}_logs"),
        device=arguments.device,
        anew="" if arguments.resume == "off" else "--resume off trains it again.",
    )


def photo_settings(arguments: argparse.Namespace) -> SubjectSettings:
    """How the arguments have the photos prepared."""
    from ..photos.settings import SubjectSettings

    return SubjectSettings(
        trigger=arguments.trigger,
        class_word=arguments.class_word,
        resolution=preset(arguments.preset).resolution if arguments.resolution is None else arguments.resolution,
        framing=arguments.framing,
        padding=arguments.padding,
        face_index=arguments.face,
        drop_small=not arguments.keep_small_faces,
        drop_duplicates=not arguments.keep_duplicates,
        person=arguments.person,
    )


def _check(arguments: argparse.Namespace, settings: TrainSettings) -> None:
    from ..photos.settings import SubjectSettings

    require_in_range(vars(arguments), ("prior_images", "preview_every", "state_every", "state_keep", "background_weight"))
    if arguments.framing == "whole picture":
        refuse_unused(arguments, {"padding": SubjectSettings().padding}, "the framing is the whole picture. Leave it out.")
    require_drawn(
        settings, {"--class_images": arguments.class_images is not None, "--prior_images": arguments.prior_images != PRIOR_IMAGES}
    )
    if arguments.class_images is not None and arguments.class_images.is_file():
        raise FaceExprError(f"--class_images {arguments.class_images} is a file; give a folder of pictures, or an empty one.")


def require_drawn(settings: TrainSettings, given: Mapping[str, bool]) -> None:
    """Raise FaceExprError for a flag of `given` about pictures of the class where the settings draw none."""
    names = [name for name, was in given.items() if was]
    if names and not settings.draws_class:
        raise FaceExprError(
            f"{' and '.join(names)} would change nothing: prior is {settings.prior}, which draws no pictures of the class. Leave it out."
        )


def output_file(given: Path) -> Path:
    """The LoRA's file: `given`, with `.safetensors` added unless it ends so. Raises FaceExprError for a folder."""
    if given.is_dir():
        raise FaceExprError(f"--output {given} is a folder; give the name of a file in it, such as {given / 'anna.safetensors'}.")
    return given if given.suffix == ".safetensors" else given.with_name(f"{given.name}.safetensors")


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments that are settings and were given."""
    names = TrainSettings.__dataclass_fields__
    given = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    asked = arguments.prior_images != PRIOR_IMAGES or getattr(arguments, "class_images", None) is not None
    return {**prior_of_pictures(arguments.preset, asked), **given}


def settings_of(arguments: argparse.Namespace) -> TrainSettings:
    """The preset's settings (of `auto`, what it is without a card) with the arguments that were given.

    Raises FaceExprError for a value out of range or without effect.
    """
    given = given_settings(arguments)
    settings = preset_settings(arguments.preset, **given)
    require_used(settings, given)
    return settings


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m faceexpr_core.train`, `accelerate launch -m faceexpr_core.train`: the paper's command."""
    from .dreambooth import main as paper

    return paper(sys.argv[1:] if argv is None else argv)
