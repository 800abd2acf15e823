"""Faces in a picture: box, landmarks, blendshapes, and masks of their parts."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceExprError
from . import models, native
from .limits import within_limits

YUNET_MIN_SIDE = 256
"""A picture whose shorter side is below this is enlarged to it for YuNet. MediaPipe enlarges by itself: on 700 renders of 128 px
(classes of expression right: 0.94 as they are, 0.93 enlarged to 256 or 512) and on a shrunken photograph doing so before gained nothing."""

MAX_FACES = 8
"""What MediaPipe looks for in a picture, and so many of YuNet's are looked at where it finds none; with `every` all of YuNet's are."""
_YUNET_SIDE = 1280
_YUNET_SCORE = 0.7
_CROP_FACTOR = 2.0
_CLOSER_SIDE = 320

_MASK_FACE = 384
"""Masks with a soft edge of wider faces are drawn smaller: a disc's pixels grow with the fourth power of the side, and took half a minute
on a phone's portrait."""
_GAUSSIAN = 4.0
"""OpenCV's Gaussian ends after so many sigma."""

REGIONS = ("brows", "eyes", "nose", "mouth", "jaw", "face")

# Landmark numbers of MediaPipe's 478-point mesh; each tuple's convex hull is one polygon.
_POLYGONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "brows": ((46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336),),
    "eyes": (
        (226, 247, 30, 29, 27, 28, 56, 190, 243, 112, 26, 22, 23, 24, 110, 25),
        (446, 467, 260, 259, 257, 258, 286, 414, 463, 341, 256, 252, 253, 254, 339, 255),
    ),
    "nose": ((168, 193, 417, 122, 351, 196, 419, 129, 358, 98, 327, 2, 94, 1, 4, 64, 294, 48, 278, 240, 460),),
    "mouth": ((61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),),
    "jaw": ((172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 17, 84, 314, 202, 422, 57, 287),),
    "face": (
        (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58,
         132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    ),
}  # fmt: skip
# YuNet's order: the person's right eye, left eye, nose tip, right and left corner of the mouth.
_FIVE_POINTS: tuple[tuple[int, ...], ...] = ((33, 133), (263, 362), (1,), (61,), (291,))


@dataclass(frozen=True, eq=False)
class Face:
    """One face, in pixels of the picture it was found in.

    `box`: left, top, right, bottom of the landmarks. `landmarks`: float32 [478, 3], x and y in pixels, z on the scale of x.
    `blendshapes`: MediaPipe's 52 scores in 0..1 by name.
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
    blendshapes: dict[str, float]

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def size(self) -> float:
        """The longer side of the box."""
        return max(self.width, self.height)

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the middle of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    def holds(self, x: float, y: float) -> bool:
        """Whether a point of the picture lies in the box."""
        return self.box[0] <= x <= self.box[2] and self.box[1] <= y <= self.box[3]

    def again(self, other: Face) -> bool:
        """Whether two finds are one face: the middle of the smaller lies in the larger, which is less than twice its size."""
        small, large = sorted((self, other), key=_area)
        return 2 * small.size > large.size and large.holds(*small.centre)

    def moved(self, scale: float, left: float = 0.0, top: float = 0.0) -> Face:
        """The same face in a picture cut off at (`left`, `top`) and then scaled."""
        landmarks = (self.landmarks - np.array([left, top, 0.0], np.float32)) * np.float32(scale)
        return replace(self, box=_box(landmarks), landmarks=landmarks)

    def five_points(self) -> NDArray[np.float32]:
        """[5, 2]: the person's right eye, left eye, nose tip, right and left corner of the mouth (the order of YuNet and SFace)."""
        return np.stack([self.landmarks[list(points), :2].mean(axis=0) for points in _FIVE_POINTS])


class FaceDetector:
    """MediaPipe FaceLandmarker, with YuNet for faces too small for it. Use it as a context manager, or call `close`.

    Not for use from two threads at once. Raises MissingModelFile, and FaceExprError where MediaPipe or OpenCV cannot load.
    """

    def __init__(self, folders: Iterable[str | os.PathLike[str]] = ()) -> None:
        folders = tuple(folders)
        landmarker, yunet = models.find("face_landmarker", folders), models.find("yunet", folders)
        self._mediapipe: Any = native.mediapipe()
        self._cv2: Any = native.opencv()
        vision = self._mediapipe.tasks.vision
        options = vision.FaceLandmarkerOptions(
            # Bytes, since MediaPipe cannot open every path that Windows allows.
            base_options=self._mediapipe.tasks.BaseOptions(model_asset_buffer=landmarker.read_bytes()),
            num_faces=MAX_FACES,
            output_face_blendshapes=True,
        )
        with native.without_log_lines():
            self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
            self._yunet: Any = native.network(self._cv2.FaceDetectorYN, yunet, (320, 320), _YUNET_SCORE)

    def __enter__(self) -> FaceDetector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free MediaPipe's graph; its own destructor fails at the interpreter's exit."""
        if self._landmarker is not None:
            self._landmarker.close()
            self._landmarker = None

    def detect(self, rgb: NDArray[np.uint8], every: bool = False) -> list[Face]:
        """Faces of a picture (uint8 [H, W, 3], RGB), largest first, each once; an empty list where there is none.

        MediaPipe looks at the whole picture, which it shrinks, so that it misses small faces. Where it finds none, or always with
        `every`, YuNet looks for more and MediaPipe sees each of those enlarged.
        """
        _check_picture(rgb)
        faces: list[Face] = []
        for face in sorted(self._landmarks(rgb), key=_area, reverse=True):
            if not any(face.again(known) for known in faces):
                faces.append(face)
        if every or not faces:
            for box in self._small_boxes(rgb)[: None if every else MAX_FACES]:
                x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
                if not any(face.holds(x, y) for face in faces):
                    faces += self._look_closer(rgb, x, y, _CROP_FACTOR * float(max(box[2], box[3])), faces)
        return sorted(faces, key=_area, reverse=True)

    def five_points(self, rgb: NDArray[np.uint8], box: Sequence[float] | None = None) -> NDArray[np.float32] | None:
        """YuNet's five points [5, 2] of the largest face, in the order of `Face.five_points`; None where it finds no face. With a `box`
        (left, top, right, bottom) it is the largest whose middle lies in it."""
        rows = self.rows(rgb)
        if box is not None:
            middle = rows[:, :2] + rows[:, 2:4] / 2
            rows = rows[((middle >= box[:2]) & (middle <= box[2:])).all(axis=1)]
        if not len(rows):
            return None
        return rows[np.argmax(rows[:, 2] * rows[:, 3]), 4:14].reshape(5, 2)

    def rows(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What YuNet finds, float32 [n, 15] in pixels: left, top, width, height, the five points' x and y, and its score in 0..1."""
        _check_picture(rgb)
        rows, scale = self._yunet_rows(rgb)
        return np.concatenate([rows[:, :14] / np.float32(scale), rows[:, 14:]], axis=1)

    def closer_row(self, rgb: NDArray[np.uint8], face: Face) -> NDArray[np.float32] | None:
        """YuNet's row of one face, seen enlarged or shrunk to its usual size; None where it does not see it."""
        left, top, side = round(face.centre[0] - face.size), round(face.centre[1] - face.size), max(8, round(2 * face.size))
        cut = _square(rgb, left, top, side)
        scale = min(1.0, _CLOSER_SIDE / side)
        size = max(8, round(side * scale))
        rows = self.rows(np.ascontiguousarray(self._cv2.resize(cut, (size, size), interpolation=self._cv2.INTER_AREA)))
        rows[:, :14] *= side / size
        middle = rows[:, :2] + rows[:, 2:4] / 2 - side / 2
        far = np.hypot(middle[:, 0], middle[:, 1])
        if not len(rows) or far.min() > face.size / 2:
            return None
        row = rows[far.argmin()]
        row[[0, *range(4, 14, 2)]] += left
        row[[1, *range(5, 14, 2)]] += top
        return row

    def _landmarks(self, rgb: NDArray[np.uint8]) -> list[Face]:
        height, width = rgb.shape[:2]
        seen = np.ascontiguousarray(within_limits(rgb)[0])
        image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=seen)
        found = self._landmarker.detect(image)
        faces = []
        for points, shapes in zip(found.face_landmarks, found.face_blendshapes, strict=True):
            landmarks = np.array([(p.x * width, p.y * height, p.z * width) for p in points], np.float32)
            blendshapes = {shape.category_name: float(shape.score) for shape in shapes}
            faces.append(Face(_box(landmarks), landmarks, blendshapes))
        return faces

    def _yunet_rows(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        """YuNet's rows [n, 15] in pixels of the picture scaled by the second value."""
        scale = max(1.0, YUNET_MIN_SIDE / min(rgb.shape[:2]))
        scale = min(scale, _YUNET_SIDE / max(rgb.shape[:2]))
        size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
        way = self._cv2.INTER_AREA if scale < 1 else self._cv2.INTER_CUBIC
        bgr = np.ascontiguousarray(self._cv2.resize(rgb, size, interpolation=way)[:, :, ::-1])
        self._yunet.setInputSize(size)
        rows = self._yunet.detect(bgr)[1]
        return (np.zeros((0, 15), np.float32) if rows is None else rows), scale

    def _small_boxes(self, rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        rows, scale = self._yunet_rows(rgb)
        return [row[:4] / scale for row in rows]

    def _look_closer(self, rgb: NDArray[np.uint8], x: float, y: float, side: float, known: Sequence[Face]) -> list[Face]:
        """The face nearest to (x, y) in a square of `side` pixels around it that is none of the `known`, in a list of one or none."""
        left, top, size = round(x - side / 2), round(y - side / 2), max(8, round(side))
        seen = [face.moved(1.0, -left, -top) for face in self._landmarks(_square(rgb, left, top, size))]
        # beside somebody in profile, of whom MediaPipe makes nothing, it sees the neighbour once more
        new = [face for face in seen if not any(face.again(one) for one in known)]
        return sorted(new, key=lambda face: abs(face.centre[0] - x) + abs(face.centre[1] - y))[:1]


def region_mask(
    face: Face, height: int, width: int, regions: str | Iterable[str], dilate: float = 0.0, feather: float = 0.0
) -> NDArray[np.float32]:
    """Mask float32 [height, width] in 0..1 of the union of regions (see REGIONS): convex hulls of landmarks.

    `dilate` (radius) and `feather` (sigma of a Gaussian) are fractions of the face's width. The union is clipped by the picture.
    Raises FaceExprError for an unknown region.
    """
    names = (regions,) if isinstance(regions, str) else tuple(regions)
    if unknown := [name for name in names if name not in REGIONS]:
        raise FaceExprError(f"No region of the face is called {', '.join(map(repr, unknown))}. The regions are: {', '.join(REGIONS)}.")
    polygons = [points for name in names for points in _POLYGONS[name]]
    mask = np.zeros((height, width), np.float32)
    reach = (dilate + _GAUSSIAN * feather) * face.width + 2
    left, top = (max(0, math.floor(edge - reach)) for edge in face.box[:2])
    right, bottom = (min(end, math.ceil(edge + reach)) for edge, end in zip(face.box[2:], (width, height), strict=True))
    if left >= right or top >= bottom:
        return mask
    shrunk = max(1, math.ceil(face.width / _MASK_FACE)) if dilate or feather else 1
    rows, columns = -(-(bottom - top) // shrunk), -(-(right - left) // shrunk)
    soft = _drawn_mask(face.moved(1 / shrunk, left, top), rows, columns, polygons, dilate, feather)
    if shrunk > 1:
        cv2: Any = native.opencv()
        soft = cv2.resize(soft, (columns * shrunk, rows * shrunk), interpolation=cv2.INTER_LINEAR)
    mask[top:bottom, left:right] = soft[: bottom - top, : right - left]
    return np.clip(mask, 0.0, 1.0)


def _drawn_mask(
    face: Face, height: int, width: int, polygons: Iterable[tuple[int, ...]], dilate: float, feather: float
) -> NDArray[np.float32]:
    cv2: Any = native.opencv()
    mask = np.zeros((height, width), np.uint8)
    for points in polygons:
        hull = cv2.convexHull(face.landmarks[list(points), :2])
        # Four fractional bits; pixel centres lie at whole numbers in OpenCV, half a pixel off MediaPipe's edges.
        cv2.fillConvexPoly(mask, np.round((hull - 0.5) * 16).astype(np.int32), 255, lineType=cv2.LINE_AA, shift=4)
    if (radius := round(dilate * face.width)) > 0:
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))
    soft: NDArray[np.float32] = mask.astype(np.float32) / np.float32(255)
    if feather > 0:
        soft = cv2.GaussianBlur(soft, (0, 0), max(0.3, feather * face.width), borderType=cv2.BORDER_REPLICATE)
    return soft


def square_around(face: Face, side: float, height: int, width: int) -> tuple[int, int, int]:
    """Left, top and side of a square around the face's centre, made smaller and shifted until it lies inside the picture."""
    whole = max(1, min(round(side), height, width))
    x, y = face.centre
    left = min(max(0, round(x - whole / 2)), width - whole)
    top = min(max(0, round(y - whole / 2)), height - whole)
    return left, top, whole


def face_mask(face: Face, height: int, width: int) -> NDArray[np.float32]:
    """Mask float32 [height, width] in 0..1 of the face's oval, a little enlarged and with a soft edge."""
    return region_mask(face, height, width, "face", dilate=0.06, feather=0.03)


def _area(face: Face) -> float:
    return face.width * face.height


def _box(landmarks: NDArray[np.float32]) -> tuple[float, float, float, float]:
    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _check_picture(rgb: NDArray[np.uint8]) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise FaceExprError(f"A picture of dtype {rgb.dtype} and shape {rgb.shape} was given; faces are looked for in uint8 [H, W, 3] RGB.")


def _square(rgb: NDArray[np.uint8], left: int, top: int, side: int) -> NDArray[np.uint8]:
    """A square cut out of the picture; what lies outside repeats the edge."""
    rows = np.clip(np.arange(top, top + side), 0, rgb.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, rgb.shape[1] - 1)
    return rgb[rows[:, None], columns[None, :]]
