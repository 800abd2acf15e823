"""Albums drawn at random: endings, kinds, modes, sizes, rolls, groups, damaged files, captions, folders. Each ends with a report, or with
a message, in which every file has its line.

FACEEXPR_ALBUMS says how many (200).
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from PIL import Image
from rendered import rendered_people

from faceexpr_core.errors import FaceExprError
from faceexpr_core.measure.identity import IdentityMeter
from faceexpr_core.photos.dataset import read_dataset
from faceexpr_core.photos.sheet import contact_sheet
from faceexpr_core.photos.subject import prepare_subject
from faceexpr_core.photos.verdicts import KEPT

pytestmark = pytest.mark.long

ALBUMS = int(os.environ.get("FACEEXPR_ALBUMS", "200"))
SIDE = 128
"""Pixels of a face: large enough for finding it, and small, since there are many."""
FACES = [[Image.fromarray(one).resize((SIDE, SIDE)) for one in row] for row in rendered_people()]
HEIC = (Path(__file__).parent / "data" / "face.heic").read_bytes()

MODES = {
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("RGB", "CMYK", "L", "F", "1", "YCbCr"),
    "BMP": ("RGB", "L", "1"),
    "GIF": ("P", "L"),
    "JPEG2000": ("RGB", "L"),
    "PPM": ("RGB", "L"),
}
ENDINGS = (
    "jpg",
    "JPG",
    "jpeg",
    "jpe",
    "jfif",
    "mpo",
    "png",
    "webp",
    "bmp",
    "tif",
    "gif",
    "jp2",
    "heic",
    "HEIC",
    "avif",
    "txt.jpg",
    "dat",
    "",
)
SCRAPS = (
    b"",
    b"\0" * 40,
    b"\xff\xd8\xff\xe0",
    b"II*\0",
    b"<html>",
    b"GIF89a",
    b"RIFF\0\0\0\0WEBP",
    HEIC,
    HEIC[:300],
    "é".encode("latin-1"),
)
OTHERS = ("notes.md", "Thumbs.db", ".DS_Store", "._photo.jpg", "clip.mov", "lonely.txt", "photo.xmp", "мама.json")


@dataclass(frozen=True)
class Named:
    name: str
    content: bytes = field(repr=False)


def face(person: int, shown: int) -> Image.Image:
    return FACES[person][shown].copy()


@st.composite
def pictures(draw: st.DrawFn) -> Image.Image:
    """A face, a face on its side or aslant, a group, or no face."""
    if draw(st.integers(0, 4)) == 0:
        size = draw(st.sampled_from([(1, 1), (3, 200), (200, 2), (17, 33), (64, 64)]))
        return Image.new("RGB", size, draw(st.sampled_from(["grey", "black", "white", "tan"])))
    picture = face(draw(st.integers(0, 2)), draw(st.integers(0, 8)))
    kind = draw(st.sampled_from(["alone", "alone", "turned", "aslant", "group", "small", "cut"]))
    if kind == "turned":
        picture = picture.rotate(draw(st.sampled_from([90, 180, 270])), expand=True)
    if kind == "aslant":
        picture = picture.rotate(draw(st.integers(-179, 180)), expand=True, fillcolor="grey")
    if kind == "group":
        group = Image.new("RGB", (300, 160), "grey")
        group.paste(picture, (4, 8))
        group.paste(face(draw(st.integers(0, 2)), draw(st.integers(0, 8))).resize((140, 140)), (150, 8))
        picture = group
    if kind == "small":
        picture = picture.resize((draw(st.integers(8, 60)),) * 2)
    if kind == "cut":
        picture = picture.crop((draw(st.integers(0, 70)), draw(st.integers(0, 70)), SIDE, SIDE))
    return picture


@st.composite
def photos(draw: st.DrawFn) -> Named:
    form = draw(st.sampled_from(sorted(MODES)))
    mode, stream = draw(st.sampled_from(MODES[form])), BytesIO()
    picture = draw(pictures())
    deep = Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257)
    picture = deep if mode == "I;16" else picture.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(1, 8))
    picture.save(stream, form, **({"exif": exif} if form in ("JPEG", "PNG", "WEBP", "TIFF") else {}))
    content = stream.getvalue()
    harm = draw(st.sampled_from(["none"] * 6 + ["short", "flipped"]))
    if harm == "short":
        content = content[: draw(st.integers(0, len(content)))]
    if harm == "flipped":
        place = draw(st.integers(0, len(content) - 1))
        content = content[:place] + bytes([content[place] ^ draw(st.integers(1, 255))]) + content[place + 1 :]
    return Named(f"{draw(st.sampled_from('abcd'))}.{draw(st.sampled_from(ENDINGS))}", content)


scraps = st.builds(
    lambda name, end, content: Named(f"{name}.{end}", content), st.sampled_from("ab"), st.sampled_from(ENDINGS), st.sampled_from(SCRAPS)
)
captions = st.builds(
    lambda name, end, content: Named(f"{name}.{end}", content),
    st.sampled_from("abcd"),
    st.sampled_from(["txt", "caption", "jpg.txt"]),
    st.sampled_from([b"ohwx at home", "ohwx è".encode(), "ohwx".encode("utf-16"), b"\xff\xff\xff", b" \n", b'"; quotes, \\']),
)
others = st.builds(Named, st.sampled_from(OTHERS), st.sampled_from(SCRAPS))
files = st.one_of(photos(), photos(), photos(), photos(), scraps, captions, others)
folders = st.sampled_from(["", "", "", "", "", "", "10_ohwx person/", "1_x/", "more/", "img/3_ohwx/", "train/"])


def missing_lines(folder: Path, report: str) -> list[str]:
    """Files and folders without a line of their own, or with two, but for what lies in a folder that was told not to be looked into."""
    lines = [re.sub("^(kept    |dropped |skipped |no photo) ", "", line) for line in report.splitlines()]
    missing = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        closed = [f"{parent.as_posix()}/: a folder, not looked into" for parent in Path(name).parents]
        own = f"{name}/:" if path.is_dir() else f"{name}:"
        if sum(line.startswith(own) for line in lines) != 1 and not any(line.startswith(tuple(closed)) for line in lines):
            missing.append(own)
    return missing


@settings(
    max_examples=ALBUMS,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)
@given(
    own=st.integers(0, 2),
    album=st.lists(st.tuples(folders, files), min_size=1, max_size=6),
    person=st.sampled_from([0, 0, 0, 0, 0, 0, 0, -1, 1]),
    keep=st.booleans(),
)
def test_every_album_ends_with_a_line_for_every_file(
    meter: IdentityMeter, own: int, album: list[tuple[str, Named]], person: int, keep: bool
) -> None:
    """`own` are plain photos of one person beside what was drawn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for inside, file in album:
            (folder / inside).mkdir(parents=True, exist_ok=True)
            (folder / inside / file.name).write_bytes(file.content)
        for number in range(own):
            face(0, number).save(folder / f"own {number}.png")
        try:
            subject = prepare_subject(
                read_dataset(folder), detector=meter.detector, meter=meter, resolution=64, person=person, drop_duplicates=not keep
            )
            report = subject.report
        except FaceExprError as error:
            subject, report = None, str(error)
        event("a message" if subject is None else f"a report of {len(subject.photos)} photos kept")
        assert not missing_lines(folder, report), report
        if subject is not None:
            kept = [verdict for verdict in subject.verdicts if verdict.verdict == KEPT]
            assert [photo.name for photo in subject.photos] == [verdict.name for verdict in kept]
            assert report.startswith(f"{len(kept)} of ")
            assert len({verdict.name for verdict in subject.verdicts}) == len(subject.verdicts)
            sheet = contact_sheet(subject)
            assert sheet.dtype == np.uint8 and min(sheet.shape[:2]) >= 256
