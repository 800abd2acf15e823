"""What the measures say of the people themselves: renders of what the arms are asked to draw, as perfect pictures would be.

An expression changes a face for SFace too: a perfect picture of it is less alike than a neutral one, and nearer to anybody else who shows
it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from faceexpr_core import mini
from faceexpr_core.evaluation.arms import Arm
from faceexpr_core.evaluation.people import Person
from faceexpr_core.evaluation.plan import Place
from faceexpr_core.evaluation.run import Evaluation
from faceexpr_core.evaluation.summary import Records
from faceexpr_core.expressions import EXPRESSIONS
from faceexpr_core.measure.judges import Picture
from faceexpr_core.measure.picture_score import NEUTRAL

TRUTH, TRUTH_FOLDER = "the person", "truth"
FIRST_NUMBER = 44_000
"""The world draws other pictures of a person under other numbers; a noise of the arms stands for clothes, light and pose here."""


def truth_evaluation(evaluation: Evaluation) -> Evaluation:
    """The same pictures by the renderer, in a folder of their own."""
    return Evaluation(evaluation.output / TRUTH_FOLDER, replace(evaluation.plan, arms=(Arm(TRUTH, None),)), evaluation.people)


def rendered(arm: Arm, lora: Path | None, person: Person, place: Place, expression: str, intensity: float) -> Picture:
    """The person (named by the seed) with an expression, of the size of Mini's pictures; as `evaluation.run.DrawPicture`."""
    from lab.world.expressions import Shown
    from lab.world.picture import picture

    shown = Shown(NEUTRAL, 0.0) if expression == NEUTRAL else Shown(EXPRESSIONS[expression].word, intensity)
    image: Picture = picture(int(person.name), FIRST_NUMBER + place.seed, shown, mini.RESOLUTION).image
    return image


def in_folder(records: Records) -> list[dict[str, Any]]:
    """Records of `truth_evaluation` with their pictures' paths from the ablation's own folder."""
    return [{**one, "picture": f"{TRUTH_FOLDER}/{one['picture']}"} for one in records]
