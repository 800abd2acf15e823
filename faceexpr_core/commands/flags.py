"""The training options as flags of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..training.options import Option

KINDS = {"int": int, "float": float, "text": str, "file": Path}


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
