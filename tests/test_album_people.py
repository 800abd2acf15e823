"""Albums with strangers, groups and doubles, and photos that do not stand upright, tilted, turned away or covered.

Faces: three rendered people of 192 px, nine expressions each, and skimage's astronaut.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rendered import rendered_people, turned_faces

from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces import models
from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.faces.images import SourceImage
from faceexpr_core.faces.upright import roll_of, turned_upright
from faceexpr_core.measure.identity import IdentityMeter
from faceexpr_core.photos import letters
from faceexpr_core.photos.people import HIGHEST_BAR, SAME_PERSON, Sighting, who_is_who
from faceexpr_core.photos.settings import SubjectSettings
from faceexpr_core.photos.sheet import CELL, COLUMNS, contact_sheet
from faceexpr_core.photos.subject import Subject, prepare_subject
from faceexpr_core.photos.subject_files import read_subject, write_subject
from faceexpr_core.photos.subject_process import prepare_centred

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def people() -> list[list[Picture]]:
    return rendered_people()


def album(pictures: dict[str, Picture]) -> list[SourceImage]:
    return [SourceImage(name, picture) for name, picture in pictures.items()]


def prepared(meter: IdentityMeter, pictures: dict[str, Picture], **fields: Any) -> Subject:
    return prepare_subject(album(pictures), detector=meter.detector, meter=meter, **{"resolution": 64, **fields})


def beside(*pictures: Picture) -> Picture:
    """Pictures of faces side by side on grey, each at its own size."""
    height = max(one.shape[0] for one in pictures)
    return np.concatenate([np.pad(one, ((0, height - one.shape[0]), (0, 8), (0, 0)), constant_values=120) for one in pictures], axis=1)


def larger(picture: Picture, times: float) -> Picture:
    size = round(picture.shape[1] * times), round(picture.shape[0] * times)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def line_of(subject: Subject, name: str) -> str:
    return next(verdict.line() for verdict in subject.verdicts if verdict.name == name)


@pytest.fixture(scope="module")
def mixed(people: list[list[Picture]]) -> dict[str, Picture]:
    """Person 0 in four photos, of which one is a group where person 1, who has one more photo, is larger; person 2 in one."""
    own = {f"own {number}": people[0][number] for number in range(3)}
    group = beside(people[0][4], larger(people[1][1], 1.3))
    return {"a stranger": people[1][0], **own, "group": group, "another": people[2][0]}


def test_the_person_in_most_photos_is_learned(meter: IdentityMeter, mixed: dict[str, Picture]) -> None:
    subject = prepared(meter, mixed)
    assert [one.name for one in subject.photos] == ["own 0", "own 1", "own 2", "group"]
    assert "2 faces found, number 2 by size was taken" in line_of(subject, "group")
    assert line_of(subject, "a stranger").startswith("dropped  a stranger: shows another person: person 1 (likeness 0.")
    assert line_of(subject, "another").startswith("dropped  another: shows another person: person 2")
    told = subject.report.splitlines()[-4:]
    assert told[0].startswith("3 people were seen; to learn another one, give the number as 'person'")
    assert told[1] == "person 0 (taken: is in most photos): own 0, own 1, own 2, group"
    assert told[2] == "person 1: a stranger, group" and told[3] == "person 2: another"


def test_another_person_can_be_chosen(meter: IdentityMeter, mixed: dict[str, Picture]) -> None:
    subject = prepared(meter, mixed, person=1)
    assert [one.name for one in subject.photos] == ["a stranger", "group"]
    assert "2 faces found, the largest was taken" in line_of(subject, "group")
    assert "person 1 (taken): a stranger, group" in subject.report


def test_everybody_can_be_taken_without_comparing(meter: IdentityMeter, mixed: dict[str, Picture]) -> None:
    subject = prepared(meter, mixed, person=-1)
    assert len(subject.photos) == 6 and "the largest was taken" in line_of(subject, "group")
    assert "people were seen" not in subject.report


def test_a_person_who_is_not_there_is_told_with_those_who_are(meter: IdentityMeter, mixed: dict[str, Picture]) -> None:
    with pytest.raises(FaceExprError) as caught:
        prepared(meter, mixed, person=3)
    told = str(caught.value)
    assert "The person is number 3, but the photos show 3 (0 to 2):" in told
    assert "person 1: a stranger, group" in told and "dropped  own 0: does not show the person asked for" in told


def test_a_second_person_is_looked_for_in_a_single_photo_too(model_folder: Path, people: list[list[Picture]]) -> None:
    with pytest.raises(FaceExprError, match=r"The person is number 1, but the photos show 1"):
        prepare_subject(album({"own": people[0][0]}), folders=[model_folder], resolution=64, person=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"person": -2}, "-1 for whoever is largest"), ({"person": 1, "face_index": 1}, "give one of them, and 0 for the other")],
)
def test_persons_out_of_range_are_refused(people: list[list[Picture]], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FaceExprError, match=message):
        prepare_subject(album({"a": people[0][0]}), **fields)


@pytest.mark.parametrize("subject", [0, 1, 2])
@pytest.mark.parametrize("stranger", [0, 1, 2])
def test_a_strangers_photo_is_dropped_whoever_it_is(meter: IdentityMeter, people: list[list[Picture]], subject: int, stranger: int) -> None:
    pictures = {f"own {number}": people[subject][number] for number in (0, 1, 5)} | {"other": people[stranger][2]}
    kept = [one.name for one in prepared(meter, pictures).photos]
    assert kept == [*(["own 0", "own 1", "own 5"]), *(["other"] if stranger == subject else [])]


def test_a_real_person_among_rendered_ones_and_the_other_way_round(
    meter: IdentityMeter, people: list[list[Picture]], photo: Picture
) -> None:
    real = {"as it is": photo, "darker": (photo * 0.6).astype(np.uint8)[20:, 30:480], "mirrored": np.ascontiguousarray(photo[:, ::-1])}
    subject = prepared(meter, {"render": people[1][0], **real}, drop_duplicates=False)
    assert [one.name for one in subject.photos] == list(real)
    rendered = {f"render {number}": people[1][number] for number in range(3)}
    assert [one.name for one in prepared(meter, {"real": photo, **rendered}).photos] == list(rendered)


def test_a_double_is_told_and_the_larger_one_taken(meter: IdentityMeter, people: list[list[Picture]]) -> None:
    collage = beside(people[0][0], larger(people[0][3], 1.4))
    subject = prepared(meter, {"collage": collage, "own": people[0][1]})
    told = line_of(subject, "collage")
    assert "2 faces found, the largest was taken; 2 of them look like the same person (a mirror, a collage?)" in told
    own = prepared(meter, {"collage": larger(people[0][3], 1.4), "own": people[0][1]})
    assert subject.photos[0].original_size[0] == pytest.approx(own.photos[0].original_size[0], rel=0.05)
    assert "people were seen" not in subject.report


def test_a_neighbours_face_in_the_cut_is_told(meter: IdentityMeter, people: list[list[Picture]]) -> None:
    close = np.concatenate([people[0][0][:, 15:177], people[1][0][:, 15:177]], axis=1)
    subject = prepared(meter, {"own": people[0][1], "own 2": people[0][2], "close": close}, padding=2.0, framing="face crop")
    assert "another face is in the cut" not in line_of(subject, "own")
    wide = prepared(meter, {"own": people[0][1], "own 2": people[0][2], "close": np.pad(close, ((90, 90), (0, 0), (0, 0)))}, padding=2.0)
    assert "another face is in the cut" in line_of(wide, "close")


def test_two_photos_of_two_people_say_that_neither_is_in_more(meter: IdentityMeter, people: list[list[Picture]]) -> None:
    subject = prepared(meter, {"small": people[0][0], "large": larger(people[1][0], 1.5)})
    assert [one.name for one in subject.photos] == ["large"]
    assert "person 0 (taken: is the largest of those in as many photos): large" in subject.report


def test_a_face_picked_by_size_is_not_compared(meter: IdentityMeter, mixed: dict[str, Picture]) -> None:
    subject = prepared(meter, mixed, face_index=1)
    assert len(subject.photos) == 6 and "2 faces found, number 2 by size was taken" in line_of(subject, "group")


def test_without_sface_the_report_says_that_nobody_was_compared(
    people: list[list[Picture]], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("face_landmarker", "yunet"):
        file = models.find(name, [model_folder])
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.delenv("FACEEXPR_MODELS")
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(models, "__file__", str(tmp_path / "pack" / "faceexpr_core" / "faces" / "models.py"))  # no files beside a clone
    subject = prepare_subject(album({"a": people[0][0], "b": people[1][0]}), folders=[tmp_path], resolution=64)
    assert len(subject.photos) == 2
    assert "the faces were not compared, so that strangers may be among them" in subject.report
    assert "cli.py models fetch sface" in subject.report
    with pytest.raises(FaceExprError, match=r"cli\.py models fetch sface"):
        prepare_subject(album({"a": people[0][0], "b": people[1][0]}), folders=[tmp_path], resolution=64, person=1)


def vectors(*rows: Sequence[float]) -> list[Sighting]:
    units = [np.array(row, np.float32) / np.linalg.norm(row) for row in rows]
    return [Sighting(number, 100.0, unit) for number, unit in enumerate(units)]


def test_the_bar_lies_between_opencvs_and_that_of_renders() -> None:
    alike = who_is_who(vectors((1, 0, 0.1), (1, 0.3, 0), (1, 0, -0.3)))
    assert alike.bar == HIGHEST_BAR and len(alike.persons) == 1
    apart = who_is_who(vectors((1, 0, 0), (0.3, 1, 0), (0, 0, 1)))
    assert apart.bar == SAME_PERSON and [one.sightings for one in apart.persons] == [(0,), (1,), (2,)]
    assert who_is_who([]).persons == ()


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
@pytest.mark.parametrize("person", [0, 1, 2, 3])
def test_a_photo_turned_by_quarters_is_turned_back_whole(
    meter: IdentityMeter, people: list[list[Picture]], photo: Picture, person: int, turned: int
) -> None:
    upright = photo[:256, 96:360] if person == 3 else people[person][1]
    lies = np.ascontiguousarray(np.rot90(upright, turned // 90))  # counter-clockwise
    found = turned_upright(lies, meter.detector)
    assert found.turned == turned and np.array_equal(found.rgb, upright)


@pytest.mark.parametrize("turned", [40, 75, 130, 160, 200, 250, 310, 325])
def test_a_photo_lying_aslant_is_turned_upright(meter: IdentityMeter, photo: Picture, turned: int) -> None:
    lies = np.asarray(Image.fromarray(photo).rotate(turned, expand=True, fillcolor="grey", resample=Image.Resampling.BICUBIC))
    found = turned_upright(lies, meter.detector)
    assert abs((found.turned - turned + 180) % 360 - 180) < 30
    assert abs(roll_of(meter.detector.detect(found.rgb)[0])) < 30


def tilted(picture: Picture, degrees: float, side: int) -> Picture:
    """Turned counter-clockwise on grey at `side` pixels, or in its own size with all of it kept for 0."""
    shown = Image.fromarray(larger(picture, side / len(picture)) if side else picture)
    return np.asarray(shown.rotate(degrees, Image.Resampling.BICUBIC, expand=not side, fillcolor=(120, 120, 120)))


def couple(own: Picture, other: Picture, tilts: tuple[int, ...]) -> Picture:
    """Two people beside each other, the other one larger: each head tilted counter-clockwise, and then the whole picture."""
    small, large = tilted(own, tilts[0], 192), tilted(other, tilts[1], 300)
    both = np.full((360, 512, 3), 120, np.uint8)
    both[60:252, :192], both[30:330, 212:] = small, large
    return tilted(both, tilts[2], 0)


@pytest.mark.parametrize("tilts", [(-28, -28, 0), (-24, -30, 0), (-22, -35, 0), (0, 0, 40), (0, 0, 315), (-30, -30, 180)])
def test_turning_a_photo_of_two_people_costs_neither(meter: IdentityMeter, people: list[list[Picture]], tilts: tuple[int, ...]) -> None:
    """The square around the larger face was all that was left of it."""
    couples = {f"couple {number}": couple(people[0][number], people[1][number], tilts) for number in range(2)}
    subject = prepared(meter, couples | {"own": people[0][2]}, drop_duplicates=False)
    assert [one.name for one in subject.photos] == ["couple 0", "couple 1", "own"]
    for photo in subject.photos[:2]:
        assert "2 faces found, number 2 by size was taken" in line_of(subject, photo.name)
        assert abs(roll_of(photo.face)) < 30 and abs((photo.turned - tilts[0] - tilts[2] + 180) % 360 - 180) < 32
    if tilts[2] % 90:  # all of the picture lay aslant, and was turned around the one who was chosen
        assert all(abs(roll_of(photo.face)) < 5 for photo in subject.photos)


def test_a_face_of_a_photo_that_lay_aslant_is_picked_by_size_too(meter: IdentityMeter, people: list[list[Picture]]) -> None:
    both = {"couple": couple(people[0][0], people[1][0], (0, 0, 40))}
    told = [
        re.search(r"face (\d+) px.*turned upright, by [34]\d degrees", prepared(meter, both, face_index=face).report) for face in (0, 1)
    ]
    first, second = (int(one[1]) for one in told if one is not None)
    assert first / second == pytest.approx(300 / 192, rel=0.1)


@pytest.mark.parametrize("degrees", [-40, 40])
def test_a_tilted_head_in_a_group_is_known_by_its_face(meter: IdentityMeter, people: list[list[Picture]], degrees: int) -> None:
    """YuNet's points lie beside those of a tilted face, so that it counted as a stranger's."""
    group = {f"group {number}": beside(larger(people[1][number], 1.5), tilted(people[0][number], degrees, 192)) for number in (0, 1)}
    subject = prepared(meter, group | {f"own {number}": people[0][number] for number in (2, 3, 4)}, drop_duplicates=False)
    assert [one.name for one in subject.photos] == [*group, "own 2", "own 3", "own 4"]


def test_what_was_turned_is_told_and_read_as_it_shows(meter: IdentityMeter, people: list[list[Picture]]) -> None:
    upright = {f"{number}": people[1][number] for number in range(3)}
    lying = {name: np.ascontiguousarray(np.rot90(one, 2 - int(name) % 2)) for name, one in upright.items()}
    first, second = (prepared(meter, pictures, resolution=128) for pictures in (upright, lying))
    assert [one.caption for one in first.photos] == [one.caption for one in second.photos]
    assert "it lay upside down and was turned upright, by 180 degrees clockwise" in line_of(second, "0")
    assert "it lay on its side and was turned upright, by 90 degrees clockwise" in line_of(second, "1")
    assert "turned upright" not in first.report
    assert all(np.array_equal(one.image, other.image) for one, other in zip(first.photos, second.photos, strict=True))
    assert [one.turned for one in second.photos] == [180, 90, 180]


def test_a_turned_photo_cut_in_the_middle_has_the_size_ids_of_the_upright_one(photo: Picture) -> None:
    wide = np.pad(photo, ((0, 0), (40, 60), (0, 0)))
    lying = {"upright": wide, "lying": np.ascontiguousarray(np.rot90(wide))}
    first, second = prepare_centred(album(lying), SubjectSettings(resolution=64, drop_duplicates=False)).photos
    assert first.original_size == second.original_size == (512, 612)
    assert first.crop_top_left == second.crop_top_left == (0, 6) and np.array_equal(first.image, second.image)


def test_a_tilted_head_is_told_and_left(meter: IdentityMeter, photo: Picture) -> None:
    tilted = np.asarray(Image.fromarray(photo).rotate(-20, fillcolor="grey", resample=Image.Resampling.BICUBIC))
    told = line_of(prepared(meter, {"tilted": tilted}), "tilted")
    assert re.search(r"the head is tilted by 2\d degrees", told) and "turned upright" not in told


def covered(picture: Picture, detector: FaceDetector, what: str) -> Picture:
    face, shown = detector.detect(picture)[0], picture.copy()
    points = face.landmarks[:, :2]
    if what == "sunglasses":
        for corner in (33, 133), (263, 362):
            x, y = points[list(corner)].mean(axis=0)
            cv2.ellipse(shown, (int(x), int(y)), (int(0.19 * face.width), int(0.16 * face.width)), 0, 0, 360, (15, 15, 20), -1)
    else:
        hull = cv2.convexHull(points[[234, 93, 58, 172, 150, 152, 379, 397, 288, 323, 454, 280, 195, 50]].astype(np.float32))
        cv2.fillConvexPoly(shown, hull.astype(np.int32), (150, 190, 210))
    return shown


@pytest.mark.parametrize("what", ["sunglasses", "mask"])
@pytest.mark.parametrize("person", [2, 3])
def test_a_covered_face_is_told(meter: IdentityMeter, people: list[list[Picture]], photo: Picture, person: int, what: str) -> None:
    picture = photo[:300, 60:400] if person == 3 else people[person][0]
    pictures = {"open": picture, what: covered(picture, meter.detector, what)}
    subject = prepared(meter, pictures, drop_duplicates=False)
    assert "part of the face may be covered" in line_of(subject, what)
    assert "part of the face may be covered" not in line_of(subject, "open")


@pytest.mark.parametrize(("place", "told"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_side_face_is_told(meter: IdentityMeter, place: int, told: bool) -> None:
    subject = prepared(meter, {"face": turned_faces()[place]})
    assert bool(re.search(r"the head is turned [45]\d degrees to the side", line_of(subject, "face"))) == told


def test_the_contact_sheet_shows_crop_mask_and_verdict(meter: IdentityMeter, mixed: dict[str, Picture], tmp_path: Path) -> None:
    subject = prepared(meter, mixed)
    write_subject(tmp_path / "subject.npz", subject)
    again = read_subject(tmp_path / "subject.npz")
    sheet = contact_sheet(subject)
    assert sheet.shape[1] == COLUMNS * CELL + (COLUMNS + 1) * 14 and np.array_equal(sheet, contact_sheet(again))
    row = np.flatnonzero((sheet == (110, 205, 120)).all(axis=2).sum(axis=1) > CELL)[0]  # the upper edges of the cells
    first, second = (sheet[row : row + CELL, left : left + CELL].astype(float) for left in (14, 28 + CELL))
    assert (first[0, 0] == (240, 175, 70)).all() and (second[0, 0] == (110, 205, 120)).all()
    own = subject.photos[0]
    assert np.abs(second[110:150, 110:150].mean() - own.image[28:38, 28:38].mean()) < 6  # the face as it is
    assert second[6:30, 6:30].mean() < 0.75 * own.image[1:8, 1:8].mean()  # outside of the mask it is dimmed
    assert ((second == (110, 205, 120)).all(axis=2)).sum() > 4 * CELL + 300  # its edge


def font_file(folder: Path, letters: str) -> Path:
    """A font of those letters alone, each a block of its own height."""
    names = [f"letter{number}" for number in range(len(letters))]
    shapes = {}
    for number, name in enumerate([".notdef", *names]):
        pen = TTGlyphPen(None)
        pen.moveTo((100, 0))
        pen.lineTo((100, 300 + 30 * number))
        pen.lineTo((900, 300 + 30 * number))
        pen.closePath()
        shapes[name] = pen.glyph()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", *names])
    font.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names, strict=True)})
    font.setupGlyf(shapes)
    font.setupHorizontalMetrics(dict.fromkeys(shapes, (1000, 100)))
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupOS2()
    font.setupPost()
    font.save(folder / "east.ttf")
    return folder / "east.ttf"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, float]]:
    """What is written on pictures: the words, their font's file, and where they start from the left."""
    found: list[tuple[str, str, float]] = []
    write = ImageDraw.ImageDraw.text

    def writing(draw: ImageDraw.ImageDraw, place: Any, text: str, **how: Any) -> None:
        found.append((text, Path(str(how["font"].path)).name, place[0]))
        write(draw, place, text, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", writing)
    return found


@pytest.fixture(scope="module")
def eastern(meter: IdentityMeter, people: list[list[Picture]]) -> Subject:
    pictures = album({"\u5f20\u4f1f 1.jpg": people[0][0], "\uae40.png": people[0][1], "plain.png": people[0][2], "2.png": people[1][3]})
    sources = [*pictures[:3], replace(pictures[3], caption="\u5f20"), SourceImage("\u8bf4.txt", None, problem="no picture", photo=False)]
    sources[0] = replace(sources[0], caption="ohwx \u5973\u4eba, smiling")
    return prepare_subject(sources, detector=meter.detector, meter=meter, resolution=64)


def test_letters_that_no_font_has_are_told_by_the_reports_line(
    eastern: Subject, written: list[tuple[str, str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "FONTS", ("a font that nobody has",))
    contact_sheet(eastern)
    texts = [text for text, _, _ in written]
    assert all(text.isascii() for text in texts)
    lines = eastern.report.split("\n")
    for words, number in (("kept: line 2", 2), ("kept: line 3", 3), ("no photo line 6: no picture", 6)):
        assert words in texts and not lines[number - 1].isascii()
    assert '"ohwx ..., smiling"' in texts and "kept: plain.png" in texts
    assert "person 0 (taken: is in most photos): line 2, line 3, plain.png" in texts
    assert texts[-1].startswith("... stands for letters that no font of this computer has")


def test_letters_are_written_in_the_first_font_that_has_them(
    eastern: Subject, written: list[tuple[str, str, float]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    east = font_file(tmp_path, "\u5f20\u4f1f\u5973\u4eba\u8bf4")
    monkeypatch.setattr(letters, "FONTS", ("a font that nobody has", str(east)))
    contact_sheet(eastern)
    assert {text for text, font, _ in written if font == east.name} == {"\u5f20\u4f1f", "\u5973\u4eba", "\u8bf4"}
    assert all(text.isascii() for text, font, _ in written if font != east.name)
    place = next(number for number, (text, _, _) in enumerate(written) if text == "\u5f20\u4f1f")
    (first, _, start), (_, _, middle), (last, _, end) = written[place - 1 : place + 2]
    assert (first, last) == ("kept: ", " 1.jpg")
    assert middle == pytest.approx(start + 40, abs=4) and end == middle + 28  # two letters of a whole square each
    assert "kept: line 3" in [text for text, _, _ in written]  # Korean


@pytest.mark.parametrize(
    "text", ["kept: IMG_0001.jpg", "\u00e9\u0142a \u043f\u0440\u0438\u0432\u0435\u0442, \u03b1\u03b2\u03b3", "a\u0301 x\u200dy\u00a0z"]
)
def test_letters_of_dejavu_are_written_as_pillow_writes_them(text: str) -> None:
    pen, pages = letters.Pen(14), [Image.new("RGB", (240, 24)) for _ in range(2)]
    pen.write(ImageDraw.Draw(pages[0]), (3, 2), text, (255, 255, 255))
    font = letters._own_font(14)
    ImageDraw.Draw(pages[1]).text((3, 2), text, fill=(255, 255, 255), font=font)
    assert pen.readable(text) == text and pen.length(text) == font.getlength(text)
    assert np.array_equal(np.asarray(pages[0]), np.asarray(pages[1])) and np.asarray(pages[0]).max() == 255
