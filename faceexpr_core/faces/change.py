"""A face of a picture cut out at a model's size, and what the model changed of it brought back. Ours.

Only the *change* comes back: a model's VAE loses detail of every picture, and what it drew as it was before keeps the detail of the given
picture. Pictures are float32 [H, W, 3] in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceExprError
from . import native
from .detector import Face
from .face_choice import ALL_FACES
from .small_faces import Cut, cut_around, paste_mask

FloatPicture = NDArray[np.float32]
"""[H, W, 3] in 0..1."""

KEPT_BELOW = 10 / 255
"""A change of this size (mean over the colours, smoothed) keeps 1/e of the given picture's own detail; a smaller one more."""
FAINT = 1.5 / 255
"""A change below this is the VAE's own unrest and is left out; from three times as much on it comes whole."""
SMOOTHED = 1 / 64
"""Sigma by which the change is smoothed before both, as a share of the square's side."""


@dataclass(frozen=True, eq=False)
class FaceCut:
    """A face cut out of a picture. `face` in the picture's pixels, `placed` in those of `crop` [side, side, 3]; `mask` float32 [H, W] in
    0..1: where the picture may change, exactly 0 elsewhere."""

    face: Face
    placed: Face
    cut: Cut
    crop: FloatPicture
    mask: NDArray[np.float32]


def chosen_faces(faces: Sequence[Face], which: int, mask: NDArray[np.float32] | None = None) -> list[Face]:
    """Face number `which`, 0 the largest, 1 the second largest ..., or all of them (ALL_FACES), of those that lie in the mask
    (float [H, W]: more than half of the face's box). [] where there are not so many. Raises FaceExprError for numbers below ALL_FACES."""
    if which < ALL_FACES:
        raise FaceExprError(f"face is {which}; give 0 for the largest, 1 for the second largest ..., or {ALL_FACES} for all of them.")
    meant = [face for face in faces if mask is None or _share(face, mask) > 0.5]
    return meant if which == ALL_FACES else meant[which : which + 1]


def cut_face(picture: FloatPicture, face: Face, side: int, mask: NDArray[np.float32] | None = None) -> FaceCut:
    """The square around a face at `side` pixels, and where the picture may change: the face's oval with a soft edge, within `mask`
    (float [H, W])."""
    height, width = picture.shape[:2]
    cut = cut_around(face, height, width)
    where = paste_mask(face, cut, height, width)
    if mask is not None:
        where = where * np.clip(mask, 0, 1).astype(np.float32)
    crop = _resized(picture[cut.top : cut.top + cut.side, cut.left : cut.left + cut.side], side)
    return FaceCut(face, face.moved(side / cut.side, cut.left, cut.top), cut, np.clip(crop, 0, 1), where)


def paste_change(picture: FloatPicture, given: FaceCut, before: FloatPicture, after: FloatPicture) -> FloatPicture:
    """The picture with the change from `before` to `after`, both [s, s, 3]: the face as the model's VAE has it, and as it was drawn over.

    With the change c = after - before, smoothed |c|, k = exp(-|c| / KEPT_BELOW) and l = clip((|c| / FAINT - 1) / 2, 0, 1), inside the mask:
    out = picture + m l (c + (1 - k) (before - picture)): k = 1 lays the change on the picture's own pixels, k = 0 takes the drawn ones.
    Where m is 0, and where hardly anything was changed, the picture stays equal to the bit.
    """
    cut, whole = given.cut, picture.copy()
    inside = slice(cut.top, cut.top + cut.side), slice(cut.left, cut.left + cut.side)
    old, new, own, share = _resized(before, cut.side), _resized(after, cut.side), picture[inside], given.mask[inside][..., None]
    size = np.abs(new - old).mean(axis=2)
    cv2: Any = native.opencv()
    smooth = cv2.GaussianBlur(size, (0, 0), max(0.3, SMOOTHED * cut.side), borderType=cv2.BORDER_REPLICATE)
    kept = np.exp(-smooth / KEPT_BELOW)[..., None]
    share = share * np.clip((smooth / FAINT - 1) / 2, 0, 1)[..., None]
    drawn = np.clip(own + share * ((new - old) + (1 - kept) * (old - own)), 0, 1)
    whole[inside] = np.where(share > 0, drawn, own)
    return whole


def _share(face: Face, mask: NDArray[np.float32]) -> float:
    left, top, right, bottom = (max(0, round(edge)) for edge in face.box)
    inside = mask[top:bottom, left:right]
    return float(inside.mean()) if inside.size else 0.0


def _resized(square: FloatPicture, side: int) -> FloatPicture:
    """A square picture at `side` pixels: by area where it shrinks, cubic where it grows, the same where it has that size."""
    if square.shape[0] == side:
        return square
    cv2: Any = native.opencv()
    way = cv2.INTER_AREA if side < square.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(square), (side, side), interpolation=way), np.float32)
