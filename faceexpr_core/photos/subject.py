"""Photos of one person to a Subject: faces found, pictures cut and resized, captions written, and a report that says what was done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceExprError
from ..expressions import EXPRESSIONS
from ..faces.detector import Face, FaceDetector, face_mask, square_around
from ..faces.images import SourceImage, crop_resized, likeness
from ..measure.expression import blendshape_vector
from ..measure.reader import judge_faces
from ..measure.reading import Reading, read_album

Framing = Literal["face crop", "whole picture"]
FRAMINGS: tuple[Framing, ...] = ("face crop", "whole picture")

DUPLICATE_LIKENESS = 0.96
DUPLICATE_CHANGE = 3.0
"""Two photos are near-duplicates if their faces' brightness correlates more than the first and the scaled blendshapes lie closer than
the second. Recompressed, cropped, resized or brightened copies mostly reach 0.965-1.0 and 0.5-2.5; among 60 renders, other photos of the
same person reached at most 0.957."""

_FACE_MARGIN = 1.3


@dataclass(frozen=True)
class SubjectSettings:
    """How photos become a Subject.

    `framing`: `face crop` cuts a square around the face, its side the face's longer side times 1 + 2 `padding`, inside the picture;
    `whole picture` cuts the largest square, as near to the face as it can lie. `face_index`: 0 takes the largest face of a photo, 1 the
    second largest ... `min_face`: the face's longer side in pixels of the photo below which it is too small; 0 takes an eighth of the
    resolution, at least 48.
    """

    trigger: str = "ohwx"
    class_word: str = "person"
    resolution: int = 1024
    framing: Framing = "face crop"
    padding: float = 0.75
    face_index: int = 0
    min_face: int = 0
    drop_small: bool = True
    drop_duplicates: bool = True

    def smallest_face(self) -> int:
        return self.min_face or max(48, self.resolution // 8)


@dataclass(frozen=True, eq=False)
class Photo:
    """One prepared photo: `image` uint8 [R, R, 3], `face` in its pixels, `expression` as read (None: too unsure to name), SDXL's size ids.

    `original_size` (height, width) of the source picture; `crop_top_left` (top, left) of the cut in the source picture resized to the
    photo's scale; `target_size` (R, R). `drawn_mask` is `mask` where it was drawn before.
    """

    name: str
    image: NDArray[np.uint8]
    face: Face
    caption: str
    expression: str | None
    original_size: tuple[int, int]
    crop_top_left: tuple[int, int]
    target_size: tuple[int, int]
    drawn_mask: NDArray[np.float32] | None = None

    def mask(self) -> NDArray[np.float32]:
        """Mask of the face, float32 [R, R] in 0..1."""
        return face_mask(self.face, *self.image.shape[:2]) if self.drawn_mask is None else self.drawn_mask


@dataclass(frozen=True, eq=False)
class Subject:
    """A person: photos at one square resolution, the words that name the person, and a report for people to read."""

    photos: tuple[Photo, ...]
    trigger: str
    class_word: str
    resolution: int
    report: str


@dataclass(frozen=True)
class _Found:
    """A photo with its chosen face, before cutting; `close_up` is the face alone, for comparing photos."""

    source: SourceImage
    rgb: NDArray[np.uint8]
    face: Face
    close_up: NDArray[np.uint8]
    notes: tuple[str, ...]


def prepare_subject(
    images: Sequence[SourceImage],
    settings: SubjectSettings | None = None,
    folders: Iterable[str | os.PathLike[str]] = (),
    detector: FaceDetector | None = None,
    **fields: Any,
) -> Subject:
    """Find the faces, drop what cannot be used, cut, resize and caption; `fields` of `SubjectSettings` may also be given by name.

    `folders` are looked through first for model files; `detector` is used instead of a new one if given.
    Raises FaceExprError for settings out of range, and where no photo is left, with the reason for each.
    """
    settings = replace(settings or SubjectSettings(), **fields)
    _check(settings)
    if not images:
        raise FaceExprError("No pictures were given. Choose a folder with photos of one person, or connect an IMAGE, or both.")
    lines: dict[int, str] = {}
    found: dict[int, _Found] = {}
    own = detector is None
    detector = detector or FaceDetector(folders)
    try:
        for number, source in enumerate(images):
            usable = _find_face(source, settings, detector)
            if isinstance(usable, _Found):
                found[number] = usable
            else:
                lines[number] = usable
    finally:
        if own:
            detector.close()
    _look_for_duplicates(found, lines, settings)
    if not found:
        reasons = "\n".join(lines[number] for number in sorted(lines))
        raise FaceExprError(f"None of the {len(images)} pictures can be used:\n{reasons}\nGive photos that show one face clearly.")

    photos = []
    for (number, one), reading in zip(found.items(), _readings(list(found.values())), strict=True):
        photo = _cut(one, reading.expression, settings)
        photos.append(photo)
        notes = [*one.notes, *_caption_notes(one.source, settings)]
        lines[number] = (
            f'kept     {photo.name}: face {one.face.size:.0f} px, {_in_words(reading)}, caption "{photo.caption}"'
            f"{' (as given)' if one.source.caption else ''}{''.join(f'; {note}' for note in notes)}"
        )
    side = settings.resolution
    heading = f"{len(photos)} of {len(images)} pictures kept, {side} x {side}, {settings.framing}"
    report = "\n".join([heading, *(lines[number] for number in sorted(lines))])
    return Subject(tuple(photos), settings.trigger.strip(), settings.class_word.strip(), side, report)


def caption_for(expression: str | None, trigger: str, class_word: str) -> str:
    """`a photo of <trigger> <class word>, <expression's phrase>`; an empty trigger or class word is left out, and so is no expression."""
    who = " ".join(word for word in (trigger.strip(), class_word.strip()) if word)
    return f"a photo of {who}" if expression is None else f"a photo of {who}, {EXPRESSIONS[expression].phrase}"


def _check(settings: SubjectSettings) -> None:
    if not 64 <= settings.resolution <= 4096 or settings.resolution % 8:
        near = min(4096, max(64, round(settings.resolution / 8) * 8))
        raise FaceExprError(f"The resolution is {settings.resolution}; it must be a multiple of 8 from 64 to 4096. The nearest is {near}.")
    if settings.framing not in FRAMINGS:
        raise FaceExprError(f"The framing is '{settings.framing}'; it must be one of: {', '.join(FRAMINGS)}.")
    if not 0 <= settings.padding <= 100:
        raise FaceExprError(f"The padding is {settings.padding}; it must lie between 0 and 100 (0.75 leaves room for hair and shoulders).")
    if settings.face_index < 0:
        raise FaceExprError(f"The face is number {settings.face_index}; give 0 for the largest, 1 for the second largest ...")
    if not (settings.trigger.strip() or settings.class_word.strip()):
        raise FaceExprError("Trigger word and class word are both empty. Give a rare word such as ohwx and a class word such as person.")


def _find_face(source: SourceImage, settings: SubjectSettings, detector: FaceDetector) -> _Found | str:
    """The chosen face of one picture, or the report's line that says why there is none."""
    if source.rgb is None:
        return f"skipped  {source.name}: {source.problem}"
    faces = detector.detect(source.rgb, every=True)
    if not faces:
        return f"skipped  {source.name}: no face found"
    face = faces[min(settings.face_index, len(faces) - 1)]
    notes = []
    if len(faces) > 1:
        taken = "the largest" if face is faces[0] else f"number {faces.index(face) + 1} by size"
        notes.append(f"{len(faces)} faces found, {taken} was taken")
    elif settings.face_index:
        notes.append("only one face found")
    if face.size < settings.smallest_face():
        small = f"face of {face.size:.0f} px is smaller than {settings.smallest_face()} px"
        if settings.drop_small:
            return f"dropped  {source.name}: {small}"
        notes.append(small)
    height, width = source.rgb.shape[:2]
    close_up = crop_resized(source.rgb, *square_around(face, _FACE_MARGIN * face.size, height, width), 64)
    return _Found(source, source.rgb, face, close_up, tuple(notes))


def _look_for_duplicates(found: dict[int, _Found], lines: dict[int, str], settings: SubjectSettings) -> None:
    """Move later near-duplicates from `found` to `lines`, or note them there, as the settings say."""
    kept: list[_Found] = []
    for number, one in list(found.items()):
        twin = next((other for other in kept if _near_duplicates(one, other)), None)
        if twin is not None and settings.drop_duplicates:
            lines[number] = f"dropped  {one.source.name}: nearly the same as {twin.source.name}"
            del found[number]
            continue
        if twin is not None:
            found[number] = replace(one, notes=(*one.notes, f"nearly the same as {twin.source.name}"))
        kept.append(one)


def _near_duplicates(a: _Found, b: _Found) -> bool:
    change = blendshape_vector(a.face.blendshapes) - blendshape_vector(b.face.blendshapes)
    return likeness(a.close_up, b.close_up) > DUPLICATE_LIKENESS and float(np.linalg.norm(change)) < DUPLICATE_CHANGE


def _readings(found: Sequence[_Found]) -> list[Reading]:
    """What each photo of the person shows."""
    faces = [one.face for one in found]
    return read_album([face.blendshapes for face in faces], judge_faces([one.rgb for one in found], faces))


def _in_words(reading: Reading) -> str:
    """`happy (99 % sure, strength 1.2)`, as the report says it."""
    sure = f"{min(99, round(100 * reading.sure))} %"
    if reading.expression is None:
        disputed = f", {reading.classified} by the photo classifier" if reading.classified != reading.likeliest else ""
        return f"expression unclear (most likely {reading.likeliest}, {sure}{disputed})"
    strength = "" if reading.expression == "neutral" else f", strength {reading.intensity:.1f}"
    return f"{reading.expression} ({sure} sure{strength})"


def _cut(one: _Found, expression: str | None, settings: SubjectSettings) -> Photo:
    height, width = one.rgb.shape[:2]
    wanted = min(height, width) if settings.framing == "whole picture" else one.face.size * (1 + 2 * settings.padding)
    left, top, side = square_around(one.face, wanted, height, width)
    scale = settings.resolution / side
    return Photo(
        name=one.source.name,
        image=crop_resized(one.rgb, left, top, side, settings.resolution),
        face=one.face.moved(scale, left, top),
        caption=one.source.caption or caption_for(expression, settings.trigger, settings.class_word),
        expression=expression,
        original_size=(height, width),
        crop_top_left=(round(top * scale), round(left * scale)),
        target_size=(settings.resolution, settings.resolution),
    )


def _caption_notes(source: SourceImage, settings: SubjectSettings) -> list[str]:
    trigger = settings.trigger.strip()
    if source.caption and trigger and trigger not in source.caption:
        return [f"its caption lacks the trigger word {trigger}"]
    return []
