"""Flags of `faceexpr train` where another command hands them on: the words of `evaluate --train`, and the keys of an arm."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from typing import NoReturn

from ..errors import FaceExprError

RESERVED = ("model", "photos", "output", "trigger", "class_word", "device", "prediction_type")
"""Flags of `faceexpr train` that an evaluation gives itself."""


def split_flags(train: str, windows: bool = os.name == "nt") -> list[str]:
    """The words of `--train`, in which quotes keep a value together. On Windows a backslash is a letter. Raises FaceExprError for quotes
    without an end, and for flags that an evaluation gives itself."""
    reader = shlex.shlex(train, posix=True)
    reader.whitespace_split, reader.commenters, reader.escape = True, "", "" if windows else reader.escape
    try:
        words = list(reader)
    except ValueError as reason:
        raise FaceExprError(f"--train {train}: it cannot be read ({reason}). Close every quotation mark.") from reason
    named = {word.partition("=")[0] for word in words}
    if taken := [name for name in RESERVED if f"--{name}" in named]:
        own = "--photos and --output_dir" if taken[0] in ("photos", "output") else f"--{taken[0]}"
        raise FaceExprError(f"--train '{train}': --{taken[0]} is not the training's to say here; give faceexpr evaluate's own {own}.")
    return words


def training_flags(training: Sequence[tuple[str, str]]) -> list[str]:
    """`prior=off, convolutions=on` as flags of `faceexpr train`. Raises FaceExprError for what it does not have."""
    actions = {option: action for action in train_parser()._actions for option in action.option_strings}
    words: list[str] = []
    for name, value in training:
        action = actions.get(f"--{name}")
        if action is None or name in RESERVED or name == "help":
            raise FaceExprError(f"'{name}' is neither a key of a drawing nor an option of faceexpr train. See faceexpr evaluate --help.")
        if action.nargs != 0:
            words += [f"--{name}", value]
        elif value in ("on", "off"):
            words += [f"--{name}"] if value == "on" else [f"--no-{name}"] if f"--no-{name}" in actions else []
        else:
            raise FaceExprError(f"{name} is '{value}'; give on or off.")
    return words


def training_words(train: str) -> list[str]:
    """Of flags of `faceexpr train`, those that do not say how photos are read: without a training they change nothing."""
    return photo_parser().parse_known_args(split_flags(train))[1]


def photo_parser() -> argparse.ArgumentParser:
    """The flags that say how photos are read; raises FaceExprError for what they do not take."""
    from .train import add_photo_arguments

    photos = _Parser(add_help=False, allow_abbrev=False)
    add_photo_arguments(photos)
    return photos


def train_parser() -> argparse.ArgumentParser:
    """The flags of `faceexpr train`; raises FaceExprError for others."""
    from .train import add_arguments

    parser = _Parser(add_help=False, allow_abbrev=False)
    add_arguments(parser)
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FaceExprError(f"the training cannot be read: {message}. See faceexpr train --help.")
