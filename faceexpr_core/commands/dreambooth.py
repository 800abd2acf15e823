"""The command line of the paper: the flags of diffusers' script, in their meaning there, on our trainer."""

from __future__ import annotations

import argparse
import math
import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FaceExprError
from ..training.settings import BadSetting, TrainSettings
from .dreambooth_checks import check, tell_idle
from .dreambooth_flags import FILE, KOHYA_FILE, PRECISIONS, build_parser
from .flags import print_to_any_terminal
from .hub_cache import local_model
from .stopping import ended
from .telling import say
from .train_job import TrainJob, world_size

if TYPE_CHECKING:
    from ..faces.images import SourceImage
    from ..training.state import StateFolder

EVERY = 500
"""Steps from one state to the next, as in diffusers' script."""
# what the trainer calls a setting -> what the command line does
FLAGS: Mapping[str, str] = {
    "steps": "max_train_steps",
    "batch_size": "train_batch_size",
    "accumulation": "gradient_accumulation_steps",
    "schedule": "lr_scheduler",
    "warmup": "lr_warmup_steps",
    "optimizer": "use_8bit_adam",
    "min_snr_gamma": "snr_gamma",
    "weight_decay": "adam_weight_decay",
    "flip": "random_flip",
    "precision": "mixed_precision",
    "prior": "with_prior_preservation",
    "prior_weight": "prior_loss_weight",
    "text_encoder": "train_text_encoder",
    "text_encoder_learning_rate": "text_encoder_lr",
    "text_encoder_weight_decay": "adam_weight_decay_text_encoder",
    "prediction": "prediction_type",
    "side": "resolution",
    **{name: name for name in ("rank", "learning_rate", "max_grad_norm", "gradient_checkpointing", "seed")},
}


def job_of(arguments: argparse.Namespace) -> TrainJob:
    """What the flags ask for; says on stderr which have no effect. Raises FaceExprError for flags that cannot be, naming the fix."""
    from ..training.previews import Previews
    from ..training.run import ClassPictures

    check(arguments)
    report_to = _tracker(arguments.report_to)
    tell_idle(arguments, report_to)
    images = _images(arguments)
    folder: Path = arguments.output_dir
    readable = sum(source.rgb is not None for source in images)
    count = readable * arguments.repeats
    if arguments.with_prior_preservation:  # as in diffusers' script, whose loader pairs each photo with a picture of the class
        count = max(count, arguments.num_class_images)
    counts_epochs = arguments.max_train_steps is None or arguments.validation_prompt is not None
    epoch = max(1, math.ceil(count / (arguments.train_batch_size * arguments.gradient_accumulation_steps * world_size())))
    settings = _settings(arguments, epoch)
    trigger, class_word = person_of(arguments.instance_prompt, arguments.class_prompt or "")
    previews = Previews(folder / "previews")
    if arguments.validation_prompt is not None:
        sheet = (arguments.validation_prompt,) * arguments.num_validation_images
        previews = Previews(folder / "previews", arguments.validation_epochs * epoch, sheet, paired=True)
    from ..photos.settings import SubjectSettings

    return TrainJob(
        model=local_model(arguments.pretrained_model_name_or_path, arguments.revision, arguments.cache_dir),
        prediction=arguments.prediction_type or "",
        vae=local_model(arguments.pretrained_vae_model_name_or_path or "", None, arguments.cache_dir),
        images=[source if source.caption or not source.photo else replace(source, caption=arguments.instance_prompt) for source in images],
        subject=SubjectSettings(
            trigger=trigger,
            class_word=class_word,
            resolution=arguments.resolution,
            framing="whole picture",
            drop_small=False,
            drop_duplicates=False,
            person=arguments.person,
        ),
        centre_crop=arguments.center_crop,
        settings=settings,
        background_weight=1.0,
        output=folder / FILE,
        copies=(folder / KOHYA_FILE,) if arguments.output_kohya_format else (),
        class_pictures=ClassPictures(
            arguments.class_data_dir or folder / "class_images", arguments.num_class_images, arguments.class_prompt or "", spread=False
        ),
        previews=previews,
        states=_states(arguments),
        device=arguments.device or "",
        report_to=report_to,
        log_folder=folder / arguments.logging_dir,
        epochs_of=readable if counts_epochs and count == readable * arguments.repeats else 0,
    )


def _images(arguments: argparse.Namespace) -> list[SourceImage]:
    from ..photos.dataset import read_dataset
    from ..photos.folder import read_folder
    from ..photos.room import share_apart

    share = share_apart(world_size())
    if arguments.instance_data_dir is not None:
        return read_folder(arguments.instance_data_dir, share=share)
    if not arguments.dataset_name.is_dir():
        raise FaceExprError(f"--dataset_name {arguments.dataset_name} is no folder here. Nothing is downloaded: give a folder of photos.")
    return read_dataset(arguments.dataset_name, arguments.image_column, arguments.caption_column, share=share)


def _settings(arguments: argparse.Namespace, epoch: int) -> TrainSettings:
    steps = arguments.max_train_steps if arguments.max_train_steps is not None else arguments.num_train_epochs * epoch
    rate = arguments.learning_rate
    if arguments.scale_lr:
        rate *= arguments.train_batch_size * arguments.gradient_accumulation_steps * world_size()
    warms_up = arguments.lr_scheduler != "constant"
    if warms_up and arguments.lr_warmup_steps > steps - (arguments.lr_scheduler == "polynomial"):
        raise FaceExprError(f"--lr_warmup_steps is {arguments.lr_warmup_steps}, but the run has {steps} steps; give {steps // 10} or so.")
    precision = arguments.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION") or "no"
    if precision not in PRECISIONS:
        raise FaceExprError(f"accelerate is set to mixed precision {precision}; give --mixed_precision {', '.join(PRECISIONS)}.")
    if arguments.seed is None:
        if world_size() > 1:
            raise FaceExprError("Several processes need the same --seed; give one.")
        arguments.seed = secrets.randbelow(2**32)
        say(f"--seed {arguments.seed} was drawn")
    if arguments.allow_tf32:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = True
    reading: dict[str, Any] = {}
    if arguments.train_text_encoder:
        decay = arguments.adam_weight_decay_text_encoder or arguments.adam_weight_decay  # 0 means so in diffusers' script too
        reading = {"text_encoder": True, "text_encoder_learning_rate": arguments.text_encoder_lr, "text_encoder_weight_decay": decay}
    try:
        return TrainSettings(
            rank=arguments.rank,
            init_lora_weights="gaussian",
            steps=steps,
            batch_size=arguments.train_batch_size,
            accumulation=arguments.gradient_accumulation_steps,
            learning_rate=rate,
            schedule="constant" if arguments.lr_scheduler == "constant_with_warmup" else arguments.lr_scheduler,
            warmup=arguments.lr_warmup_steps if warms_up else 0,
            optimizer="adamw8bit" if arguments.use_8bit_adam else "adamw",
            min_snr_gamma=arguments.snr_gamma or 0.0,
            max_grad_norm=arguments.max_grad_norm,
            weight_decay=arguments.adam_weight_decay,
            ema=0.0,
            flip=arguments.random_flip,
            precision=PRECISIONS[precision],
            gradient_checkpointing=arguments.gradient_checkpointing,
            prior="images" if arguments.with_prior_preservation else "off",
            prior_weight=arguments.prior_loss_weight,
            **reading,
            seed=arguments.seed,
        )
    except BadSetting as error:
        flag = FLAGS[error.name]
        if flag == "max_train_steps" and arguments.max_train_steps is None:
            flag = "num_train_epochs, counted in steps,"
        if flag == "learning_rate" and arguments.scale_lr:
            flag = "learning_rate, after --scale_lr,"
        raise FaceExprError(f"--{flag} {error.told}") from None


def _states(arguments: argparse.Namespace) -> StateFolder:
    from ..training.differences import NAMES
    from ..training.state import StateFolder, Wording

    folder = arguments.output_dir / "checkpoints"
    wanted = arguments.resume_from_checkpoint
    if wanted not in (None, "latest"):
        folder = Path(wanted)
        if not StateFolder(folder).files():
            raise FaceExprError(f"--resume_from_checkpoint {wanted} holds no state of a run; give latest, or the folder with the states.")
    limit = arguments.checkpoints_total_limit
    every, resume = arguments.checkpointing_steps or EVERY, "strict" if wanted else "off"
    own = folder == arguments.output_dir / "checkpoints"
    again = "" if wanted else " with --resume_from_checkpoint latest"
    wording = Wording(
        f"the same command{again} goes on from here",
        f"give another --output_dir, or leave --resume_from_checkpoint out{f' and delete {folder}, which gives it up' if own else ''}",
        {**NAMES, **{name: f"--{flag}" for name, flag in FLAGS.items()}},
    )
    keep = sys.maxsize if limit is None else limit
    states = StateFolder(folder, every, keep, resume, arguments.checkpointing_steps is not None, wording)
    if wanted == "latest" and not states.files():
        say(f"there is no state of a run in {folder}; the training starts anew, with step 1")
    if wanted is None and states.files():
        raise FaceExprError(
            f"{folder} holds the state of an earlier run. Give --resume_from_checkpoint latest to go on with it, "
            "another --output_dir, or delete that folder to start anew."
        )
    return states


def _tracker(asked: str | None) -> str:
    from importlib.util import find_spec

    if asked is not None:
        return asked
    return "tensorboard" if find_spec("tensorboard") or find_spec("tensorboardX") else "none"


def person_of(instance_prompt: str, class_prompt: str) -> tuple[str, str]:
    """Trigger and class word in an instance prompt: `a photo of ohwx young woman, smiling` -> (`ohwx`, `young woman`).

    The class prompt, `a photo of a woman`, tells the class word where the instance prompt ends with it.
    """
    who, of_class = _subject_of(instance_prompt), _subject_of(class_prompt)
    if of_class and who.endswith(f" {of_class}"):
        return who.removesuffix(of_class).strip(), of_class
    first, _, rest = who.partition(" ")
    return first or "person", rest


def _subject_of(prompt: str) -> str:
    words = " ".join(prompt.split(",")[0].split())
    return re.sub(
        r"^(?:(?:an?|the)\s+)?(?:[\w-]+\s+)?(?:photo|photograph|picture|portrait|image)\s+of\s+(?:(?:an?|the)\s+)?", "", words, flags=re.I
    ).strip()


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status as `ended` does."""
    from .train_job import run_job

    print_to_any_terminal()
    arguments = build_parser().parse_args(argv)
    return ended(lambda: run_job(job_of(arguments)))
