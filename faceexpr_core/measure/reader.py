"""Which of seven expressions a face shows, by a small network that learned on photographs.

The second judge beside the blendshapes (`expression`), whose prototypes were fitted on renders. Network and weights are those of
`@vladmandic/face-api` 1.7.15, after Vincent Mühler's face-api.js (MIT, `reader.LICENSE.txt`): 0.3 MB, shipped here. It does not know
contempt, which it reads as happy, nor how strong an expression is; faces turned far to the side are read poorly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faces import native
from ..faces.detector import Face
from ..faces.limits import within_limits
from .reader_network import probabilities

READER_CLASSES = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
"""The seven expressions, in the order of the network's outputs."""

SIDE = 112
"""Pixels along the square that the network sees."""

MARGIN = 1.1
"""The square's side over the longer side of the face's landmarks."""

_BATCH = 64


@dataclass(frozen=True)
class Judgement:
    """What the network says of one face: `probabilities` of READER_CLASSES, in their order; they add up to 1."""

    probabilities: tuple[float, ...]

    @property
    def expression(self) -> str:
        """The likeliest of READER_CLASSES."""
        return max(READER_CLASSES, key=self.of)

    @property
    def confidence(self) -> float:
        """The likeliest one's probability, 1/7..1."""
        return max(self.probabilities)

    def of(self, expression: str) -> float:
        """Probability of one of READER_CLASSES, 0..1."""
        return self.probabilities[READER_CLASSES.index(expression)]


def judge_faces(pictures: Sequence[NDArray[np.uint8]], faces: Sequence[Face]) -> list[Judgement]:
    """A judgement for each picture's face: `pictures` uint8 [H, W, 3] RGB of any size, `faces` as found in them, one each.

    Runs on the CPU in float32, some twenty milliseconds a face.
    """
    return judge([face_square(picture, face) for picture, face in zip(pictures, faces, strict=True)])


def judge(squares: Sequence[NDArray[np.uint8]]) -> list[Judgement]:
    """A judgement for each square of `face_square`, uint8 [112, 112, 3] RGB."""
    found: list[Judgement] = []
    for start in range(0, len(squares), _BATCH):
        rows = probabilities(np.stack(squares[start : start + _BATCH]))
        found += [Judgement(tuple(row)) for row in rows.tolist()]
    return found


def face_square(picture: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    """The upright square around a face as the network wants it, uint8 [112, 112, 3]; beyond the picture its edge is repeated.

    The square is turned with the head, so that the eyes lie level.
    """
    cv2: Any = native.opencv()
    picture, fitted = within_limits(picture)
    face = face.moved(fitted)
    eyes = face.five_points()[:2].astype(np.float64)
    across = eyes[1] - eyes[0]
    turn = np.array([[across[0], across[1]], [-across[1], across[0]]]) / max(1e-6, float(np.hypot(*across)))
    turned = face.landmarks[:, :2] @ turn.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    side = MARGIN * float((high - low).max())
    scale = SIDE / side
    if scale < 1:  # warpAffine reads single pixels: shrink first, by whole averages
        shrunk = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
        scales = np.array([shrunk[0] / picture.shape[1], shrunk[1] / picture.shape[0]])
        picture = np.asarray(cv2.resize(picture, shrunk, interpolation=cv2.INTER_AREA), np.uint8)
    else:
        scales = np.ones(2)
    # Pixel centres lie at whole numbers in OpenCV, at halves in the landmarks.
    linear = scale * turn / scales
    middle = scale * (low + high) / 2
    shift = SIDE / 2 - middle - 0.5 + linear @ np.array([0.5, 0.5])
    matrix = np.concatenate([linear, shift[:, None]], axis=1)
    way = cv2.INTER_LINEAR if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=way, borderMode=cv2.BORDER_REPLICATE), np.uint8)
