"""`faceexpr evaluate`: a checkpoint, people's photos, and one page that says how well the method does on them."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..expressions import names
from ..measure.expression import CLASSES
from .drawing import add_drawing_arguments, check_drawing
from .evaluate_plan import CLASS_WORD, TRIGGER, about_of, evaluation_of
from .sharing import Share, left_to_others
from .telling import say

OUTPUT = Path("evaluation")
PROMPT = "a photo of {person}"
INTENSITIES = (0.4, 0.7, 1.0)
SEEDS = (0, 1)


def add_evaluate_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate` to the `faceexpr` command."""
    from ..evaluation import arms

    parser = subparsers.add_parser(
        "evaluate",
        help="train, draw and measure people: one page with numbers, plots and pictures",
        description="Learn people from their photos, draw every expression at every intensity, in every scene and from every seed, in "
        "every arm from the same noise, measure the pictures, and write one page (report.html) with tables beside it (CSV; Parquet where "
        "pyarrow is installed). What is there is not done again: the same command goes on with a stopped run, and arms, people, scenes, "
        "seeds and expressions may be added. Under `accelerate launch` all processes share the work.",
        epilog=arms.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, help="'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors)")
    add("--photos", type=Path, required=True, metavar="DIR", help="one person's photos, or a folder of people's folders")
    add("--output_dir", type=Path, default=OUTPUT, metavar="DIR", help=f"where all of it is kept ({OUTPUT})")
    add("--arms", nargs="+", default=list(arms.DEFAULT_ARMS), metavar="ARM", help=f"see below ({' '.join(arms.DEFAULT_ARMS)})")
    add("--expressions", nargs="+", default=list(CLASSES), metavar="E", help=f"of: {', '.join(names()[1:])} ({' '.join(CLASSES)})")
    add("--intensities", nargs="+", type=float, default=list(INTENSITIES), help=f"above 0, up to 1.5 ({' '.join(map(str, INTENSITIES))})")
    add(
        "--scenes",
        nargs="+",
        default=[PROMPT],
        metavar="PROMPT",
        help=f"prompts with {{person}}, and {{expression}} if you like ('{PROMPT}')",
    )
    add("--seeds", nargs="+", type=int, default=list(SEEDS), help=f"of the noise, the same in all arms ({' '.join(map(str, SEEDS))})")

    group = parser.add_argument_group("people and their LoRAs")
    add = group.add_argument
    add("--trigger", help=f"the word that means the person (with --lora what the file says, else {TRIGGER})")
    add("--class_word", help=f"what the people are: man, woman ... (with --lora what the file says, else {CLASS_WORD})")
    add("--class_words", nargs="+", default=[], metavar="NAME=WORD", help="another class word for some people, by their folder's name")
    add(
        "--train",
        default="",
        metavar="'FLAGS'",
        help="flags of `faceexpr train` for every LoRA, in quotes, as '--preset paper --rank 8'; with --lora only those that read photos",
    )
    add(
        "--lora",
        type=Path,
        help="train nothing: this LoRA (a file, or a PEFT adapter's folder), or a folder with one named after each person",
    )

    add_drawing_arguments(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Do this process's share, and write the page when all is there; prints its path. Returns 0. Raises FaceExprError."""
    from ..evaluation.report import write_report
    from .evaluate_work import Worker

    check_drawing(arguments)
    evaluation = evaluation_of(arguments)
    share = Share.here()
    worker = Worker(arguments, evaluation, share)
    worker.keep_meaning()
    try:
        worker.work()
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        raise
    if missing := evaluation.count_missing(evaluation.places()):
        left_to_others(missing, "page")
        return 0
    learned, warnings = worker.learned()
    page, note = write_report(evaluation, {**about_of(arguments, evaluation.plan, evaluation.people), **learned})
    for line in filter(None, (*warnings, note)):
        say(line)
    print(page)
    return 0
