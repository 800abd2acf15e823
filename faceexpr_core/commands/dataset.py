"""`faceexpr dataset`: labelled synthetic faces, in the layout that Hugging Face's `datasets` loads."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError
from ..expressions import names
from ..measure.expression import CLASSES
from .flags import check_seeds, refuse_unused
from .sharing import add_drawing_arguments, check_drawing, left_to_others

if TYPE_CHECKING:
    from ..dataset.plan import DatasetPlan
    from ..dataset.run import Dataset

OUTPUT = Path("dataset")
PROMPT = "a photo of {person}"
INTENSITIES = (0.5, 1.0)
SHARES = (0.8, 0.1, 0.1)
ARM = "fusion"
PHOTOGRAPHS = 0.363
"""SFace's cosine from which OpenCV calls photographs the same person's (Zhong et al., TIP 2021, on LFW)."""
MINI_SAME, MINI_TWINS = 1 / 3, 3 / 4
"""The same for Mini, whose rendered people are more alike: places on the scale from another person (0) to the same (1). Ours."""


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
    add("--same_person", type=float, metavar="COS", help=f"SFace likeness to the neutral picture at least ({PHOTOGRAPHS}; more for mini)")
    add("--twins", type=float, metavar="COS", help=f"SFace likeness from which two people count as one ({PHOTOGRAPHS}; more for mini)")

    add_drawing_arguments(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Do this process's share, and write the data set when all is there; prints its folder. Returns 0. Raises FaceExprError."""
    from ..dataset.run import Dataset
    from .dataset_work import Worker
    from .sharing import Share

    check_drawing(arguments)
    worker = Worker(arguments, Dataset(arguments.output_dir, plan_of(arguments)), Share.here())
    worker.keep_meaning()
    try:
        cast = worker.find_people()
        worker.draw(cast)
    except KeyboardInterrupt:
        print("faceexpr: stopped; the same command goes on from here", file=sys.stderr)
        raise
    if missing := worker.count_missing(cast):
        left_to_others(missing, "card")
        return 0
    worker.write(cast)
    print(arguments.output_dir)
    return 0


def plan_of(arguments: argparse.Namespace) -> DatasetPlan:
    """What the arguments ask for. Raises FaceExprError."""
    from ..dataset.people import learned, parse_words
    from ..dataset.plan import DatasetPlan
    from ..evaluation.arms import parse_arms
    from ..evaluation.plan import Plan

    def each(values: list) -> tuple:  # type: ignore[type-arg]
        return tuple(dict.fromkeys(values))

    if arguments.seeds is not None and not arguments.lora:
        raise FaceExprError("--seeds are for learned people; a made-up person is its words and its noise. Give more --people or --scenes.")
    if not arguments.people:
        refuse_unused(arguments, {"seed": 0}, "it says which made-up people are drawn. Give --people, or leave it out.")
    check_seeds([arguments.seed])
    check_seeds(arguments.seeds or (), "seeds")
    (arm,) = parse_arms([arguments.arm])
    if arm.training:
        raise FaceExprError(f"--arm {arguments.arm}: '{arm.training[0][0]}' belongs to a training; nobody is trained here.")
    seeds = each(arguments.seeds or [0])
    grid = Plan((arm,), each(arguments.expressions), tuple(sorted({*arguments.intensities})), each(arguments.scenes), seeds)
    same, twins = limits_of(arguments)
    people = learned(arguments.lora, parse_words(arguments.lora_words), seeds)
    return DatasetPlan(grid, arguments.people, arguments.seed, tuple(people), tuple(arguments.splits), same, twins, arguments.judge)


def limits_of(arguments: argparse.Namespace) -> tuple[float, float]:
    """SFace's cosines of `--same_person` and `--twins`."""
    from ..measure.identity import identity_scale

    scale = identity_scale()
    same, twins = PHOTOGRAPHS, PHOTOGRAPHS
    if arguments.model == "mini":
        same, twins = (round(scale.mu_diff + part * (scale.mu_same - scale.mu_diff), 3) for part in (MINI_SAME, MINI_TWINS))
    return (
        same if arguments.same_person is None else arguments.same_person,
        twins if arguments.twins is None else arguments.twins,
    )


def meaning_of(plan: DatasetPlan) -> dict[str, object]:
    """What must stay as it is where a folder is gone on with; made-up people, expressions, intensities, scenes and seeds may be added."""
    (arm,) = plan.grid.arms
    return {
        "arm": {**asdict(arm), **arm.meaning()},
        "first scene": plan.grid.scenes[0],
        "first seed": plan.grid.seeds[0],
        "seed": plan.seed,
        "learned": [[one.digest, one.words] for one in plan.learned],
        "splits": plan.shares,
        "same_person": plan.same_person,
        "twins": plan.twins,
        "judge": plan.judge,
    }


def about_of(arguments: argparse.Namespace, run: Dataset, size: tuple[int, int]) -> dict[str, str]:
    """How it was made, for the card; no folders, so that it can be given away."""
    from .. import __version__

    plan = run.plan
    avoiding = f", avoiding '{arguments.negative}'" if arguments.negative else ""
    return {
        "Model": f"`{Path(arguments.model).name}`",
        "Expressions": f"arm `{plan.arm_name}`: {', '.join(plan.grid.expressions)}, and neutral",
        "Intensities": ", ".join(f"{one:g}" for one in plan.grid.intensities),
        "Scenes": "; ".join(f"`{one}`" for one in plan.grid.scenes),
        "People": f"{plan.people} described (seed {plan.seed}), {len(plan.learned)} learned were asked for",
        "Drawing": f"Euler, normal schedule, {arguments.steps} steps, guidance {arguments.cfg:g}, {size[0]} x {size[1]} pixels{avoiding}",
        "Measured by": "MediaPipe FaceLandmarker, a classifier of photographs (face-api), OpenCV's SFace",
        "FaceExpr": __version__,
    }
