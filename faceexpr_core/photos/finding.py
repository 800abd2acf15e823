"""The face of each photo that is to be learned: seen, compared with the other photos' faces, chosen; or the reason why there is none."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..faces.detector import Face, FaceDetector, square_around
from ..faces.images import SourceImage, crop_resized
from ..faces.upright import Upright, levelled, middle_face, roll_of, turned_upright, whole_upright
from ..measure.identity import IdentityMeter
from .conditions import conditions
from .people import People, Sighting, who_is_who
from .settings import SubjectSettings
from .verdicts import DROPPED, NO_PHOTO, SKIPPED, Verdict, thumbnail

_FACE_MARGIN = 1.3
_DOUBTFUL = 0.8
"""Share of the bar down to which a face that is hard to see is kept, with a word, since SFace is weak on it."""

_YUNET_TILT = 20.0
"""Degrees. Of 16 faces of four people SFace's likeness to themselves upright was 0.97 by YuNet's points and 0.96 by MediaPipe's; tilted by
30 degrees 0.86 and 0.96, by 40 degrees 0.68 and 0.96."""

_NAMED_PEOPLE = 6


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture as it should stand, its faces, largest first, and YuNet's row of each where it has one. `aslant`: it holds several people
    and is left so until one of them is chosen, around whom it is cut and turned."""

    source: SourceImage
    upright: Upright
    faces: tuple[Face, ...]
    rows: tuple[NDArray[np.float32] | None, ...]
    aslant: bool = False

    def points(self, number: int) -> NDArray[np.float32]:
        """Five points [5, 2] of a face: YuNet's, but of a tilted one MediaPipe's."""
        row, face = self.rows[number], self.faces[number]
        return face.five_points() if row is None or abs(roll_of(face)) > _YUNET_TILT else row[4:14].reshape(5, 2)


@dataclass(frozen=True, eq=False)
class Found:
    """A photo with its chosen face, before cutting; `close_up` is the face alone, for comparing photos, `others` are the faces beside."""

    source: SourceImage
    rgb: NDArray[np.uint8]
    turned: int
    face: Face
    others: tuple[Face, ...]
    close_up: NDArray[np.uint8]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Choice:
    """The number of a photo's face, and what is to be said of it."""

    face: int
    notes: tuple[str, ...] = ()


def see(source: SourceImage, detector: FaceDetector) -> Seen | Verdict:
    """A picture's faces, or the verdict that says why it has none."""
    if source.rgb is None:
        words = "; ".join((source.problem, *source.notes))
        return Verdict(source.name, SKIPPED if source.photo else NO_PHOTO, words)
    upright = turned_upright(source.rgb, detector)
    one = _seen(source, upright, detector)
    if upright.turned % 90:  # a square around the largest face, which may be a neighbour's
        whole = _seen(source, whole_upright(source.rgb, upright.turned), detector, aslant=True)
        if len(whole.faces) > len(one.faces):
            one = whole
    if not one.faces:
        rows = detector.rows(upright.rgb)
        why = "no face found" if not len(rows) else "no face found clearly; what may be one is turned too far away, covered or blurred"
        return Verdict(source.name, SKIPPED, why, thumbnail(upright.rgb))
    return one


def _seen(source: SourceImage, upright: Upright, detector: FaceDetector, aslant: bool = False) -> Seen:
    faces = tuple(detector.detect(upright.rgb, every=True))
    return Seen(source, upright, faces, tuple(detector.closer_row(upright.rgb, face) for face in faces), aslant)


def choose(
    seen: Mapping[int, Seen], settings: SubjectSettings, detector: FaceDetector, meter: IdentityMeter | None
) -> tuple[dict[int, Found], dict[int, Verdict], list[str]]:
    """Of each picture the face to be learned, or a verdict; and lines about the people. Without a `meter` faces are not compared."""
    found: dict[int, Found] = {}
    verdicts: dict[int, Verdict] = {}
    chosen, lines = _by_person(seen, settings, meter) if meter is not None and seen else (_by_size(seen, settings), [])
    for number, one in seen.items():
        choice = chosen[number]
        if isinstance(choice, str):
            verdicts[number] = Verdict(one.source.name, DROPPED, choice, thumbnail(one.upright.rgb))
            continue
        usable = _usable(*_levelled(one, choice, detector), settings)
        if isinstance(usable, Found):
            found[number] = usable
        else:
            verdicts[number] = usable
    return found, verdicts, lines


def _by_size(seen: Mapping[int, Seen], settings: SubjectSettings) -> dict[int, _Choice | str]:
    chosen: dict[int, _Choice | str] = {}
    for number, one in seen.items():
        face = min(settings.face_index, len(one.faces) - 1)
        notes = ("only one face found",) if len(one.faces) == 1 and settings.face_index else _of_several(one, face)
        chosen[number] = _Choice(face, notes)
    return chosen


def _of_several(one: Seen, face: int) -> tuple[str, ...]:
    if len(one.faces) == 1:
        return ()
    return (f"{len(one.faces)} faces found, {'the largest' if face == 0 else f'number {face + 1} by size'} was taken",)


def _by_person(seen: Mapping[int, Seen], settings: SubjectSettings, meter: IdentityMeter) -> tuple[dict[int, _Choice | str], list[str]]:
    places = [(number, face) for number, one in seen.items() for face in range(len(one.faces))]
    vectors = [meter.embed_points(seen[number].upright.rgb, seen[number].points(face)) for number, face in places]
    sightings = [Sighting(number, seen[number].faces[face].size, vector) for (number, face), vector in zip(places, vectors, strict=True)]
    people = who_is_who(sightings)
    if settings.person >= len(people.persons):
        asked = f"The person is number {settings.person}, but the photos show {len(people.persons)} (0 to {len(people.persons) - 1}):"
        return dict.fromkeys(seen, "does not show the person asked for"), [asked, *_people_lines(people, seen, None)[1:]]
    who = people.persons[settings.person]
    own_vectors = np.stack([vectors[sighting] for sighting in who.sightings])
    chosen: dict[int, _Choice | str] = {}
    for number, one in seen.items():
        here = {face: sighting for sighting, (photo, face) in enumerate(places) if photo == number}
        own = [face for face, sighting in here.items() if sighting in who.sightings]
        likeness = {face: float((own_vectors @ vectors[sighting]).mean()) for face, sighting in here.items()}
        persons = {face: people.of(sighting) for face, sighting in here.items()}
        known = {face for face, person in persons.items() if len(people.persons[person].photos) > 1}
        chosen[number] = _chosen(one, own, likeness, people.bar, persons, known)
    return chosen, _people_lines(people, seen, settings.person) if len(people.persons) > 1 else []


def _chosen(
    one: Seen, own: Sequence[int], likeness: Mapping[int, float], bar: float, persons: Mapping[int, int], known: Collection[int]
) -> _Choice | str:
    """The largest of the person's own faces in a photo, which has the mean `likeness` to them for each face, and the number of whom it
    shows; or why there is none. `known` are the faces of those who are in other photos too."""
    if own:
        twice = (f"{len(own)} of them look like the same person (a mirror, a collage?)",) if len(own) > 1 else ()
        return _Choice(own[0], (*_of_several(one, own[0]), *twice))
    nearest = max(likeness, key=lambda face: likeness[face])
    how = f"likeness {likeness[nearest]:.2f}, the same person from about {bar:.2f}"
    if nearest not in known and likeness[nearest] >= _DOUBTFUL * bar and conditions(one.faces[nearest], one.rows[nearest]):
        return _Choice(nearest, (*_of_several(one, nearest), f"may be another person ({how})"))
    numbers = sorted(set(persons.values()))
    who = f"another person: person {numbers[0]}" if len(numbers) == 1 else f"other people: persons {', '.join(map(str, numbers))}"
    return f"shows {who} ({how})"


def _people_lines(people: People, seen: Mapping[int, Seen], taken: int | None) -> list[str]:
    count = f"{len(people.persons)} people were seen"
    most = len(people.persons[0].photos)
    tied = len(people.persons) > 1 and len(people.persons[1].photos) == most
    why = "is in most photos" if not tied else "is the largest of those in as many photos"
    lines = [f"{count}; to learn another one, give the number as 'person', or -1 to take each photo's largest face"]
    for number, person in enumerate(people.persons[:_NAMED_PEOPLE]):
        names = ", ".join(seen[photo].source.name for photo in person.photos)
        told = f" (taken{f': {why}' if number == 0 else ''})" if number == taken else ""
        lines.append(f"person {number}{told}: {names}")
    if len(people.persons) > _NAMED_PEOPLE:
        lines.append(f"and {len(people.persons) - _NAMED_PEOPLE} more, in fewer photos or smaller")
    return lines


def _levelled(one: Seen, choice: _Choice, detector: FaceDetector) -> tuple[Seen, _Choice]:
    """Of a picture that lies aslant the square around the chosen face, turned upright; others as they are, and where that shows no face."""
    if not one.aslant:
        return one, choice
    square = _seen(one.source, levelled(one.upright, one.faces[choice.face], detector), detector)
    if square.upright is one.upright or not square.faces:
        return one, choice
    return square, replace(choice, face=square.faces.index(middle_face(square.faces, square.upright.rgb)))


def _usable(one: Seen, choice: _Choice, settings: SubjectSettings) -> Found | Verdict:
    face, rgb = one.faces[choice.face], one.upright.rgb
    notes = [*_turn_notes(one.upright), *choice.notes, *one.source.notes, *conditions(face, one.rows[choice.face])]
    if face.size < settings.smallest_face():
        small = f"face of {face.size:.0f} px is smaller than {settings.smallest_face()} px"
        if settings.drop_small:
            return Verdict(one.source.name, DROPPED, small, thumbnail(rgb))
        notes.append(small)
    close_up = crop_resized(rgb, *square_around(face, _FACE_MARGIN * face.size, *rgb.shape[:2]), 64)
    others = tuple(other for other in one.faces if other is not face)
    return Found(one.source, rgb, one.upright.turned, face, others, close_up, tuple(notes))


def _turn_notes(upright: Upright) -> tuple[str, ...]:
    if not upright.turned:
        return ()
    lay = "upside down" if upright.turned == 180 else "on its side" if upright.turned % 90 == 0 else "aslant"
    return (f"it lay {lay} and was turned upright, by {upright.turned} degrees clockwise",)
