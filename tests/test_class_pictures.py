"""The user's own pictures of the class: which are read, how many at a time, what they are told to be, and what is said of the others."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceexpr_core import mini
from faceexpr_core.commands.class_pictures import class_files, own_pictures
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.errors import FaceExprError
from faceexpr_core.training.prior import ClassImage, prior_images
from faceexpr_core.training.run import ClassPictures

PROMPT = "a photo of a woman"


def draw(folder: Path, count: int, width: int = 90, height: int = 60) -> None:
    """Pictures of noise, each another one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png", compress_level=1)


def read(folder: Path, count: int, told: list[str] | None = None, side: int = 32) -> tuple[ClassImage, ...]:
    return own_pictures(ClassPictures(folder, count), side, PROMPT, (told if told is not None else []).append)


def test_each_says_how_large_its_square_was(tmp_path: Path) -> None:
    draw(tmp_path, 2)
    (tmp_path / "01.txt").write_text("a woman, smiling")
    first, second = read(tmp_path, 2, side=128)
    assert first.image.shape == second.image.shape == (128, 128, 3)
    assert first.original_size == second.original_size == (60, 60)
    assert (first.prompt, second.prompt) == (PROMPT, "a woman, smiling")


def test_no_more_are_read_than_are_asked_for_and_one_at_a_time(tmp_path: Path) -> None:
    draw(tmp_path, 8, 1500, 1000)
    (tmp_path / "90.png").write_bytes(b"broken")  # after the last that is needed
    told: list[str] = []
    tracemalloc.start()
    try:
        assert len(read(tmp_path, 8, told)) == 8
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1500 * 1000 * 3
    assert told == ["of the 9 pictures of the class 8 are used, evenly from all; ask for more to use more"]


def test_those_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    draw(tmp_path, 3)
    for number in range(5):
        (tmp_path / f"00 broken {number}.png").write_bytes(b"no picture")
    told: list[str] = []
    assert len(read(tmp_path, 3, told)) == 3
    (line,) = told
    assert line.startswith("of the pictures of the class were left out: 00 broken 0.png is") and line.endswith("; and 2 more")
    with pytest.raises(
        FaceExprError, match=r"holds 3 readable pictures, 4 are asked for\. Ask for 3, .* Not readable: 00 broken 0\.png is"
    ):
        read(tmp_path, 4)


def test_of_more_than_are_asked_for_every_folder_has_its_share(tmp_path: Path) -> None:
    for name, words in (("1_man", "a man"), ("1_woman", "a woman")):
        draw(tmp_path / name, 4)
        for number in range(4):
            (tmp_path / name / f"{number:02}.txt").write_text(f"{words}, {number}")
    told: list[str] = []
    assert [one.prompt for one in read(tmp_path, 4, told)] == ["a man, 0", "a man, 2", "a woman, 0", "a woman, 2"]
    assert told[0] == "of the 8 pictures of the class 4 are used, evenly from all; ask for more to use more"
    (tmp_path / "1_woman" / "00.png").write_bytes(b"broken")
    assert [one.prompt for one in read(tmp_path, 4)] == ["a man, 0", "a man, 1", "a man, 2", "a woman, 2"]


def test_kohyas_folders_are_read_as_they_are_of_photos(tmp_path: Path) -> None:
    draw(tmp_path / "1_woman", 2)
    draw(tmp_path / "3_young woman", 1)
    told: list[str] = []
    assert [one.prompt for one in read(tmp_path, 3, told)] == [PROMPT] * 3
    assert told == [f"pictures of the class are those of kohya's folders in {tmp_path}; the numbers and words of their names are not used"]
    draw(tmp_path, 1)
    assert class_files(tmp_path) == [tmp_path / "00.png"]


def test_pictures_in_folders_of_other_names_are_told_and_drawn_ones_are_not_the_users(tmp_path: Path) -> None:
    assert read(tmp_path / "absent", 2) == () and read(tmp_path, 2) == ()
    prior_images(tmp_path, [PROMPT], lambda prompt, seed: np.zeros((16, 16, 3), np.uint8), {"model": "abc"})
    assert len(list(tmp_path.glob("*/*.png"))) == 1 and read(tmp_path, 2) == ()
    draw(tmp_path / "women", 2)
    with pytest.raises(FaceExprError, match=r"but folders in it do \(women\)\. Give one of these, name them as kohya does \(1_woman\), or"):
        read(tmp_path, 2)


@pytest.mark.usefixtures("prepared_here")
def test_a_run_with_kohyas_folders_draws_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(mini.subject_path() / "photo_1.png", tmp_path / "photos")
    draw(tmp_path / "reg" / "1_woman", 2)
    words = ["train", "--model=mini", f"--photos={tmp_path / 'photos'}", f"--output={tmp_path / 'anna'}", "--device=cpu", "--preset=paper"]
    words += ["--class_word=woman", "--precision=fp32", "--resolution=64", "--rank=2", "--accumulation=1", "--steps=1"]
    assert faceexpr([*words, "--prior=images", "--prior_images=2", f"--class_images={tmp_path / 'reg'}"]) == 0
    told = capsys.readouterr().err
    assert "those of kohya's folders in" in told and "drawing" not in told
    assert sorted(path.name for path in (tmp_path / "reg").rglob("*")) == ["00.png", "01.png", "1_woman"]
