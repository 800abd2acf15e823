"""Whether a face is still the same person: SFace's cosine, and the scale on which it is read (`fitted.py`)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceExprError
from ..faces import models, native
from ..faces.detector import YUNET_MIN_SIDE, Face, FaceDetector
from ..faces.limits import within_limits
from .fitted import stored


@dataclass(frozen=True)
class IdentityScale:
    """Usual SFace similarity of a picture to the mean of a person's other photos (`mu_same`) and of another person's (`mu_diff`).

    Fitted on renders with five pictures a person, so that `mu_same` is to the mean of four; a mean of six lies a little nearer.
    """

    mu_same: float
    mu_diff: float


@cache
def identity_scale() -> IdentityScale:
    """The fitted ends of the identity scale that ship with the package."""
    values = stored()["identity"]
    return IdentityScale(values["mu_same"], values["mu_diff"])


class IdentityMeter:
    """Compares faces with SFace (OpenCV's FaceRecognizerSF). Use it as a context manager, or call `close`."""

    def __init__(self, folders: Iterable[str | os.PathLike[str]] = (), detector: FaceDetector | None = None) -> None:
        folders = tuple(folders)
        sface = models.find("sface", folders)
        self._own = detector is None
        self.detector = detector or FaceDetector(folders)
        self._cv2: Any = native.opencv()
        with native.without_log_lines():
            self._sface: Any = native.network(self._cv2.FaceRecognizerSF, sface)

    def __enter__(self) -> IdentityMeter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._own:
            self.detector.close()

    def embed(self, picture: NDArray[np.uint8], face: Face | None = None) -> NDArray[np.float32] | None:
        """Unit vector [128] of a `face` of the picture, by default the largest, aligned by YuNet's five points, else MediaPipe's; None
        without a face."""
        points = self.detector.five_points(picture, None if face is None else face.box)
        if points is None:
            found = self.detector.detect(picture) if face is None else [face]
            if not found:
                return None
            points = found[0].five_points()
        scale = max(1.0, YUNET_MIN_SIDE / min(picture.shape[:2]))
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        return self.embed_points(self._cv2.resize(picture, size, interpolation=self._cv2.INTER_CUBIC), points * scale)

    def embed_points(self, picture: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit vector [128] of the face with these five points [5, 2], in pixels and in YuNet's order."""
        picture, scale = within_limits(picture)
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        row = np.zeros((1, 15), np.float32)  # box, five points, score; alignCrop uses the points alone
        row[0, 4:14] = scale * points.reshape(-1)
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
    """Likeness: SFace's cosine on the scale where another person is 0 and another photo of the same person is 1; 0 without a face.

    May fall below 0 and exceed 1. Ours, fitted on renders (`identity_scale`), whose people are more alike than real ones: of photographs
    OpenCV calls a cosine above 0.363 the same person (Zhong et al., "SFace", TIP 2021, by OpenCV's threshold for LFW). What the cosine to
    the mean of a person's other photos means on photographs of 17 real people (`python -m lab.benchmarks.photographs`): another photo of
    the person 0.75, nine in ten from 0.6 and a quarter from 0.8; another person 0.06 and never 0.363 in 1,040. Weak: a strong
    expression, a side face or glasses lower it for the same person.
    """
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
