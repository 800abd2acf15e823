"""The command line of the paper: the flags of diffusers' SDXL DreamBooth LoRA script, in their meaning there, on our trainer."""

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
from ..training.settings import PREDICTIONS, SCHEDULES, BadSetting, TrainSettings
from .ending import status_of
from .flags import print_to_any_terminal
from .train_job import TrainJob, world_size
from .watch import TRACKERS

if TYPE_CHECKING:
    from ..faces.images import SourceImage
    from ..training.state import StateFolder

FILE = "pytorch_lora_weights.safetensors"
TEXT_ENCODER_LR, TEXT_ENCODER_DECAY = 5e-6, 1e-3
KOHYA_FILE = "pytorch_lora_weights_kohya.safetensors"
LR_SCHEDULERS = tuple(dict.fromkeys((*SCHEDULES, "constant_with_warmup")))
EVERY = 500
"""Steps from one state to the next, as in diffusers' script."""
PRECISIONS: Mapping[str, str] = {"no": "fp32", "fp32": "fp32", "fp16": "fp16", "bf16": "bf16"}

# flag -> (value that changes nothing, why another is refused)
WITHOUT_COUNTERPART: Mapping[str, tuple[Any, str]] = {
    "variant": (None, "the weights are taken as they are; give the folder or file that holds those you want"),
    "dataset_config_name": (None, "--dataset_name is a folder; give that of the part you want"),
    "do_edm_style_training": (False, "EDM training is for models that predict otherwise than SDXL; leave it out"),
    "lr_num_cycles": (1, "cosine_with_restarts has one cycle here; leave it out"),
    "lr_power": (1.0, "the polynomial scheduler has power 1 here; leave it out"),
    "optimizer": ("AdamW", "AdamW is the optimizer here, in 8 bits with --use_8bit_adam; leave it out"),
    "adam_beta1": (0.9, "AdamW's beta1 is 0.9 here; leave it out"),
    "adam_beta2": (0.999, "AdamW's beta2 is 0.999 here; leave it out"),
    "adam_epsilon": (1e-8, "AdamW's epsilon is 1e-8 here; leave it out"),
    "prodigy_beta3": (None, "there is no Prodigy here; leave it out"),
    "prodigy_decouple": (None, "there is no Prodigy here; leave it out"),
    "prodigy_use_bias_correction": (None, "there is no Prodigy here; leave it out"),
    "prodigy_safeguard_warmup": (None, "there is no Prodigy here; leave it out"),
    "push_to_hub": (False, "nothing is sent anywhere from here; publish the file yourself"),
    "hub_token": (None, "nothing is sent anywhere from here; leave it out"),
    "hub_model_id": (None, "nothing is sent anywhere from here; leave it out"),
    "lora_dropout": (0.0, "the LoRA has no dropout here; leave it out"),
    "use_dora": (False, "a plain LoRA is trained here; leave it out"),
    "image_interpolation_mode": ("lanczos", "photos are resized with lanczos here; leave it out"),
}

# flag -> (value that needs no word, what is said of another: it changes memory or speed, not the result)
WITHOUT_EFFECT: Mapping[str, tuple[Any, str]] = {
    "dataloader_num_workers": (0, "the photos are encoded once and kept; there is no loader"),
    "sample_batch_size": (4, "pictures of the class are drawn one at a time"),
    "prior_generation_precision": (None, "pictures of the class are drawn in the precision of the training"),
    "enable_xformers_memory_efficient_attention": (False, "PyTorch's own attention saves as much memory"),
    "local_rank": (-1, "the launcher says which process this is"),
}

# flag -> flags that mean something with it alone
PARTS: Mapping[str, tuple[str, ...]] = {
    "dataset_name": ("image_column", "caption_column"),
    "with_prior_preservation": ("class_data_dir", "class_prompt", "prior_loss_weight", "num_class_images"),
    "train_text_encoder": ("text_encoder_lr", "adam_weight_decay_text_encoder"),
    "validation_prompt": ("num_validation_images", "validation_epochs"),
}

# flag -> least and most
COUNTS: Mapping[str, tuple[int, float]] = {
    "train_batch_size": (1, 256),
    "gradient_accumulation_steps": (1, 256),
    "num_train_epochs": (1, math.inf),
    "repeats": (1, 1_000_000),
    "num_class_images": (1, 100_000),
    "num_validation_images": (1, 64),
    "validation_epochs": (1, math.inf),
    "lr_warmup_steps": (0, math.inf),
    "checkpointing_steps": (1, math.inf),
    "checkpoints_total_limit": (1, math.inf),
}

# what the trainer calls a setting -> what the command line does
FLAGS: Mapping[str, str] = {
    "steps": "max_train_steps",
    "min_snr_gamma": "snr_gamma",
    "weight_decay": "adam_weight_decay",
    "prior_weight": "prior_loss_weight",
    "text_encoder_learning_rate": "text_encoder_lr",
    "text_encoder_weight_decay": "adam_weight_decay_text_encoder",
}


def build_parser() -> argparse.ArgumentParser:
    """The flags of the paper's command and of diffusers' script, with diffusers' defaults."""
    parser = argparse.ArgumentParser(
        prog="python -m faceexpr_core.train",
        description="Learn a person's LoRA with the command of the paper: the flags of diffusers' SDXL DreamBooth LoRA script. "
        "`faceexpr train` has the method's own presets.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    model = parser.add_argument_group("model").add_argument
    model(
        "--pretrained_model_name_or_path",
        required=True,
        type=_text,
        help="'mini', a diffusers folder, a .safetensors checkpoint, or a name in the Hub's cache",
    )
    model("--pretrained_vae_model_name_or_path", type=_text, help="a VAE in place of the model's: folder, file or name in the Hub's cache")
    model("--prediction_type", choices=PREDICTIONS, help="what the model predicts (default: as its scheduler says)")
    model("--revision", type=_text, help="of a model in the Hub's cache")
    model("--cache_dir", type=_text, help="where the Hub's cache lies")
    photos = parser.add_argument_group("photos").add_argument
    photos("--dataset_name", type=_path, help="folder of photos, with metadata.jsonl or .txt files for captions if you have them")
    photos("--instance_data_dir", type=_path, help="the same, without metadata.jsonl")
    photos("--image_column", type=_text, default="image", help="column of metadata.jsonl with the pictures' file names")
    photos("--caption_column", type=_text, help="column of metadata.jsonl with the captions (default: text, if there)")
    photos("--instance_prompt", type=_text, required=True, help="caption of the photos that have none, such as 'a photo of ohwx woman'")
    photos("--resolution", type=int, default=1024, help="side of the training pictures in pixels")
    photos("--center_crop", action="store_true", help="cut the square in the middle; else it is laid over the face (not at random)")
    photos("--person", type=int, default=0, help="of several people: 0 who is in most photos, 1 the next ..., -1 each photo's largest face")
    photos("--random_flip", action="store_true", help="also learn the photos mirrored; faces are not symmetric")
    photos("--repeats", type=int, default=1, help="how often the photos are seen in an epoch")
    prior = parser.add_argument_group("prior preservation").add_argument
    prior("--with_prior_preservation", action="store_true", help="also learn pictures of the class, so that it stays as it is")
    prior("--prior_loss_weight", type=float, default=1.0, help="weight of that")
    prior("--class_data_dir", type=_path, help="folder of pictures of the class; where it has none, the model draws them into it")
    prior("--class_prompt", type=_text, help="what they show, such as 'a photo of a woman'")
    prior("--num_class_images", type=int, default=100, help="how many")
    run = parser.add_argument_group("training").add_argument
    run("--output_dir", type=_path, default=Path("lora-dreambooth-model"), help=f"folder for {FILE}, states, previews and logs")
    run("--output_kohya_format", action="store_true", help=f"also write {KOHYA_FILE} (both hold kohya's keys, which diffusers reads)")
    run("--rank", type=int, default=4, help="size of the LoRA")
    run("--train_batch_size", type=int, default=4, help="photos at once, for each process")
    run("--gradient_accumulation_steps", type=int, default=1, help="batches averaged into one step")
    run("--num_train_epochs", type=int, default=1, help="times through the photos, or the pictures of the class where these are more")
    run("--max_train_steps", type=int, help="optimiser steps, in place of --num_train_epochs")
    run("--learning_rate", type=float, default=1e-4, help="how far each step goes")
    run("--train_text_encoder", action="store_true", help="the text encoders learn too")
    run("--text_encoder_lr", type=float, default=TEXT_ENCODER_LR, help="how far each of their steps goes; 0 is as --learning_rate")
    run("--scale_lr", action="store_true", help="multiply the learning rate by batch size, accumulation and processes")
    run("--lr_scheduler", default="constant", choices=LR_SCHEDULERS, help="learning rate over the run; constant has no warm-up")
    run("--lr_warmup_steps", type=int, default=500, help="steps over which it rises")
    run(
        "--snr_gamma",
        type=float,
        help="hold back timesteps with little noise (min-SNR) in the photos' loss and the prior's: min(SNR, gamma) / SNR for epsilon, "
        "min(SNR, gamma) / (SNR + 1) for v-prediction; 5 is usual, off when left out",
    )
    run("--use_8bit_adam", action="store_true", help="8-bit AdamW, on a GPU with bitsandbytes")
    run("--adam_weight_decay", type=float, default=1e-4, help="weight decay")
    run("--adam_weight_decay_text_encoder", type=float, default=TEXT_ENCODER_DECAY, help="weight decay of the text encoders")
    run("--max_grad_norm", type=float, default=1.0, help="longest gradient")
    run("--gradient_checkpointing", action="store_true", help="less memory, more time")
    run("--mixed_precision", choices=tuple(PRECISIONS), help="default: accelerate's setting, else no")
    run("--allow_tf32", action="store_true", help="faster float32 on newer NVIDIA GPUs")
    run("--seed", type=int, help="default: a new one, which is printed")
    look = parser.add_argument_group("seeing and keeping it").add_argument
    look("--validation_prompt", type=_text, help="draw this while it learns, as sheets in output_dir/previews")
    look("--num_validation_images", type=int, default=4, help="pictures a sheet")
    look("--validation_epochs", type=int, default=50, help="epochs from one sheet to the next")
    look("--report_to", choices=TRACKERS, help="where the losses go (default: tensorboard if installed)")
    look("--logging_dir", type=_text, default="logs", help="folder of the losses in output_dir")
    look("--checkpointing_steps", type=int, help="steps from one saved state to the next (500); given, a finished run's last one stays")
    look("--checkpoints_total_limit", type=int, help="states that are kept while it runs (default: all)")
    look("--resume_from_checkpoint", type=_text, metavar="latest|DIR", help="go on with a run that was stopped, or give it more steps")
    others = parser.add_argument_group("known, but without a counterpart here: anything but the default is refused").add_argument
    for name, (default, _) in WITHOUT_COUNTERPART.items():
        _add_like(others, name, default)
    idle = parser.add_argument_group("known, but without effect here").add_argument
    for name, (default, _) in WITHOUT_EFFECT.items():
        _add_like(idle, name, default)
    add("--device", type=_text, help="cpu, cuda, mps (default: the best there is)")
    return parser


def _text(given: str) -> str:
    if not given.strip():
        raise argparse.ArgumentTypeError("it is empty; give something, or leave the flag out")
    return given


def _path(given: str) -> Path:
    return Path(_text(given))


def _add_like(add: Any, name: str, default: Any) -> None:
    if default is False:
        add(f"--{name}", action="store_true")
    else:
        add(f"--{name}", type=str if default is None else type(default), default=default)


def job_of(arguments: argparse.Namespace) -> TrainJob:
    """What the flags ask for; says on stderr which have no effect. Raises FaceExprError for flags that cannot be, naming the fix."""
    from ..training.previews import Previews
    from ..training.run import ClassPictures

    _check(arguments)
    images = _images(arguments)
    folder: Path = arguments.output_dir
    count = sum(source.rgb is not None for source in images) * arguments.repeats
    if arguments.with_prior_preservation:  # as in diffusers' script, whose loader pairs each photo with a picture of the class
        count = max(count, arguments.num_class_images)
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
        report_to=_tracker(arguments.report_to),
        log_folder=folder / arguments.logging_dir,
    )


def _check(arguments: argparse.Namespace) -> None:
    given = vars(arguments)
    for name, (default, why) in WITHOUT_COUNTERPART.items():
        if given[name] != default:
            raise FaceExprError(f"--{name} has no counterpart here: {why}.")
    for name, (default, why) in WITHOUT_EFFECT.items():
        if given[name] != default:
            print(f"faceexpr: --{name} has no effect here: {why}", file=sys.stderr)
    if (arguments.dataset_name is None) == (arguments.instance_data_dir is None):
        raise FaceExprError("Give the folder of photos either as --dataset_name or as --instance_data_dir.")
    usual = build_parser().get_default
    for whole, parts in PARTS.items():
        for name in parts:
            if given[whole] in (None, False) and given[name] != usual(name):
                raise FaceExprError(f"--{name} was given without --{whole}; add that, or leave --{name} out.")
    for name, (low, high) in COUNTS.items():
        if given[name] is not None and not low <= given[name] <= high:
            raise FaceExprError(f"--{name} is {given[name]}; give {f'{low} or more' if given[name] < low else f'{high} or less'}.")
    if arguments.with_prior_preservation:
        if arguments.class_data_dir is None or arguments.class_prompt is None:
            raise FaceExprError(
                "--with_prior_preservation needs --class_data_dir, a folder, and --class_prompt, such as 'a photo of a woman'."
            )
        if arguments.class_data_dir.exists() and not arguments.class_data_dir.is_dir():
            raise FaceExprError(f"--class_data_dir {arguments.class_data_dir} is a file; give a folder of pictures, or an empty one.")


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
        print(f"faceexpr: --seed {arguments.seed} was drawn", file=sys.stderr)
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
        flag = FLAGS.get(error.name, error.name)
        if flag == "max_train_steps" and arguments.max_train_steps is None:
            flag = "num_train_epochs, counted in steps,"
        if flag == "learning_rate" and arguments.scale_lr:
            flag = "learning_rate, after --scale_lr,"
        raise FaceExprError(f"--{flag} {error.told}") from None


def _states(arguments: argparse.Namespace) -> StateFolder:
    from ..training.state import StateFolder

    folder = arguments.output_dir / "checkpoints"
    wanted = arguments.resume_from_checkpoint
    if wanted not in (None, "latest"):
        folder = Path(wanted)
        if not StateFolder(folder).files():
            raise FaceExprError(f"--resume_from_checkpoint {wanted} holds no state of a run; give latest, or the folder with the states.")
    limit = arguments.checkpoints_total_limit
    every, resume = arguments.checkpointing_steps or EVERY, "strict" if wanted else "off"
    states = StateFolder(folder, every, sys.maxsize if limit is None else limit, resume, arguments.checkpointing_steps is not None)
    if wanted == "latest" and not states.files():
        print(f"faceexpr: there is no state of a run in {folder}; the training starts anew, with step 1", file=sys.stderr)
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


def local_model(name: str, revision: str | None, cache: str | None) -> str:
    """`name` as it is for mini, a file or a folder; for a name of the Hub (owner/name) its folder in the local cache. Downloads nothing.

    Raises FaceExprError where there is neither, and for a `revision` of what is no name of the Hub.
    """
    if name in ("", "mini") or Path(name).exists():
        if revision is not None:
            raise FaceExprError(f"--revision belongs to a name in the Hub's cache, and {name} is here; leave it out.")
        return name
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise FaceExprError(f"There is no model {name}. Give a folder or a .safetensors file.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return str(snapshot_download(name, revision=revision, cache_dir=cache, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError) as reason:
        raise FaceExprError(
            f"{name} is neither a folder here nor in the Hub's cache, and training downloads nothing. Fetch it first (hf download {name}), "
            "or give the folder or .safetensors file."
        ) from reason


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
    """Run the command; returns the exit status as `status_of` does."""
    from .train_job import run_job

    print_to_any_terminal()
    arguments = build_parser().parse_args(argv)
    return status_of(lambda: run_job(job_of(arguments)))
