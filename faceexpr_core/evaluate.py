"""Measuring what was drawn: which expression, how strong, and whether it is still the same person.

The measure of expression (method.md section 7, ours) is the *change* of MediaPipe's blendshapes from the same person's neutral
picture, because a resting face is part of the identity. Its prototypes and scales, and the two ends of the identity scale, were
fitted on rendered faces with known truth: `prototypes.json`, made by `faceexpr_core/mini/recipe/fit_prototypes.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import models, native
from .errors import FaceExprError
from .faces import YUNET_MIN_SIDE, Face, FaceDetector

CLASSES = ("happy", "sad", "angry", "surprised", "fearful", "disgusted", "contempt")
"""The expressions told apart; a prompt's other words are judged as one of them by `measured_as`."""

NEUTRAL_BELOW = 0.4
"""A change weaker than this share of a usual full expression counts as neutral (chosen on tuning renders)."""

RESTING_PENALTY = 0.06
"""Weight of a resting face's distance from the average one in `resting_face` (chosen on tuning renders)."""

CLEAR_EXPRESSION = 0.7
"""A photo whose change from the average resting face has a higher cosine than this to a prototype is no resting face."""

_PROTOTYPES_FILE = Path(__file__).parent / "prototypes.json"
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
class IdentityScale:
    """Usual SFace similarity of a picture to the mean of a person's other photos (`mu_same`) and of another person's (`mu_diff`).

    Fitted on renders with five pictures a person, so that `mu_same` is to the mean of four; a mean of six lies a little nearer.
    """

    mu_same: float
    mu_diff: float


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
    return prototypes_from(_stored()["expression"])


@cache
def identity_scale() -> IdentityScale:
    """The fitted ends of the identity scale that ship with the package."""
    values = _stored()["identity"]
    return IdentityScale(values["mu_same"], values["mu_diff"])


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


def blendshape_vector(blendshapes: Mapping[str, float], fitted: Prototypes | None = None) -> NDArray[np.float64]:
    """Scaled blendshapes [K] in the prototypes' order; the difference of two such vectors is a change of expression."""
    fitted = fitted or prototypes()
    return np.array([blendshapes[name] for name in fitted.blendshapes], np.float64) / fitted.scale


def read_change(change: NDArray[np.float64], fitted: Prototypes | None = None) -> ExpressionReading:
    """Nearest prototype by cosine of a scaled change [K]; contempt, which is one-sided, counts on either side."""
    fitted = fitted or prototypes()
    moved = float(np.linalg.norm(change))
    along, lengths = _along(change[None], fitted)[0], np.linalg.norm(fitted.vectors, axis=1)
    cosines = along / max(moved, 1e-9)
    nearest = int(cosines.argmax())
    return ExpressionReading(
        expression=CLASSES[nearest],
        scores=dict(zip(CLASSES, cosines.tolist(), strict=True)),
        intensity=float(along[nearest] / lengths[nearest]),
        moved=moved,
    )


def intensity_of(face: Face, neutral: Face, expression: str) -> float:
    """How far `face` moved from `neutral` along the expression asked, 1 = a usual full expression (for rank correlation with intensity)."""
    fitted = prototypes()
    index = CLASSES.index(measured_as(expression))
    change = blendshape_vector(face.blendshapes) - blendshape_vector(neutral.blendshapes)
    return float(_along(change[None], fitted)[0, index] / np.linalg.norm(fitted.vectors[index]))


def resting_face(blendshapes: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """A person's resting face [K] (scaled) guessed from n photos with unknown expressions (ours).

    Candidates r are the average person's resting face r0 and each photo that is no clear expression against r0; the one with the least
    `sum_i min_c |x_i - r - a_c p_c|^2 + n RESTING_PENALTY |r - r0|^2` (a_c >= 0) explains the photos as expressions best.
    On renders of 60 reporting identities, naming four photos each: 81 % right with a neutral one among them, 72 % without.
    """
    fitted = prototypes()
    photos = np.stack([blendshape_vector(shapes) for shapes in blendshapes])
    average = fitted.resting / fitted.scale

    def may_rest(photo: NDArray[np.float64]) -> bool:
        reading = read_change(photo - average)
        return reading.is_neutral() or max(reading.scores.values()) <= CLEAR_EXPRESSION

    def cost(resting: NDArray[np.float64]) -> float:
        changes = photos - resting
        explained = np.clip(_along(changes, fitted).max(axis=1), 0, None) ** 2
        return float((changes**2).sum() - explained.sum() + len(photos) * RESTING_PENALTY * ((resting - average) ** 2).sum())

    return min([average, *filter(may_rest, photos)], key=cost)


def name_expressions(blendshapes: Sequence[Mapping[str, float]]) -> list[str]:
    """Name each photo's expression (`neutral` or one of CLASSES) from one person's absolute blendshapes, without a known neutral photo."""
    resting = resting_face(blendshapes)
    readings = [read_change(blendshape_vector(shapes) - resting) for shapes in blendshapes]
    return ["neutral" if reading.is_neutral() else str(reading.expression) for reading in readings]


def spearman(asked: Sequence[float], measured: Sequence[float]) -> float:
    """Spearman's rank correlation, -1..1; 0 where either does not vary. Raises FaceExprError for fewer than three pairs."""
    if len(asked) != len(measured) or len(asked) < 3:
        raise FaceExprError(f"Rank correlation needs at least three pairs; {len(asked)} and {len(measured)} values were given.")
    if np.ptp(asked) == 0 or np.ptp(measured) == 0:
        return 0.0
    from scipy.stats import spearmanr

    return float(spearmanr(asked, measured).statistic)


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


class IdentityMeter:
    """Compares faces with SFace (OpenCV's FaceRecognizerSF). Use it as a context manager, or call `close`."""

    def __init__(self, folders: Iterable[str | os.PathLike[str]] = (), detector: FaceDetector | None = None) -> None:
        folders = tuple(folders)
        sface = models.find("sface", folders)
        self._own = detector is None
        self.detector = detector or FaceDetector(folders)
        self._cv2: Any = native.opencv()
        with native.without_log_lines():
            self._sface: Any = self._cv2.FaceRecognizerSF.create(str(sface), "")

    def __enter__(self) -> IdentityMeter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._own:
            self.detector.close()

    def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Unit vector [128] of the largest face, aligned by YuNet's five points, else MediaPipe's; None without a face."""
        points = self.detector.five_points(picture)
        if points is None:
            faces = self.detector.detect(picture)
            if not faces:
                return None
            points = faces[0].five_points()
        scale = max(1.0, YUNET_MIN_SIDE / min(picture.shape[:2]))
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        bgr = np.ascontiguousarray(self._cv2.resize(picture, size, interpolation=self._cv2.INTER_CUBIC)[:, :, ::-1])
        row = np.zeros((1, 15), np.float32)  # box, five points, score; alignCrop uses the points alone
        row[0, 4:14] = (points * scale).reshape(-1)
        vector = np.asarray(self._sface.feature(self._sface.alignCrop(bgr, row))[0], np.float32)
        return vector / np.float32(np.linalg.norm(vector))

    def reference(self, pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Unit vector [128]: the mean of a person's photos. Raises FaceExprError where none shows a face."""
        vectors = [vector for picture in pictures if (vector := self.embed(picture)) is not None]
        if not vectors:
            raise FaceExprError("No face was found in any of the subject's photos, so that there is nothing to compare with.")
        mean = np.mean(vectors, axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    def similarity(self, picture: NDArray[np.uint8], reference: NDArray[np.float32]) -> float | None:
        """Cosine of a picture's face with a reference vector, -1..1; None without a face."""
        vector = self.embed(picture)
        return None if vector is None else float(vector @ reference)


def normalised(similarity: float | None) -> float:
    """Similarity on the scale where another person is 0 and another photo of the same person is 1; 0 where no face was found."""
    if similarity is None:
        return 0.0
    scale = identity_scale()
    return (similarity - scale.mu_diff) / (scale.mu_same - scale.mu_diff)


def identity_drop(neutral: float | None, expressive: float | None) -> float:
    """What an expression costs of the likeness: normalised similarity of the neutral picture less that of the expressive one.

    Both are SFace cosines to the subject's photos, None where no face was found.
    """
    return normalised(neutral) - normalised(expressive)


def donor_leak(
    picture: NDArray[np.floating[Any]] | None, without_fusion: NDArray[np.floating[Any]] | None, donor: NDArray[np.floating[Any]]
) -> float | None:
    """How much nearer to the donor fusion brought a face: cos(picture, donor) - cos(same picture without fusion, donor).

    Unit vectors [128] of `IdentityMeter.embed`; None where either picture shows no face.
    """
    if picture is None or without_fusion is None:
        return None
    return float((picture - without_fusion) @ donor)


@dataclass(frozen=True)
class Locality:
    """Mean absolute change of a picture, in shares of full scale (0..1), `inside` a mask and `outside` it."""

    inside: float
    outside: float

    @property
    def ratio(self) -> float:
        """Change outside over change inside: 0 where nothing else was touched, 1 where the mask made no difference."""
        return self.outside / max(self.inside, 1 / 255 / 100)


def locality(picture: NDArray[np.uint8], neutral: NDArray[np.uint8], mask: NDArray[np.floating[Any]]) -> Locality:
    """Where a picture differs from its neutral one, both uint8 [H, W, 3]; `mask` [H, W] in 0..1 is where it should.

    Raises FaceExprError where the mask leaves no inside or no outside, or sizes differ.
    """
    inside = mask.astype(np.float64)
    if picture.shape != neutral.shape or inside.shape != picture.shape[:2] or not 0 < inside.mean() < 1:
        raise FaceExprError(
            f"pictures of {picture.shape} and {neutral.shape} cannot be compared under a mask of {mask.shape} that covers "
            f"{inside.mean():.0%}; all must be of one size, and the mask must cover a part."
        )
    change = np.abs(picture.astype(np.float64) - neutral).mean(axis=2) / 255
    return Locality(float(np.average(change, weights=inside)), float(np.average(change, weights=1 - inside)))


def diversity(pictures: Sequence[NDArray[np.uint8]]) -> float:
    """Mean over all pairs of the root mean square difference in shares of full scale (0..1): how much pictures of one prompt vary with the
    seed. uint8 [H, W, 3] of one size. Raises FaceExprError for fewer than two."""
    if len(pictures) < 2:
        raise FaceExprError(f"Diversity compares pictures with each other; {len(pictures)} was given, two or more are needed.")
    scaled = [picture.astype(np.float64) / 255 for picture in pictures]
    return float(np.mean([np.sqrt(np.mean((a - b) ** 2)) for a, b in combinations(scaled, 2)]))


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(groups: Sequence[Sequence[float]], level: float = 0.95, resamples: int = 4000, seed: int = 0) -> Interval:
    """Mean of the groups' means with its percentile interval, resampling whole groups (Efron's bootstrap).

    A group holds the values of one subject, whose pictures are alike and so no independent draws. For a difference of two arms give
    each subject's differences. Raises FaceExprError without values.
    """
    means = np.array([np.mean(group) for group in groups if len(group)], np.float64)
    if not len(means):
        raise FaceExprError("There are no values to take an interval of.")
    drawn = np.random.default_rng(seed).integers(0, len(means), (resamples, len(means)))
    low, high = np.quantile(means[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(means.mean()), float(low), float(high))


def _along(changes: NDArray[np.float64], fitted: Prototypes) -> NDArray[np.float64]:
    """[n, 7]: length of each scaled change [n, K] along each prototype."""
    directions = fitted.vectors / np.linalg.norm(fitted.vectors, axis=1, keepdims=True)
    along = changes @ directions.T
    contempt = CLASSES.index("contempt")
    along[:, contempt] = np.maximum(along[:, contempt], changes[:, fitted.mirror] @ directions[contempt])
    return np.asarray(along)


def _other_side(blendshape: str) -> str:
    if "Left" in blendshape:
        return blendshape.replace("Left", "Right")
    return blendshape.replace("Right", "Left")


@cache
def _stored() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(_PROTOTYPES_FILE.read_text(encoding="utf-8"))
    return stored
