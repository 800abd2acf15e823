"""What makes a photo of a face hard to learn from: the head tilted, turned away, or covered in part (ours)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..faces.detector import Face
from ..faces.upright import roll_of

TILTED, TURNED_AWAY = 20.0, 35.0
"""Degrees from which a head's tilt in the picture and its turn to the side are told."""

COVERED_SCORE = 0.92
"""YuNet's score below which an upright face that looks into the camera is called partly covered. Renders and photographs in the open
reached 0.92 and more, plain heads without photographic skins 0.918; with a mask or sunglasses drawn on them 0.81 to 0.93, most of them
less than this."""


def conditions(face: Face, row: NDArray[np.float32] | None) -> tuple[str, ...]:
    """What is to be said of a face, as notes; `row` is YuNet's row of it (`FaceDetector.closer_row`), None where YuNet saw none."""
    roll, yaw = roll_of(face), yaw_of(face)
    notes = []
    if abs(roll) >= TILTED:
        notes.append(f"the head is tilted by {abs(roll):.0f} degrees")
    if abs(yaw) >= TURNED_AWAY:
        notes.append(f"the head is turned {abs(yaw):.0f} degrees to the side")
    if not notes and (row is None or row[14] < COVERED_SCORE):
        notes.append("part of the face may be covered or blurred (a mask, sunglasses, a hand?)")
    return tuple(notes)


def yaw_of(face: Face) -> float:
    """Degrees by which the head is turned to the side, by the depths of the eyes' corners; 0 looks into the camera, about 75 is the
    most that MediaPipe finds."""
    across = face.landmarks[263] - face.landmarks[33]
    return float(np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1]))))
