"""The `faceexpr` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .. import __version__
from .flags import print_to_any_terminal
from .stopping import ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit status as `ended` does."""
    print_to_any_terminal()
    arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    return ended(lambda: arguments.func(arguments))


def _joined(words: Sequence[str]) -> list[str]:
    """`evaluate`'s `--train` with its value in one word: argparse takes a value that begins with a dash for a flag of its own."""
    found = list(words)
    for number in range(len(found) - 2, 0, -1):
        if found[0] == "evaluate" and found[number] == "--train" and found[number + 1].startswith("-"):
            found[number : number + 2] = [f"--train={found[number + 1]}"]
    return found


def _parser() -> argparse.ArgumentParser:
    from .change import add_change_command
    from .dataset import add_dataset_command
    from .evaluate import add_evaluate_command
    from .extract import add_extract_command
    from .generate import add_generate_command
    from .lora import add_lora_command
    from .models import add_models_command
    from .plan import add_plan_command
    from .score import add_score_command
    from .train import add_train_command

    parser = argparse.ArgumentParser(prog="faceexpr", description="Learn a face from a few photos and draw it with any expression.")
    parser.add_argument("--version", action="version", version=f"faceexpr {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_models_command(verbs)
    add_train_command(verbs)
    add_plan_command(verbs)
    add_extract_command(verbs)
    add_generate_command(verbs)
    add_change_command(verbs)
    add_lora_command(verbs)
    add_score_command(verbs)
    add_evaluate_command(verbs)
    add_dataset_command(verbs)
    return parser
