"""Captions and tables of photos whose names are spelled as another disk or system spells them, and captions that are no UTF-8."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from faceexpr_core import mini
from faceexpr_core.commands.given_picture import read_given
from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces.images import SourceImage, read_rgb
from faceexpr_core.photos.dataset import read_dataset

PHOTO = mini.subject_path() / "photo_1.png"
COMPOSED, APART = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))


def album(folder: Path, **captions: str | bytes | None) -> list[SourceImage]:
    """What is read of a folder with these files: captions by their names with `.` as `__`, pictures where there is no text."""
    for name, text in captions.items():
        file = folder / name.replace("__", ".")
        if text is None:
            shutil.copy(PHOTO, file)
        else:
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_dataset(folder)


@pytest.mark.parametrize(
    ("picture", "caption"),
    [("IMG_2__png", "IMG_2__TXT"), (f"{APART}__png", f"{COMPOSED}__txt"), (f"{COMPOSED}__png", f"{APART}__txt"), ("one", "one__txt")],
    ids=["capitals", "accents apart", "accents composed", "no ending"],
)
def test_a_caption_is_found_however_its_name_is_spelled(tmp_path: Path, picture: str, caption: str) -> None:
    photo, line = album(tmp_path, **{picture: None, caption: "ohwx woman, smiling"})
    assert photo.caption == "ohwx woman, smiling" and photo.notes == ()
    assert not line.photo and line.problem == "the caption of the photo of its name"


def test_a_caption_of_another_photo_is_not_taken(tmp_path: Path) -> None:
    """On a disk on which capitals count."""
    (tmp_path / "a.txt").touch()
    if (tmp_path / "A.txt").exists():
        pytest.skip("this disk takes a and A for one")
    (tmp_path / "a.txt").unlink()
    photos = [one for one in album(tmp_path, a__png=None, A__png=None, A__txt="hers") if one.photo]
    assert {one.name: one.caption for one in photos} == {"a.png": None, "A.png": "hers"}


def test_a_caption_in_utf_16_without_its_mark_is_not_learned_as_rubbish(tmp_path: Path) -> None:
    photo, _ = album(tmp_path, a__png=None, a__txt="ohwx".encode("utf-16-le"))
    assert photo.rgb is None and "its caption a.txt cannot be read (it holds zeros, as UTF-16 does). Save it as UTF-8 text" in photo.problem


def test_a_table_names_a_photo_however_its_name_is_spelled(tmp_path: Path) -> None:
    row = json.dumps({"file_name": f"{COMPOSED}.png", "text": "hers"}, ensure_ascii=False)
    photo, *lines = album(tmp_path, **{f"{APART}__png": None, "metadata__jsonl": row})
    assert photo.caption == "hers" and [line.name for line in lines] == ["metadata.jsonl"]


def test_an_intact_picture_that_this_pillow_cannot_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.open(PHOTO).save(tmp_path / "a.webp")
    Image.init()
    monkeypatch.delitem(Image.OPEN, "WEBP")
    (photo,) = read_dataset(tmp_path)
    assert "is a picture of the kind WEBP, which this Pillow" in photo.problem and "update Pillow" in photo.problem


def test_damaged_exif_of_a_picture_that_a_command_was_given_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.open(PHOTO).save(tmp_path / "a.png", exif=b"Exif\0\0no TIFF at all")
    read_given(tmp_path / "a.png", read_rgb)
    assert "a.png: its EXIF data is damaged and was not used" in capsys.readouterr().err
    with pytest.raises(FaceExprError, match="there is no picture"):
        read_given(tmp_path / "b.png", read_rgb)
