"""How a head is turned, by its landmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..faces.detector import Face

RIGID_POINTS = (127, 356, 33, 133, 362, 263, 168, 6, 197, 195, 4, 234, 454)
"""Landmarks that expressions hardly move: temples, cheekbones, corners of the eyes, bridge and tip of the nose. Not the forehead, which
raised brows carry along."""


def pose_change(face: Face, neutral: Face) -> float:
    """Degrees, 0..180, by which the head is turned from the neutral picture's of the same seed, 0 best where only the expression should
    change: the angle of the rotation that fits the rigid landmarks (Kabsch 1976), scale and place left free.

    The average pose distance of face reenactment (Ren et al., "PIRenderer", ICCV 2021) as one angle. Weak: depths are MediaPipe's guess.
    On renders of six people an expression alone reads as 2 degrees (at most 5), a turn of 10 degrees as 8 to 12, a nod of 6 as 2 to 5.
    """
    first, second = _centred(face), _centred(neutral)
    left, _, right = np.linalg.svd(first.T @ second)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ flip @ right
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def _centred(face: Face) -> NDArray[np.float64]:
    points = face.landmarks[list(RIGID_POINTS)].astype(np.float64)
    return np.asarray(points - points.mean(axis=0))
