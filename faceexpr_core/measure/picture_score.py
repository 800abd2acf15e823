"""How well each picture of a person shows the expression asked: what both judges read, how strong, how alike, and one score to sort by.

The score is HES (`scores.harmonic_score`) of one picture: the harmonic mean of its likeness (SFace's cosine to the person's photos) and of
an expression score (ours) that rises with the picture instead of saying right or wrong:

    blendshapes  max(0, cos) * min(a, w) / max(a, w)     cos to the prototype asked, a the intensity read and w the one asked
    units        the mean of min(s, w) / max(s, w)       over the action units asked by number, s the strength read
    classifier   p(asked) + max(0, 1 - w) p(neutral)     half an expression may look half neutral

the mean of the first two where both were asked, then the mean of that and the classifier's where it knows the expression. For neutral the
first is 1 less the intensity of the nearest expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceExprError
from ..expressions import NONE, blend_of, canonical_name, parse_unit_strengths
from ..faces.detector import Face, face_mask
from .action_units import strength_errors, unit_strength
from .expression import (
    blendshape_vector,
    measured_as,
    nearest_of,
    prototype_change,
    prototypes,
    read_change,
    strength_along,
)
from .judges import Looks, Picture, Seen
from .pictures import locality
from .pose import pose_change
from .reader import READER_CLASSES, Judgement
from .scores import BASIC_SIX, TWELVE, blendshape_distance, harmonic_score

NEUTRAL = "neutral"
_OTHER_SIDE = str.maketrans("LR", "RL")


@dataclass(frozen=True)
class Asked:
    """What pictures were asked to show: a name of the vocabulary or `none`, at an intensity (0..1.5), with action units as text, which
    share the intensity. The name may be spelled as `canonical_name` takes it, and is kept as it gives it. Raises FaceExprError for what
    is not in the vocabulary, and where nothing was asked."""

    expression: str
    intensity: float = 1.0
    action_units: str = ""

    def __post_init__(self) -> None:
        units = parse_unit_strengths(self.action_units)
        if self.expression == NONE and not units:
            raise FaceExprError("There is nothing to measure: the expression is none and no action units are given. Give one of them.")
        if not 0 <= self.intensity <= 1.5:
            raise FaceExprError(f"The intensity asked is {self.intensity:g}; it must lie between 0 and 1.5.")
        if self.expression != NONE:
            object.__setattr__(self, "expression", canonical_name(self.expression))

    @property
    def parts(self) -> tuple[str, ...]:
        """The basic expressions that the name stands for."""
        return () if self.expression == NONE else tuple(part.name for part, _ in blend_of(self.expression))

    @property
    def is_neutral(self) -> bool:
        return self.expression != NONE and (self.parts == (NEUTRAL,) or self.intensity == 0)

    @property
    def measured(self) -> bool:
        """Whether an expression is asked whose strength can be read."""
        return self.expression != NONE and not self.is_neutral

    def units(self, mirrored: bool = False) -> dict[str, float]:
        """FACS code (`12`, `R12`) -> strength asked: of the expression's own units, `mirrored` on the other side of the face, and of those
        given by number, which stand over them."""
        own: dict[str, float] = {}
        if self.measured:
            for part, weight in blend_of(self.expression):
                for unit in part.action_units:
                    code = unit.code.translate(_OTHER_SIDE) if mirrored else unit.code
                    own[code] = max(own.get(code, 0.0), min(1.0, weight * self.intensity))
        given = {unit.code: min(1.0, strength * self.intensity) for unit, strength in parse_unit_strengths(self.action_units)}
        return {code: strength for code, strength in own.items() if code.lstrip("LR") not in given} | given


@dataclass(frozen=True)
class PictureScore:
    """What was read in one picture. Without a face all is None, False or 0.

    `read`: the nearest of the seven CLASSES by blendshapes, or neutral where the change is weak and not towards what was asked;
    `read_of_six`, `read_of_twelve`: the nearest of `scores.BASIC_SIX` and `TWELVE`; `classified`: the classifier's favourite. `right`,
    `right_classifier`: whether each judge reads what was asked (None where it cannot tell: units alone; contempt by the classifier);
    `right_on_person`: as `right`, but as a change from the resting face of the person's photos. `strength`: intensity read along what was
    asked, 1 a usual full expression; `cosine` to its prototype, -1..1; `probability`: the classifier's, 0..1. `l1`: mean absolute
    difference, 0..1, of the 51 blendshapes from the resting face's plus the expression asked (ours: `expression.prototype_change`).
    `units_error`: mean over the vocabulary's action units, 0..1, 0 best, contempt on the nearer side. `likeness`: SFace's cosine to the
    person's photos. `background`: change outside the face, 0..1, and `pose`: degrees, both against the neutral picture of the same seed.
    `by_blendshapes` and `by_classifier` (each judge's part), `expression_score`, `score`: 0..1, see the file.
    """

    face: bool
    read: str | None = None
    read_of_six: str | None = None
    read_of_twelve: str | None = None
    classified: str | None = None
    right: bool | None = None
    right_classifier: bool | None = None
    right_on_person: bool | None = None
    strength: float | None = None
    cosine: float | None = None
    probability: float | None = None
    l1: float | None = None
    units_error: float | None = None
    likeness: float | None = None
    background: float | None = None
    pose: float | None = None
    by_blendshapes: float = 0.0
    by_classifier: float | None = None
    expression_score: float = 0.0
    score: float = 0.0


def score_picture(seen: Seen, asked: Asked, person: Looks, neutral: Seen | None = None) -> PictureScore:
    """Measure a picture against the person's photos.

    With `neutral`, the picture of the same seed without the expression, the expression is read as the change from it, and background and
    pose are compared; where that shows no face nothing can be read by blendshapes. Without, the change is from the photos' resting face.
    Raises FaceExprError where the two are of different size.
    """
    resting = person.resting if neutral is None else None if neutral.face is None else neutral.face.blendshapes
    if seen.face is None or seen.judgement is None:
        missed = _miss(asked)
        return PictureScore(False, right=missed, right_classifier=_miss_classified(asked), right_on_person=missed)
    read = {} if resting is None else _read_blendshapes(seen.face.blendshapes, resting, asked)
    probability = _probability(asked, seen.judgement)
    by_blendshapes, by_classifier = _by_blendshapes(asked, read, seen.face, resting), _by_classifier(asked, seen.judgement, probability)
    score = by_blendshapes if by_classifier is None else (by_blendshapes + by_classifier) / 2
    likeness = None if seen.vector is None else float(seen.vector @ person.reference)
    return PictureScore(
        True,
        **{"right": _miss(asked), **{name: value for name, value in read.items() if name != "nearest"}},
        classified=seen.judgement.expression,
        right_classifier=_right_classified(asked, seen.judgement),
        right_on_person=_right(asked, _change(seen.face.blendshapes, person.resting)),
        probability=probability,
        likeness=likeness,
        **_compared(seen, neutral),
        by_blendshapes=by_blendshapes,
        by_classifier=by_classifier,
        expression_score=score,
        score=harmonic_score(score, likeness or 0.0),
    )


def require_neutral_face(seen: Seen, name: str) -> Seen:
    """`seen`, of the neutral picture that users call so. Raises FaceExprError where it shows no face, which would spoil every score."""
    if seen.face is None:
        raise FaceExprError(
            f"no face was found in the neutral picture {name}, so that no change from it can be read. Give another neutral picture, or "
            "none: then the resting face is guessed from the photos."
        )
    return seen


def best_first(scores: Sequence[PictureScore]) -> list[int]:
    """Numbers of the pictures from the best score to the worst; of equal ones the earlier first."""
    return sorted(range(len(scores)), key=lambda number: -scores[number].score)


def told(scores: Sequence[PictureScore], names: Sequence[str]) -> str:
    """A line a picture, best first, for people to read."""
    lines = []
    for place, number in enumerate(best_first(scores), start=1):
        one = scores[number]
        if not one.face:
            lines.append(f"{place}. {names[number]}: no face found")
            continue
        strength = "" if one.strength is None else f" at strength {max(0.0, one.strength):.2f}"
        likeness = "none read" if one.likeness is None else f"{one.likeness:.2f}"
        lines.append(
            f"{place}. {names[number]}: score {one.score:.2f} (expression {one.expression_score:.2f}, likeness {likeness}); read as "
            f"{one.read or 'unknown'}{strength}, by the classifier {one.classified}"
        )
    return "\n".join(lines)


def _read_blendshapes(blendshapes: Mapping[str, float], resting: Mapping[str, float], asked: Asked) -> dict[str, Any]:
    change = _change(blendshapes, resting)
    reading, right, moved = read_change(change), _right(asked, change), _moves(change)
    read: dict[str, Any] = {
        "read": NEUTRAL if reading.is_neutral() and not (asked.measured and right) else reading.expression,
        "read_of_six": nearest_of(change, BASIC_SIX) if moved else None,
        "read_of_twelve": nearest_of(change, TWELVE) if moved else None,
        "right": right,
        "nearest": reading.intensity,
    }
    if asked.measured:
        read["strength"], read["cosine"] = strength_along(change, asked.expression)
    target = dict(resting)
    if asked.measured:
        for name, change_of in prototype_change(asked.expression, change).items():
            target[name] = min(1.0, max(0.0, resting[name] + asked.intensity * change_of))
    for unit, strength in parse_unit_strengths(asked.action_units):
        for name, weight in unit.blendshapes.items():
            target[name] = min(1.0, resting[name] + weight * strength * asked.intensity)
    names = prototypes().blendshapes
    read["l1"] = blendshape_distance({name: blendshapes[name] for name in names}, {name: target[name] for name in names})
    read["units_error"] = _units_error(asked, blendshapes, resting)
    return read


def _units_error(asked: Asked, blendshapes: Mapping[str, float], resting: Mapping[str, float]) -> float:
    """On the nearer side, as the prototypes take contempt."""
    sides = (strength_errors(asked.units(mirrored), blendshapes, resting) for mirrored in (False, True))
    return min(float(np.mean(list(errors.values()))) for errors in sides)


def _moves(change: NDArray[np.float64]) -> bool:
    """Whether there is a change at all: none has no direction, and is near to no expression."""
    return bool(np.linalg.norm(change) > 1e-6)


def _change(blendshapes: Mapping[str, float], resting: Mapping[str, float]) -> NDArray[np.float64]:
    return blendshape_vector(blendshapes) - blendshape_vector(resting)


def _right(asked: Asked, change: NDArray[np.float64]) -> bool | None:
    if asked.expression == NONE:
        return None
    if asked.is_neutral:
        return read_change(change).hits(NEUTRAL)
    if not _moves(change):
        return False
    if len(asked.parts) == 1:
        return read_change(change).hits(asked.parts[0])
    return nearest_of(change, tuple(dict.fromkeys((*TWELVE, asked.expression)))) == asked.expression


def _miss(asked: Asked) -> bool | None:
    return None if asked.expression == NONE else False


def _known_to_classifier(asked: Asked) -> tuple[str, ...]:
    """The classes that count as right for it; () where it cannot tell."""
    if asked.expression == NONE:
        return ()
    if asked.is_neutral:
        return (NEUTRAL,)
    return tuple(dict.fromkeys(name for part in asked.parts if (name := measured_as(part)) in READER_CLASSES))


def _miss_classified(asked: Asked) -> bool | None:
    return False if _known_to_classifier(asked) else None


def _right_classified(asked: Asked, judgement: Judgement) -> bool | None:
    known = _known_to_classifier(asked)
    return judgement.expression in known if known else None


def _probability(asked: Asked, judgement: Judgement) -> float | None:
    """Of a compound its parts' together; None for what it does not know."""
    known = _known_to_classifier(asked)
    return sum(judgement.of(name) for name in known) if known else None


def _by_blendshapes(asked: Asked, read: Mapping[str, Any], face: Face, resting: Mapping[str, float] | None) -> float:
    parts = []
    if read and asked.measured:
        parts.append(max(0.0, read["cosine"]) * _share(read["strength"], asked.intensity))
    if read and asked.is_neutral:
        parts.append(min(1.0, max(0.0, 1 - read["nearest"])))
    if resting is not None and (units := parse_unit_strengths(asked.action_units)):
        shares = [_share(unit_strength(unit, face.blendshapes, resting), strength * asked.intensity) for unit, strength in units]
        parts.append(float(np.mean(shares)))
    return float(np.mean(parts)) if parts else 0.0


def _by_classifier(asked: Asked, judgement: Judgement, probability: float | None) -> float | None:
    if probability is None:
        return None
    calm = max(0.0, 1 - asked.intensity) * judgement.of(NEUTRAL) if asked.measured else 0.0
    return min(1.0, probability + calm)


def _share(read: float, asked: float) -> float:
    return min(read, asked) / max(read, asked) if read > 0 and asked > 0 else 0.0


def _compared(seen: Seen, neutral: Seen | None) -> dict[str, Any]:
    if neutral is None or neutral.face is None or seen.face is None:
        return {}
    if seen.picture.shape != neutral.picture.shape:
        raise FaceExprError(
            f"A picture of {_size(seen.picture)} came with a neutral one of {_size(neutral.picture)}; draw both from the same noise, "
            "in one size."
        )
    mask = face_mask(neutral.face, *neutral.picture.shape[:2])
    found: dict[str, Any] = {"pose": pose_change(seen.face, neutral.face)}
    if 0 < float(mask.mean()) < 1:
        found["background"] = locality(seen.picture, neutral.picture, mask).outside
    return found


def _size(picture: Picture) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]} pixels"
