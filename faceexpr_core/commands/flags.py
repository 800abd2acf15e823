"""The command line's own: flags and the help on them, what to say of flags that would change nothing, and words to any terminal."""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..errors import FaceExprError
from ..expressions import NONE
from ..fusion.run import Run
from ..training.options import Option
from ..training.settings import BOUNDS

Value = TypeVar("Value")
KINDS = {"int": int, "float": float, "text": str, "file": Path}


class TellsDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Says a flag's default behind its help, where it has one and the help does not say it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        none = action.default is None or action.default is False or action.default in ("", [])
        return action.help if none or "default: " in (action.help or "") else super()._get_help_string(action)


def add_flag(parser: Any, option: Option) -> None:
    """Add an option's flag to a parser, or to a group of one."""
    given: dict[str, Any] = {"help": option.line_help.replace("%", "%%"), "default": option.default, "dest": option.field}
    if option.kind == "switch":
        given["action"] = argparse.BooleanOptionalAction
    elif option.kind == "choice":
        given["choices"] = option.choices
    else:
        given["type"] = KINDS[option.kind]
        given["metavar"] = "FILE" if option.kind == "file" else option.name.upper()
    parser.add_argument(f"--{option.name}", **given)


def unique(values: Iterable[Value]) -> tuple[Value, ...]:
    """A flag's values, each once, in their order."""
    return tuple(dict.fromkeys(values))


def refuse_unused(arguments: argparse.Namespace, defaults: Mapping[str, Any], reason: str) -> None:
    """Raise FaceExprError for those of the options in `defaults` that have another value, since they would change nothing, and say why."""
    if given := [f"--{name}" for name, default in defaults.items() if getattr(arguments, name) != default]:
        raise FaceExprError(f"{' and '.join(given)} would change nothing: {reason}")


def refuse_idle_negative(arguments: argparse.Namespace) -> None:
    """Raise FaceExprError for a `--negative` without guidance."""
    if arguments.cfg == 1:
        refuse_unused(arguments, {"negative": ""}, "without guidance nothing is avoided. Give a --cfg above 1, or leave it out.")


def refuse_idle_intensity(arguments: argparse.Namespace, expressions: Iterable[str]) -> None:
    """Raise FaceExprError for an `--intensity` that weighs nothing, the expressions being spelled as the vocabulary does."""
    if not arguments.action_units and all(expression in (NONE, "neutral") for expression in expressions):
        reason = "it weighs --expression and --action_units, which ask for no more than a neutral face. Give one of them, or leave it out."
        refuse_unused(arguments, {"intensity": 1.0}, reason)


def run_of(arguments: argparse.Namespace, native: int = 8, seed: int = 0, sigmas: tuple[float, ...] = ()) -> Run:
    """How it is drawn: `--steps`, `--cfg`, `--negative`, `--width` and `--height`, `native` pixels where no size is given. Raises
    FaceExprError for what cannot be drawn."""
    width, height = (native if side is None else side for side in (arguments.width, arguments.height))
    return Run(seed, arguments.steps, arguments.cfg, width, height, arguments.negative, sigmas)


def check_number(arguments: argparse.Namespace, name: str) -> None:
    """Raise FaceExprError for an option, where it is given, that is infinite or no number."""
    if (given := getattr(arguments, name)) is not None and not math.isfinite(given):
        raise FaceExprError(f"--{name} is {given}; give a number.")


def check_seeds(seeds: Iterable[int], flag: str = "seed") -> None:
    """Raise FaceExprError for a seed that torch does not take."""
    low, high = BOUNDS["seed"]
    for seed in seeds:
        if not low <= seed <= high:
            raise FaceExprError(f"--{flag} is {seed}; give a value from {low} to {high}.")


def print_to_any_terminal() -> None:
    """Letters that stdout's encoding lacks are printed as escapes, instead of stopping the work."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
