"""`faceexpr dataset`: labelled synthetic faces, in the layout that Hugging Face's `datasets` loads."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..expressions import names
from ..measure.expression import CLASSES
from ..photos.people import SAME_PERSON
from .dataset_plan import plan_of
from .drawing import add_drawing_arguments, check_drawing
from .sharing import Share, left_to_others
from .telling import say

OUTPUT = Path("dataset")
PROMPT = "a photo of {person}"
INTENSITIES = (0.5, 1.0)
SHARES = (0.8, 0.1, 0.1)
ARM = "fusion"


def add_dataset_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `dataset` to the `faceexpr` command."""
    parser = subparsers.add_parser(
        "dataset",
        help="draw a data set of labelled faces: people x expressions x intensities x scenes, measured, split, with a card",
        description="Draw people with every expression at every intensity in every scene, measure each picture (52 blendshapes, landmarks, "
        "action units, likeness), set apart with its reason what came out wrong, and write a data set with splits by person and a data "
        "card: load_dataset('imagefolder', data_dir=...) loads it. What is there is not done again: the same command goes on with a "
        "stopped run, and made-up people, expressions, intensities and scenes may be added. Under `accelerate launch` all processes share "
        "it.",
    )
    add = parser.add_argument
    add("--model", required=True, help="'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors)")
    add("--output_dir", type=Path, default=OUTPUT, metavar="DIR", help=f"the data set's folder ({OUTPUT})")
    add("--people", type=int, default=0, metavar="N", help="so many made-up people, described in words, each with a noise of its own (0)")
    add("--seed", type=int, default=0, help="which made-up people these are (0)")
    add(
        "--lora",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="learned people: each a LoRA file or PEFT folder. Have their consent",
    )
    add("--lora_words", nargs="+", default=[], metavar="NAME=WORDS", help="trigger and class word of LoRAs that do not say theirs")
    add("--seeds", nargs="+", type=int, help="of the noise, for learned people; a made-up person has one of its own (0)")
    add("--expressions", nargs="+", default=list(CLASSES), metavar="E", help=f"of: {', '.join(names()[1:])} ({' '.join(CLASSES)})")
    add("--intensities", nargs="+", type=float, default=list(INTENSITIES), help=f"above 0, up to 1.5 ({' '.join(map(str, INTENSITIES))})")
    add(
        "--scenes",
        nargs="+",
        default=[PROMPT],
        metavar="PROMPT",
        help=f"prompts with {{person}}, and {{expression}} if you like ('{PROMPT}')",
    )
    add(
        "--arm", default=ARM, help=f"how: fusion (from words), or base (asked in the text); settings as in faceexpr evaluate --help ({ARM})"
    )
    add("--splits", nargs=3, type=float, default=list(SHARES), metavar="SHARE", help=f"of the people: train, validation, test ({SHARES})")
    add("--license", default="", help="Hugging Face's identifier of the licence that you give the data set, for the card")

    from ..dataset.plan import JUDGES

    group = parser.add_argument_group("what is rejected")
    add = group.add_argument
    add("--judge", choices=JUDGES, default="both", help="who must read the expression that was asked (both, weighed together)")
    add("--same_person", type=float, metavar="COS", help=f"SFace likeness to the neutral picture at least ({SAME_PERSON}; more for mini)")
    add("--twins", type=float, metavar="COS", help=f"SFace likeness from which two people count as one ({SAME_PERSON}; more for mini)")

    add_drawing_arguments(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Do this process's share, and write the data set when all is there; prints its folder. Returns 0. Raises FaceExprError."""
    from ..dataset.run import Dataset
    from .dataset_work import Worker

    check_drawing(arguments)
    worker = Worker(arguments, Dataset(arguments.output_dir, plan_of(arguments)), Share.here())
    worker.keep_meaning()
    try:
        cast = worker.find_people()
        worker.draw(cast)
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        raise
    if missing := worker.count_missing(cast):
        left_to_others(missing, "card")
        return 0
    worker.write(cast)
    print(arguments.output_dir)
    return 0
