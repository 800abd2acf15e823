"""Flags of the paper's command that do not go together, and those that have no effect beside the others."""

from __future__ import annotations

import argparse

from ..errors import FaceExprError
from .dreambooth_flags import COUNTS, PARTS, WITHOUT_COUNTERPART, WITHOUT_EFFECT, build_parser
from .hub_cache import is_looked_up
from .telling import say


def check(arguments: argparse.Namespace) -> None:
    """Raise FaceExprError for flags that have no counterpart here or do not go together, naming the fix; say on stderr which never have an
    effect."""
    given = vars(arguments)
    for name, (default, why) in WITHOUT_COUNTERPART.items():
        if given[name] != default:
            raise FaceExprError(f"--{name} has no counterpart here: {why}.")
    for name, (default, why) in WITHOUT_EFFECT.items():
        if given[name] != default:
            _say_idle(name, why)
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


def tell_idle(arguments: argparse.Namespace, tracker: str) -> None:
    """Say on stderr which flags have no effect beside the others, as in diffusers' script, which says nothing of it."""
    usual = build_parser().get_default
    models = (arguments.pretrained_model_name_or_path, arguments.pretrained_vae_model_name_or_path)
    idle = {
        "lr_warmup_steps": (
            arguments.lr_scheduler == "constant" and arguments.lr_warmup_steps > 0,
            "the constant scheduler has no warm-up; constant_with_warmup has one",
        ),
        "logging_dir": (tracker == "none", "nothing is logged; --report_to tensorboard logs there"),
        "num_train_epochs": (arguments.max_train_steps is not None, "--max_train_steps says how long it learns"),
        "repeats": (
            arguments.max_train_steps is not None and arguments.validation_prompt is None,
            "it counts in epochs alone, and --max_train_steps says how long it learns",
        ),
        "cache_dir": (all(not is_looked_up(name or "") for name in models), "no model is looked up by a name of the Hub"),
    }
    for name, (without_effect, why) in idle.items():
        if without_effect and vars(arguments)[name] != usual(name):
            _say_idle(name, why)


def _say_idle(name: str, why: str) -> None:
    say(f"--{name} has no effect here: {why}")
