"""Small faces: cut out enlarged, to be drawn again, and pasted back with a soft edge. Ours; the published method has no such step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .detector import Face, region_mask, square_around
from .images import crop_resized

FACE_SHARE = 2.0
"""Side of the square that is cut out, as a multiple of the face's longer side."""

SHRUNK = 1.5
"""A face in a square larger than what is drawn by more than this is not drawn again. Ours, a guess: Mini's template of small faces has 1.37
and is to be drawn; what the lost pixels cost beside what the model's own size gains was not measured."""
_DILATE = 0.15
_FEATHER = 0.08
_TAIL = 0.02


class Cut(NamedTuple):
    """A square of a picture, in its pixels."""

    left: int
    top: int
    side: int


def small_faces(faces: list[Face], height: int, width: int, below: float) -> list[Face]:
    """Those whose longer side is under `below` of the picture's shorter one."""
    return [face for face in faces if face.size < below * min(height, width)]


def cut_around(face: Face, height: int, width: int) -> Cut:
    """The square that is drawn again, inside the picture."""
    return Cut(*square_around(face, FACE_SHARE * face.size, height, width))


def enlarge(picture: NDArray[np.uint8], cut: Cut, side: int) -> NDArray[np.uint8]:
    """The square, uint8 [side, side, 3]."""
    return crop_resized(picture, cut.left, cut.top, cut.side, side)


def paste_mask(face: Face, cut: Cut, height: int, width: int) -> NDArray[np.float32]:
    """Where the new face replaces the old one: its oval, enlarged and with a soft edge, 0 outside the square; float32 [height, width]."""
    mask = np.zeros((height, width), np.float32)
    inside = slice(cut.top, cut.top + cut.side), slice(cut.left, cut.left + cut.side)
    mask[inside] = region_mask(face, height, width, "face", dilate=_DILATE, feather=_FEATHER)[inside]
    return np.clip((mask - _TAIL) / (1 - _TAIL), 0.0, 1.0)  # a Gaussian never ends


def paste(picture: NDArray[np.uint8], drawn: NDArray[np.uint8], cut: Cut, mask: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture with `drawn` [s, s, 3] shrunk into the square, by `mask` [H, W] in 0..1."""
    inside = slice(cut.top, cut.top + cut.side), slice(cut.left, cut.left + cut.side)
    share, whole = mask[inside][..., None], picture.copy()
    shrunk = crop_resized(drawn, 0, 0, drawn.shape[0], cut.side)
    whole[inside] = np.round((1 - share) * picture[inside] + share * shrunk).astype(np.uint8)
    return whole
