"""Pictures that lie on their side or upside down, without a word of it in the file, turned upright by their faces (ours).

YuNet learned on upright faces and is the surer of a face the more upright it is: on photographs and renders of two worlds its score was
0.92 to 0.95 upright, 0.88 to 0.93 at a tilt of 30 degrees, and at most 0.90 upside down or on the side. MediaPipe measures the tilt that
is left after quarter turns, but of faces upside down it fits the mesh the wrong way up. `python -m lab.benchmarks.album_faces` measures it
on renders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import native
from .detector import Face, FaceDetector
from .limits import LONGEST, within_limits

SURE_SCORE = 0.92
"""From this score of YuNet on, with eyes nearly level, a picture stands upright: it is not looked at otherwise."""

TILT = 25.0
"""Degrees up to which a picture is left as it stands: people tilt their heads."""

LEAD = 0.015
"""By how much another way must raise YuNet's score."""

_CONTENDER = 0.06
_LEVEL = 20.0
_STEEPEST = 60.0
_ROUNDS = 2
_LEAST_HALF = 0.75


@dataclass(frozen=True, eq=False)
class Upright:
    """A picture `rgb` uint8 [H, W, 3] as it should stand, and the degrees 0..360 by which it was turned clockwise for that."""

    rgb: NDArray[np.uint8]
    turned: int = 0


def turned_upright(rgb: NDArray[np.uint8], detector: FaceDetector) -> Upright:
    """The picture turned so that its clearest face is upright: by quarter turns whole, by other angles as the square around that face
    that lies inside the picture (its edge is mirrored where the face is too near to it). Unchanged where no face is surer so."""
    score, roll = _best(detector, rgb)
    if score >= SURE_SCORE and abs(roll) <= _LEVEL:
        return Upright(rgb)
    scores = [score, *(_best(detector, _quarters(rgb, turns))[0] for turns in (1, 2, 3))]
    if max(scores) == 0:
        return Upright(rgb)
    found = [(turns, _largest_levelled(_quarters(rgb, turns), detector)) for turns in range(4) if scores[turns] >= max(scores) - _CONTENDER]
    ways = [(turns, *one) for turns, one in found if one is not None]
    if not ways:
        return Upright(rgb)
    turns, angle, _, face = max(ways, key=lambda way: way[2] + (LEAD if way[0] == 0 and abs(way[1]) <= TILT else 0))
    if abs(angle) <= TILT:
        return Upright(_quarters(rgb, turns), 90 * turns)
    return Upright(_square_upright(_quarters(rgb, turns), face, angle), round(90 * turns - angle) % 360)


def whole_upright(rgb: NDArray[np.uint8], turned: int) -> Upright:
    """All of the picture, turned by the quarters that are nearest to `turned` degrees clockwise."""
    turns = round(turned / 90) % 4
    return Upright(_quarters(rgb, turns), 90 * turns)


def levelled(picture: Upright, face: Face, detector: FaceDetector) -> Upright:
    """The square around one face of the picture, turned so that it is level; the picture where the face is tilted by TILT or less."""
    angle, _ = _level(picture.rgb, face, detector)
    if abs(angle) <= TILT:
        return picture
    return Upright(_square_upright(picture.rgb, face, angle), round(picture.turned - angle) % 360)


def roll_of(face: Face) -> float:
    """Degrees by which the line of the eyes falls to the right of the picture, -180..180: the head's tilt in the picture."""
    return _fall(face.five_points())


def _largest_levelled(rgb: NDArray[np.uint8], detector: FaceDetector) -> tuple[float, float, Face] | None:
    """The largest face's roll in degrees, YuNet's score once it is level, and the face; None where MediaPipe sees none to level."""
    faces = detector.detect(rgb)
    if not faces or abs(roll_of(faces[0])) > _STEEPEST:
        return None
    angle, square = _level(rgb, faces[0], detector)
    return angle, _best(detector, square)[0], faces[0]


def _level(rgb: NDArray[np.uint8], face: Face, detector: FaceDetector) -> tuple[float, NDArray[np.uint8]]:
    """A face's roll in degrees, and the square closely around it turned by that."""
    angle, square, seen = 0.0, rgb, [face]
    for _ in range(_ROUNDS):  # of a face far from level MediaPipe measures too little
        if not seen:
            break
        angle += roll_of(seen[0])
        square = _square_upright(rgb, face, angle, 1.2)
        seen = [middle_face(faces, square)] if (faces := detector.detect(square)) else []
    return angle, square


def middle_face(faces: Sequence[Face], rgb: NDArray[np.uint8]) -> Face:
    """The one that is nearest to the picture's middle."""
    height, width = rgb.shape[:2]
    return min(faces, key=lambda face: float(np.hypot(face.centre[0] - width / 2, face.centre[1] - height / 2)))


def _best(detector: FaceDetector, rgb: NDArray[np.uint8]) -> tuple[float, float]:
    """YuNet's highest score, and that face's roll; (0, 0) where it finds none."""
    rows = detector.rows(rgb)
    if not len(rows):
        return 0.0, 0.0
    row = rows[rows[:, 14].argmax()]
    return float(row[14]), _fall(row[4:14].reshape(5, 2))


def _fall(points: NDArray[np.float32]) -> float:
    across = points[1] - points[0]
    return float(np.degrees(np.arctan2(across[1], across[0])))


def _quarters(rgb: NDArray[np.uint8], turns: int) -> NDArray[np.uint8]:
    """Turned clockwise by quarters."""
    return np.ascontiguousarray(np.rot90(rgb, -turns))


def _square_upright(rgb: NDArray[np.uint8], face: Face, angle: float, most: float = np.inf) -> NDArray[np.uint8]:
    """The square around a face that lies inside the picture, turned so that a line falling by `angle` becomes level. Its half side is
    at least `_LEAST_HALF` of the face's size, and at most `most` of it."""
    cv2: Any = native.opencv()
    rgb, scale = within_limits(rgb)
    height, width = rgb.shape[:2]
    (x, y), size = face.moved(scale).centre, scale * face.size
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    room = min(x, y, width - x, height - y) / (abs(cosine) + abs(sine))
    half = max(_LEAST_HALF * size, min(room, most * size))
    side = min(LONGEST, max(8, round(2 * half)))
    linear = np.array([[cosine, sine], [-sine, cosine]])
    shift = side / 2 - 0.5 - linear @ np.array([x - 0.5, y - 0.5])
    matrix = np.concatenate([linear, shift[:, None]], axis=1)
    turned = cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turned, np.uint8)
