"""The donor's face: photos cut and laid onto each other, where an expression acts, and a picture of the twins."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import FaceExprError
from ..expressions import NONE, REGIONS, blend_of, parse_action_units
from ..faces import native
from ..faces.images import crop_resized
from ..faces.limits import within_limits

if TYPE_CHECKING:
    from ..faces.detector import Face, FaceDetector

Picture = NDArray[np.uint8]
"""[H, W, 3], RGB."""

_DILATE = 0.15
_FEATHER = 0.05
_FACE_SHARE = 1 + 2 * 0.75
"""Side of a photo's crop as a multiple of the face's longer side, as `subject` cuts."""

# MediaPipe's landmarks that expressions hardly move: the corners of the eyes and the bridge of the nose.
_STEADY = (33, 133, 263, 362, 168, 6, 197)
_PAINTED = ("jaw", "mouth", "nose", "eyes", "brows")


@dataclass(frozen=True, eq=False)
class Twins:
    """Pictures of what was recorded; `neutral` is None where there is no neutral twin."""

    neutral: Picture | None
    expression: Picture


@dataclass(frozen=True, eq=False)
class Location:
    """Where an expression acts in a picture: `mask` float32 [H, W] in 0..1 and `regions` uint8 [H, W] (0 none, 1.. as
    expressions.REGIONS); both None where no face was found. `report` says which."""

    mask: Tensor | None
    regions: Tensor | None
    report: str


# Photographs


@dataclass(frozen=True, eq=False)
class PhotoCrops:
    """A donor's photos cut to squares [side, side, 3] in which the face lies alike; `face` in the pixels of `photo`."""

    photo: Picture
    neutral: Picture | None
    face: Face


def crop_photos(photo: Picture, neutral: Picture | None, side: int, detector: FaceDetector) -> PhotoCrops:
    """Cut the largest face of each photo: a square of 2.5 times its longer side; the neutral one is turned and scaled onto the other
    by landmarks that expressions hardly move.

    Raises FaceExprError where a photo shows no face.
    """
    from ..faces.detector import square_around

    face = _largest_face(photo, detector, "the photo")
    left, top, cut = square_around(face, face.size * _FACE_SHARE, *photo.shape[:2])
    crop, placed = crop_resized(photo, left, top, cut, side), face.moved(side / cut, left, top)
    if neutral is None:
        return PhotoCrops(crop, None, placed)
    return PhotoCrops(crop, _aligned(neutral, _largest_face(neutral, detector, "the neutral photo"), placed, side), placed)


def _largest_face(picture: Picture, detector: FaceDetector, what: str) -> Face:
    faces = detector.detect(picture)
    if not faces:
        raise FaceExprError(f"no face was found in {what}. Give a photo that shows one face clearly, from the front or nearly so.")
    return faces[0]


def _aligned(picture: Picture, face: Face, onto: Face, side: int) -> Picture:
    """The picture turned, scaled and shifted so that its face's steady landmarks lie on those of `onto`; the edge is repeated."""
    cv2: Any = native.opencv()
    picture, fitted = within_limits(picture)
    face = face.moved(fitted)
    scale, _ = _similarity(face, onto)
    if scale < 1:  # shrunk first, by area: the warp itself does not smooth
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        face = face.moved(size[0] / picture.shape[1])
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    warped = cv2.warpAffine(picture, _similarity(face, onto)[1], (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8)


def _similarity(face: Face, onto: Face) -> tuple[float, NDArray[np.float64]]:
    """Scale and matrix [2, 3] of the turn, scaling and shift that bring steady landmarks onto others with the least squares."""
    given, wanted = (f.landmarks[list(_STEADY), :2].astype(np.float64) @ (1, 1j) for f in (face, onto))
    centred = given - given.mean()
    turn = np.vdot(centred, wanted - wanted.mean()) / np.vdot(centred, centred)
    shift = wanted.mean() - turn * given.mean()
    shift += (turn - 1) * (0.5 + 0.5j)  # OpenCV's pixel centres lie at whole numbers, MediaPipe's half a pixel further
    return abs(turn), np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


# Where the expression acts


def moved_regions(expression: str, second: str = NONE, action_units: str = "") -> tuple[str, ...]:
    """The regions of the face (in the order of expressions.REGIONS) that the FACS units of expressions, and action units, move; () for a
    neutral face. Raises FaceExprError for unknown names."""
    moved = {region for unit in parse_action_units(action_units) for region in unit.regions}
    for name in (expression, second):
        if name != NONE:
            moved |= {region for part, _ in blend_of(name) for region in part.regions}
    return tuple(region for region in REGIONS if region in moved)


def held_regions(expression: str, second: str = NONE, action_units: str = "") -> tuple[str, ...]:
    """The regions to which fusion holds a change (ours): those that action units move, where units alone are asked; () for all of the face.

    A word says more than its FACS units do: who is disgusted squints too. On Mini disgust came at half its strength while it was held to
    nose, mouth and jaw (`docs/measurements.md`, "Where an expression acts"). Raises FaceExprError for unknown names.
    """
    return () if moves_face(expression, second) else moved_regions(NONE, NONE, action_units)


def moves_face(expression: str, second: str = NONE, action_units: str = "") -> bool:
    """Whether they move anything: a neutral face and `none` do not. Raises FaceExprError for unknown names."""
    return bool(moved_regions(expression, second, action_units))


def moved_in(notes: Mapping[str, str]) -> tuple[str, ...]:
    """The regions to which a bank with these notes is held; () for all of the face."""
    return tuple(region for region in REGIONS if region in notes.get("regions", "").split(","))


def locate(
    picture: Picture, moved: Iterable[str], folders: Iterable[str | os.PathLike[str]] = (), detector: FaceDetector | None = None
) -> Location:
    """Mask of the regions to which an expression is held (the whole face if it names none), dilated by 15 % of the face's width and
    feathered, and the regions themselves, from the largest face of the neutral twin.

    Never fails: without a face, or without what finds it, there is no mask, and the report says why.
    """
    try:
        faces = faces_in(picture, folders) if detector is None else detector.detect(picture)
    except FaceExprError as error:
        return Location(None, None, f"no mask: {error}")
    if not faces:
        return Location(None, None, "no face found in the neutral twin, so that the expression acts everywhere")
    return location_of(faces[0], picture.shape[0], picture.shape[1], moved)


def faces_in(picture: Picture, folders: Iterable[str | os.PathLike[str]] = ()) -> list[Face]:
    """Faces of a picture, largest first. The detector, which takes three times as long to open as to look, stays open.

    Raises FaceExprError where its model files or libraries are missing.
    """
    from ..faces import models

    folders = tuple(folders)
    with _looking:
        return _detector(*(str(models.find(name, folders)) for name in ("face_landmarker", "yunet")), folders).detect(picture)


_looking = threading.Lock()


@lru_cache(maxsize=1)
def _detector(landmarker: str, yunet: str, folders: tuple[str | os.PathLike[str], ...]) -> FaceDetector:
    from ..faces.detector import FaceDetector

    opened = FaceDetector(folders)
    # MediaPipe closes in a thread of its own, which Python lets nobody start in `atexit`
    getattr(threading, "_register_atexit", atexit.register)(opened.close)
    return opened


def location_of(face: Face, height: int, width: int, moved: Iterable[str]) -> Location:
    """The same for a face already found, in a picture of `height` x `width` pixels."""
    from ..faces.detector import region_mask

    regions = tuple(moved)
    mask = region_mask(face, height, width, regions or "face", dilate=_DILATE, feather=_FEATHER)
    ids = np.zeros((height, width), np.uint8)
    numbers = {name: number for number, name in enumerate(REGIONS, start=1)}
    for name in _PAINTED:  # smaller ones over larger ones
        ids[region_mask(face, height, width, name) >= 0.5] = numbers[name]
    share = float(mask.mean())
    report = f"acts on {', '.join(regions) or 'the whole face'}: {share:.0%} of the picture"
    return Location(torch.from_numpy(mask), torch.from_numpy(ids), report)


def neutral_mask(face: Face, height: int, width: int) -> Tensor:
    """Where a photo's neutral twin is drawn anew: the face's oval, float32 [height, width] in 0..1."""
    from ..faces.detector import face_mask

    return torch.from_numpy(face_mask(face, height, width))


# What was extracted, as a picture


def twins_picture(twins: Twins, mask: Tensor | None = None) -> Picture:
    """The twins side by side and where they differ (in red over grey), [H, 3W, 3]; without a neutral twin the photo and where the
    expression acts, [H, 2W, 3]. The mask [H, W] is drawn as a lighter area."""
    base = (twins.expression if twins.neutral is None else twins.neutral).astype(np.float32)
    grey = np.repeat(base.mean(axis=2, keepdims=True), 3, axis=2) * 0.5
    if mask is not None:
        grey += 50 * mask.numpy()[..., None]
    if twins.neutral is None:
        panels = [twins.expression, _bytes(grey)]
    else:
        change = np.abs(twins.expression.astype(np.float32) - base).mean(axis=2)
        heat = np.clip(change / max(float(np.percentile(change, 99.5)), 1.0), 0, 1)[..., None]
        panels = [twins.neutral, twins.expression, _bytes(grey * (1 - heat) + heat * np.array([255, 64, 32], np.float32))]
    return np.concatenate(panels, axis=1)


def _bytes(values: NDArray[np.floating[Any]]) -> Picture:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
