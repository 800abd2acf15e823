"""What `faceexpr dataset` is asked for: its plan, what counts as the same person, and what of it must stay as it is."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError
from ..photos.people import SAME_PERSON
from .flags import check_seeds, refuse_unused, unique

if TYPE_CHECKING:
    from ..dataset.plan import DatasetPlan
    from ..dataset.run import Dataset

MINI_SAME, MINI_TWINS = 1 / 3, 3 / 4
"""From where on two pictures show the same person, and two people are too alike, on Mini, whose people are more alike than real ones:
places on the scale from another person (0) to the same (1). Ours."""

LARGEST_SEED = 2**63 - 1
"""In metadata.jsonl; `datasets` reads larger whole numbers as floats."""


def plan_of(arguments: argparse.Namespace) -> DatasetPlan:
    """What the arguments ask for. Raises FaceExprError."""
    from ..dataset.people import learned, parse_words
    from ..dataset.plan import DatasetPlan
    from ..evaluation.arms import parse_arms
    from ..evaluation.plan import Plan

    if arguments.seeds is not None and not arguments.lora:
        raise FaceExprError("--seeds are for learned people; a made-up person is its words and its noise. Give more --people or --scenes.")
    if not arguments.people:
        refuse_unused(arguments, {"seed": 0}, "it says which made-up people are drawn. Give --people, or leave it out.")
    check_seeds([arguments.seed])
    check_seeds(arguments.seeds or (), "seeds")
    if (large := max(arguments.seeds or [0])) > LARGEST_SEED:
        raise FaceExprError(f"--seeds is {large}; give at most {LARGEST_SEED}: what loads a data set would round it.")
    (arm,) = parse_arms([arguments.arm])
    if arm.training:
        raise FaceExprError(f"--arm {arguments.arm}: '{arm.training[0][0]}' belongs to a training; nobody is trained here.")
    seeds = unique(arguments.seeds or [0])
    grid = Plan((arm,), unique(arguments.expressions), tuple(sorted({*arguments.intensities})), unique(arguments.scenes), seeds)
    same, twins = limits_of(arguments)
    people = learned(arguments.lora, parse_words(arguments.lora_words), seeds)
    return DatasetPlan(grid, arguments.people, arguments.seed, tuple(people), tuple(arguments.splits), same, twins, arguments.judge)


def limits_of(arguments: argparse.Namespace) -> tuple[float, float]:
    """SFace's cosines of `--same_person` and `--twins`."""
    from ..measure.identity import identity_scale

    scale = identity_scale()
    same, twins = SAME_PERSON, SAME_PERSON
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
