"""What is measured in a picture of a data set, and why it may not come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..expressions import ACTION_UNITS
from ..faces.detector import Face
from ..measure.action_units import unit_strength
from ..measure.expression import blendshape_vector, measured_as, prototypes, read_change
from ..measure.judges import Judges, Looks, Picture, Seen
from ..measure.picture_score import NEUTRAL, Asked, score_picture
from ..measure.reader import READER_CLASSES
from ..measure.reading import read_expression

NO_FACE = "no face was found"
SEVERAL = "more than one face"
NOT_SHOWN = "another expression than the one asked"
OTHER_FACE = "another face than the person's"
NO_NEUTRAL = "the neutral picture of the same place was rejected"
TWIN = "the face of another person"

FAINT = 0.4
"""Less than this share of the intensity asked is not the expression, for the blendshapes (as `expression.NEUTRAL_BELOW`; ours)."""

SHOWN = (
    "read", "sure", "classified", "probability", "strength", "cosine", "likeness", "pose", "background", "action_units", "blendshapes",
    "landmarks",
)  # fmt: skip
"""What is measured of a picture: names of the columns."""


def measure(
    seen: Seen, faces: int, asked: Asked, judge: str, same_person: float, reference: NDArray[np.float32] | None, neutral: Seen | None
) -> dict[str, Any]:
    """The columns SHOWN and `reasons`, why the picture is rejected, empty where it is not.

    `faces`: how many were found. `reference`: SFace's unit vector [128] of the person's portrait, None where the picture is it. `neutral`:
    the picture of the same place without the expression, None where this is it.

    `read`: the likeliest expression and `sure` its probability, 0..1, by both judges together (`measure/reading.py`), with the neutral
    picture as the resting face (for that one itself the average person's). `classified`, `probability`: the classifier's favourite, and
    what it gives the expression asked. `strength`, `cosine`: along the prototype asked, as in `picture_score`. `likeness`: SFace's cosine
    to the portrait. `pose` in degrees and `background` 0..1: the change against the neutral picture. `action_units`: strength of each
    unit, 0..1, as a change from the neutral picture, by FACS number. `blendshapes`: MediaPipe's 52, 0..1. `landmarks`: [478, 3], x and y
    in pixels, z on the scale of x.
    """
    if seen.face is None or seen.judgement is None or seen.vector is None:
        return {**dict.fromkeys(SHOWN), "reasons": [NO_FACE]}
    resting = seen.face if neutral is None or neutral.face is None else neutral.face
    looks = Looks(seen.vector if reference is None else reference, resting.blendshapes)
    score = score_picture(seen, asked, looks, neutral)
    reading = read_expression(
        seen.face.blendshapes, seen.judgement, None if neutral is None or neutral.face is None else blendshape_vector(resting.blendshapes)
    )
    likeness = None if reference is None else float(seen.vector @ reference)
    reasons = []
    if faces > 1:
        reasons.append(SEVERAL)
    right = bool(score.right) and (asked.is_neutral or (score.strength or 0.0) >= FAINT * asked.intensity)
    if not _shows(asked, judge, right, reading.likeliest, seen):
        reasons.append(NOT_SHOWN)
    if likeness is not None and likeness < same_person:
        reasons.append(OTHER_FACE)
    return {
        "read": reading.likeliest,
        "sure": _rounded(reading.sure),
        "classified": seen.judgement.expression,
        "probability": _rounded(score.probability),
        "strength": _rounded(0.0 if asked.is_neutral else score.strength),
        "cosine": _rounded(0.0 if asked.is_neutral else score.cosine),
        "likeness": _rounded(1.0 if likeness is None else likeness),
        "pose": _rounded(0.0 if neutral is None else score.pose, 2),
        "background": _rounded(0.0 if neutral is None else score.background),
        "action_units": _units(seen.face.blendshapes, resting.blendshapes),
        "blendshapes": {name: _rounded(value, 5) for name, value in seen.face.blendshapes.items()},
        "landmarks": [[_rounded(value, 2) for value in point] for point in seen.face.landmarks.tolist()],
        "reasons": reasons,
    }


def look(judges: Judges, picture: Picture) -> tuple[Seen, int]:
    """A picture uint8 [H, W, 3] as the judges see it, and how many faces are in it."""
    faces: list[Face] = judges.detector.detect(picture)
    return judges.see(picture), len(faces)


def _shows(asked: Asked, judge: str, right: bool, likeliest: str, seen: Seen) -> bool:
    assert seen.face is not None and seen.judgement is not None
    if asked.is_neutral:
        if judge == "both":
            return likeliest == NEUTRAL
        if judge == "classifier":
            return seen.judgement.expression == NEUTRAL
        return read_change(blendshape_vector(seen.face.blendshapes) - _average()).is_neutral()
    names = {measured_as(part) for part in asked.parts}
    classified = seen.judgement.expression in names
    if judge == "classifier":
        return classified
    if judge == "blendshapes":
        return right
    if len(names) == 1:
        return likeliest in names
    return right and (classified or not names <= {*READER_CLASSES})


def _average() -> NDArray[np.float64]:
    """The average person's resting face, scaled blendshapes [K]."""
    fitted = prototypes()
    return np.asarray(fitted.resting / fitted.scale)


def _units(blendshapes: Mapping[str, float], resting: Mapping[str, float]) -> dict[str, float]:
    return {f"AU{number}": float(round(unit_strength(unit, blendshapes, resting), 4)) for number, unit in ACTION_UNITS.items()}


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else float(round(value, digits))
