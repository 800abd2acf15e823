"""Which expression a face shows, and how strongly.

The measure (ours) is the *change* of MediaPipe's blendshapes from the same person's neutral picture, because a
resting face is part of the identity. Its prototypes and scales were fitted on rendered faces with known truth (`fitted.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceExprError
from ..expressions import blend_of
from ..faces.detector import Face, FaceDetector
from .fitted import stored

CLASSES = ("happy", "sad", "angry", "surprised", "fearful", "disgusted", "contempt")
"""The expressions told apart; a prompt's other words are judged as one of them by `measured_as`."""

NEUTRAL_BELOW = 0.4
"""A change weaker than this share of a usual full expression counts as neutral (chosen on tuning renders)."""

_SAME_AS = {"shocked": "surprised", "contemptuous": "contempt"}


@dataclass(frozen=True, eq=False)
class Prototypes:
    """`scale`, `resting` [K], `vectors` [7, K] (scaled, in the order of CLASSES), `mirror` [K] index of each blendshape's other side."""

    blendshapes: tuple[str, ...]
    scale: NDArray[np.float64]
    resting: NDArray[np.float64]
    vectors: NDArray[np.float64]
    mirror: NDArray[np.intp]


@dataclass(frozen=True)
class ExpressionReading:
    """`expression`: the nearest of CLASSES, or None where no face was found in either picture.

    `scores`: cosine to each prototype (-1..1). `intensity`: how far the face moved along the nearest prototype, 1 = a usual full
    expression. `moved`: length of the scaled change.
    """

    expression: str | None
    scores: dict[str, float]
    intensity: float
    moved: float

    def is_neutral(self) -> bool:
        return self.expression is not None and self.intensity < NEUTRAL_BELOW

    def hits(self, asked: str) -> bool:
        """Whether the asked expression is the one measured; no face is a miss, and neutral is hit by a weak change."""
        if self.expression is None:
            return False
        return self.is_neutral() if asked == "neutral" else self.expression == measured_as(asked)


NO_FACE = ExpressionReading(None, {}, 0.0, 0.0)


def measured_as(expression: str) -> str:
    """The one of CLASSES by which a word of the vocabulary is judged (shocked counts as surprised). Raises FaceExprError for others."""
    name = _SAME_AS.get(expression, expression)
    if name not in CLASSES:
        raise FaceExprError(f"'{expression}' cannot be measured as one expression. Those told apart are: {', '.join(CLASSES)}.")
    return name


@cache
def prototypes() -> Prototypes:
    """The fitted prototypes that ship with the package."""
    return prototypes_from(stored()["expression"])


def prototypes_from(values: Mapping[str, Any]) -> Prototypes:
    """Prototypes from plain lists: `blendshapes`, `scale`, `resting`, `prototypes` (a list for each of CLASSES)."""
    names = tuple(values["blendshapes"])
    return Prototypes(
        blendshapes=names,
        scale=np.array(values["scale"], np.float64),
        resting=np.array(values["resting"], np.float64),
        vectors=np.array([values["prototypes"][name] for name in CLASSES], np.float64),
        mirror=np.array([names.index(_other_side(name)) for name in names]),
    )


def blendshape_vector(blendshapes: Mapping[str, float]) -> NDArray[np.float64]:
    """Scaled blendshapes [K] in the prototypes' order; the difference of two such vectors is a change of expression."""
    fitted = prototypes()
    return np.array([blendshapes[name] for name in fitted.blendshapes], np.float64) / fitted.scale


def along_prototypes(changes: NDArray[np.float64], fitted: Prototypes | None = None) -> NDArray[np.float64]:
    """[n, 7]: length of each scaled change [n, K] along each prototype, in the order of CLASSES; contempt counts on either side."""
    fitted = fitted or prototypes()
    directions = fitted.vectors / np.linalg.norm(fitted.vectors, axis=1, keepdims=True)
    along = changes @ directions.T
    contempt = CLASSES.index("contempt")
    along[:, contempt] = np.maximum(along[:, contempt], changes[:, fitted.mirror] @ directions[contempt])
    return np.asarray(along)


def read_change(change: NDArray[np.float64], fitted: Prototypes | None = None) -> ExpressionReading:
    """Nearest prototype by cosine of a scaled change [K]; contempt, which is one-sided, counts on either side."""
    fitted = fitted or prototypes()
    moved = float(np.linalg.norm(change))
    along, lengths = along_prototypes(change[None], fitted)[0], np.linalg.norm(fitted.vectors, axis=1)
    cosines = along / max(moved, 1e-9)
    nearest = int(cosines.argmax())
    return ExpressionReading(
        expression=CLASSES[nearest],
        scores=dict(zip(CLASSES, cosines.tolist(), strict=True)),
        intensity=float(along[nearest] / lengths[nearest]),
        moved=moved,
    )


def nearest_of(change: NDArray[np.float64], names: Sequence[str]) -> str:
    """The one of `names` (any of the vocabulary, compounds too) whose prototype has the highest cosine to a scaled change [K].

    A compound's prototype is the weighted sum of its parts' (ours); one-sided ones count on either side. Raises FaceExprError for a name
    that the vocabulary lacks.
    """
    fitted = prototypes()
    wanted = np.stack([_prototype_of(name, fitted) for name in names])
    cosines = np.maximum(wanted @ change, wanted[:, fitted.mirror] @ change) / np.linalg.norm(wanted, axis=1)
    return names[int(cosines.argmax())]


def intensity_of(face: Face, neutral: Face, expression: str) -> float:
    """How far `face` moved from `neutral` along the expression asked, 1 = a usual full expression (for rank correlation with intensity)."""
    fitted = prototypes()
    index = CLASSES.index(measured_as(expression))
    change = blendshape_vector(face.blendshapes) - blendshape_vector(neutral.blendshapes)
    return float(along_prototypes(change[None], fitted)[0, index] / np.linalg.norm(fitted.vectors[index]))


def strength_along(change: NDArray[np.float64], name: str) -> tuple[float, float]:
    """How far a scaled change [K] goes along a name of the vocabulary, also a compound (1 = a usual full expression); its cosine, -1..1."""
    wanted = _nearer_side(name, change)
    length = float(np.linalg.norm(wanted))
    along = float(change @ wanted) / length
    return along / length, along / max(float(np.linalg.norm(change)), 1e-9)


def prototype_change(name: str, change: NDArray[np.float64]) -> dict[str, float]:
    """What a usual full expression of a name changes in each blendshape (-1..1), as the prototypes have it; contempt on the side that is
    nearer to a scaled change [K] (ours)."""
    fitted = prototypes()
    return dict(zip(fitted.blendshapes, (_nearer_side(name, change) * fitted.scale).tolist(), strict=True))


class ExpressionMeter:
    """Reads expressions from pictures (uint8 [H, W, 3], RGB). Use it as a context manager, or call `close`."""

    def __init__(self, folders: Iterable[str | os.PathLike[str]] = (), detector: FaceDetector | None = None) -> None:
        self._own = detector is None
        self.detector = detector or FaceDetector(folders)

    def __enter__(self) -> ExpressionMeter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._own:
            self.detector.close()

    def face(self, picture: NDArray[np.uint8]) -> Face | None:
        """The largest face, or None."""
        return next(iter(self.detector.detect(picture)), None)

    def measure(self, picture: NDArray[np.uint8] | Face | None, neutral: NDArray[np.uint8] | Face | None) -> ExpressionReading:
        """Expression of a picture against the same person's neutral one; each is a picture or the face already found in it."""
        face, rest = (self.face(p) if isinstance(p, np.ndarray) else p for p in (picture, neutral))
        if face is None or rest is None:
            return NO_FACE
        return read_change(blendshape_vector(face.blendshapes) - blendshape_vector(rest.blendshapes))


def _prototype_of(name: str, fitted: Prototypes) -> NDArray[np.float64]:
    parts = [weight * fitted.vectors[CLASSES.index(measured_as(part.name))] for part, weight in blend_of(name)]
    return np.asarray(np.sum(parts, axis=0))


def _nearer_side(name: str, change: NDArray[np.float64]) -> NDArray[np.float64]:
    """A name's prototype [K]; one-sided contempt on the side that is nearer to a scaled change [K]."""
    fitted = prototypes()
    wanted = _prototype_of(name, fitted)
    if any(measured_as(part.name) == "contempt" for part, _ in blend_of(name)):
        wanted = max(wanted, wanted[fitted.mirror], key=lambda side: float(side @ change))
    return wanted


def _other_side(blendshape: str) -> str:
    if "Left" in blendshape:
        return blendshape.replace("Left", "Right")
    return blendshape.replace("Right", "Left")
