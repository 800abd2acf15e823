"""Photos of one person to a Subject: faces found, pictures cut and resized, captions written, and a report that says what was done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceExprError
from ..expressions import EXPRESSIONS
from ..faces.detector import Face, FaceDetector, face_mask, square_around
from ..faces.images import SourceImage, crop_resized, likeness
from ..faces.models import MissingModelFile
from ..measure.expression import blendshape_vector
from ..measure.identity import IdentityMeter
from ..measure.reader import judge_faces
from ..measure.reading import Reading, read_album
from .finding import Found, Seen, choose, see
from .settings import SubjectSettings, check
from .verdicts import DROPPED, KEPT, NO_PHOTO, Verdict, thumbnail

DUPLICATE_LIKENESS = 0.96
DUPLICATE_CHANGE = 3.0
"""Two photos are near-duplicates if their faces' brightness correlates more than the first and the scaled blendshapes lie closer than
the second. Recompressed, cropped, resized or brightened copies mostly reach 0.965-1.0 and 0.5-2.5; among 60 renders, other photos of the
same person reached at most 0.957."""


@dataclass(frozen=True, eq=False)
class Photo:
    """One prepared photo: `image` uint8 [R, R, 3], `face` in its pixels, `expression` as read (None: too unsure to name), SDXL's size ids.

    `target_size` (R, R). Of a face crop `original_size` is the cut's own height and width in pixels and `crop_top_left` (0, 0); of the
    whole picture they are the source picture's height and width, and (top, left) of the cut in it resized to the photo's scale. That is
    ours: the paper has nothing on it. `drawn_mask` is `mask` where it was drawn before. `turned`: degrees clockwise by which the source
    was turned upright first; size and cut are those of the turned picture.
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
    turned: int = 0

    def mask(self) -> NDArray[np.float32]:
        """Mask of the face, float32 [R, R] in 0..1."""
        return face_mask(self.face, *self.image.shape[:2]) if self.drawn_mask is None else self.drawn_mask


@dataclass(frozen=True, eq=False)
class Subject:
    """A person: photos at one square resolution, the words that name the person, a report for people to read, and what became of every
    file, in the report's order."""

    photos: tuple[Photo, ...]
    trigger: str
    class_word: str
    resolution: int
    report: str
    verdicts: tuple[Verdict, ...] = ()

    @property
    def instance_prompt(self) -> str:
        """`a photo of <trigger> <class word>`: the person without an expression."""
        return " ".join(["a photo of", *(word for word in (self.trigger, self.class_word) if word)])

    def learned_captions(self, captions: bool) -> list[str]:
        """With what words each photo is learned: its own, or without `captions` the same for all."""
        return [photo.caption if captions else self.instance_prompt for photo in self.photos]

    def shortened(self) -> str:
        """The report for those who asked for no subject: without the lines of photos that are kept and of files that are no photos."""
        quiet = {one.line() for one in self.verdicts if one.verdict in (KEPT, NO_PHOTO)}
        return "\n".join(line for line in self.report.split("\n") if line not in quiet)


def prepare_subject(
    images: Sequence[SourceImage],
    settings: SubjectSettings | None = None,
    folders: Iterable[str | os.PathLike[str]] = (),
    detector: FaceDetector | None = None,
    meter: IdentityMeter | None = None,
    looking: Callable[[int, int], None] | None = None,
    **fields: Any,
) -> Subject:
    """Find the person's face, drop what cannot be used, cut, resize and caption; `fields` of `SubjectSettings` may also be given by name.

    `folders` are looked through first for model files; `detector` and `meter` are used instead of new ones if given.
    `looking` is told before each picture is looked at: its number from 1, and how many there are.
    Raises FaceExprError for settings out of range, and where no photo is left, with the reason for each.
    """
    settings = replace(settings or SubjectSettings(), **fields)
    check(settings)
    if not any(source.photo for source in images):
        raise FaceExprError("No pictures were given. Choose a folder with photos of one person, or connect an IMAGE, or both.")
    folders, own = tuple(folders), detector is None
    detector = detector or FaceDetector(folders)
    try:
        looked = {}
        for number, source in enumerate(images):
            if looking is not None:
                looking(number + 1, len(images))
            looked[number] = see(source, detector)
        seen = {number: one for number, one in looked.items() if isinstance(one, Seen)}
        meter, unable = _meter(seen, settings, folders, detector, meter)
        found, others, lines = choose(seen, settings, detector, meter)
    finally:
        if own:
            detector.close()
    verdicts = {number: one for number, one in looked.items() if isinstance(one, Verdict)} | others
    _look_for_duplicates(found, verdicts, settings)
    count = sum(source.photo for source in images)
    if not found:
        reasons = "\n".join([*(verdicts[number].line() for number in sorted(verdicts)), *lines])
        raise FaceExprError(f"None of the {count} pictures can be used:\n{reasons}\nGive photos that show one face clearly.")

    photos = []
    for number, reading in zip(found, _readings(list(found.values())), strict=True):
        photo, verdicts[number] = _kept(found[number], reading, settings)
        photos.append(photo)
    side, ordered = settings.resolution, tuple(verdicts[number] for number in sorted(verdicts))
    heading = f"{len(photos)} of {count} pictures kept, {side} x {side}, {settings.framing}"
    report = "\n".join([heading, *(verdict.line() for verdict in ordered), *lines, *unable])
    return Subject(tuple(photos), settings.trigger.strip(), settings.class_word.strip(), side, report, ordered)


def _meter(
    seen: Mapping[int, Seen],
    settings: SubjectSettings,
    folders: tuple[str | os.PathLike[str], ...],
    detector: FaceDetector,
    meter: IdentityMeter | None,
) -> tuple[IdentityMeter | None, list[str]]:
    """What compares the faces, None where there is nothing to compare; and a line where its file is not there."""
    if not settings.compares():
        return None, []
    if meter is not None or (settings.person == 0 and sum(len(one.faces) for one in seen.values()) < 2):
        return meter, []
    try:
        return IdentityMeter(folders, detector), []
    except MissingModelFile as missing:
        if settings.person:
            raise
        return None, [f"the faces were not compared, so that strangers may be among them: {missing}"]


def caption_for(expression: str | None, trigger: str, class_word: str) -> str:
    """`a photo of <trigger> <class word>, <expression's phrase>`; an empty trigger or class word is left out, and so is no expression."""
    who = " ".join(word for word in (trigger.strip(), class_word.strip()) if word)
    return f"a photo of {who}" if expression is None else f"a photo of {who}, {EXPRESSIONS[expression].phrase}"


def _look_for_duplicates(found: dict[int, Found], verdicts: dict[int, Verdict], settings: SubjectSettings) -> None:
    """Move later near-duplicates from `found` to `verdicts`, or note them there, as the settings say."""
    kept: list[Found] = []
    for number, one in list(found.items()):
        twin = next((other for other in kept if _near_duplicates(one, other)), None)
        if twin is not None and settings.drop_duplicates:
            verdicts[number] = Verdict(
                one.source.name, DROPPED, f"nearly the same as {twin.source.name}", thumbnail(one.rgb), notes=one.notes
            )
            del found[number]
            continue
        if twin is not None:
            found[number] = replace(one, notes=(*one.notes, f"nearly the same as {twin.source.name}"))
        kept.append(one)


def _near_duplicates(a: Found, b: Found) -> bool:
    change = blendshape_vector(a.face.blendshapes) - blendshape_vector(b.face.blendshapes)
    return likeness(a.close_up, b.close_up) > DUPLICATE_LIKENESS and float(np.linalg.norm(change)) < DUPLICATE_CHANGE


def _readings(found: Sequence[Found]) -> list[Reading]:
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


def _kept(one: Found, reading: Reading, settings: SubjectSettings) -> tuple[Photo, Verdict]:
    photo, notes = _cut(one, reading.expression, settings)
    words, given = f"face {one.face.size:.0f} px, {_in_words(reading)}", bool(one.source.caption)
    told = (*one.notes, *notes, *_caption_notes(one.source, settings))
    return photo, Verdict(photo.name, KEPT, words, caption=photo.caption, given=given, notes=told)


def _cut(one: Found, expression: str | None, settings: SubjectSettings) -> tuple[Photo, list[str]]:
    """The prepared photo, and what is to be said of the cut."""
    height, width = one.rgb.shape[:2]
    whole = settings.framing == "whole picture"
    wanted = min(height, width) if whole else one.face.size * (1 + 2 * settings.padding)
    left, top, side = square_around(one.face, wanted, height, width)
    scale = settings.resolution / side
    # a small face enlarged is no photo of many pixels: the source's size and a corner far outside are nothing SDXL was trained with
    size, corner = ((height, width), (round(top * scale), round(left * scale))) if whole else ((side, side), (0, 0))
    photo = Photo(
        name=one.source.name,
        image=crop_resized(one.rgb, left, top, side, settings.resolution),
        face=one.face.moved(scale, left, top),
        caption=one.source.caption or caption_for(expression, settings.trigger, settings.class_word),
        expression=expression,
        original_size=size,
        crop_top_left=corner,
        target_size=(settings.resolution, settings.resolution),
        turned=one.turned,
    )
    inside = [face for face in one.others if left < face.centre[0] < left + side and top < face.centre[1] < top + side]
    return photo, ["another face is in the cut" if len(inside) == 1 else f"{len(inside)} other faces are in the cut"] if inside else []


def _caption_notes(source: SourceImage, settings: SubjectSettings) -> list[str]:
    trigger = settings.trigger.strip()
    if source.caption and trigger and trigger not in source.caption:
        return [f"its caption lacks the trigger word {trigger}"]
    return []
