"""The flags of the paper's command, which are those of diffusers' SDXL DreamBooth LoRA script, and which of them mean nothing here."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..training.settings import PREDICTIONS, SCHEDULES
from .flags import TellsDefaults
from .watch import TRACKERS

FILE = "pytorch_lora_weights.safetensors"
TEXT_ENCODER_LR, TEXT_ENCODER_DECAY = 5e-6, 1e-3
KOHYA_FILE = "pytorch_lora_weights_kohya.safetensors"
LR_SCHEDULERS = tuple(dict.fromkeys((*SCHEDULES, "constant_with_warmup")))
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


def build_parser() -> argparse.ArgumentParser:
    """The flags of the paper's command and of diffusers' script, with diffusers' defaults."""
    parser = argparse.ArgumentParser(
        prog="python -m faceexpr_core.train",
        description="Learn a person's LoRA with the command of the paper: the flags of diffusers' SDXL DreamBooth LoRA script. "
        "`faceexpr train` has the method's own presets.",
        formatter_class=TellsDefaults,
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
