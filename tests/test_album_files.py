"""Folders of photos as people have them: every file is read by what it holds, or named in the report with the reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces import kinds
from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.faces.images import images_from_batches, picture_files, read_images, read_rgb
from faceexpr_core.photos.dataset import photo_files, read_dataset
from faceexpr_core.photos.room import require_room
from faceexpr_core.photos.sheet import contact_sheet
from faceexpr_core.photos.subject import prepare_subject

Picture = NDArray[np.uint8]
HEIC = Path(__file__).parent / "data" / "face.heic"
HEIC_HEAD = bytes.fromhex("00000018667479706865696300000000") + b"mif1heic" + bytes(64)


@pytest.fixture(scope="module")
def photo() -> Picture:
    return np.asarray(data.astronaut())[:256, 96:352]


@pytest.fixture
def no_heif_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in kinds.HEIF_READERS:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    kinds.heif_reader.cache_clear()
    yield
    kinds.heif_reader.cache_clear()


@pytest.mark.parametrize(
    ("shapes", "sizes"),
    [
        ([(2, 8, 6, 3)], [(8, 6), (8, 6)]),
        ([(1, 8, 6, 3), (1, 6, 8, 3)], [(8, 6), (6, 8)]),
        ([(1, 8, 6, 3), (3, 5, 5, 3)], [(8, 6), (5, 5), (5, 5), (5, 5)]),
        ([(1, 8, 6, 4), (1, 6, 8, 3)], [(8, 6), (6, 8)]),
        ([(1, 8, 6, 1), (1, 6, 8, 4)], [(8, 6), (6, 8)]),
        ([(0, 8, 6, 3), (1, 6, 8, 3)], [(6, 8)]),
        ([(1, 1, 1, 3)], [(1, 1)]),
        ([], []),
    ],
)
@pytest.mark.parametrize("half", [False, True])
def test_a_list_of_batches_of_any_sizes_is_gathered(shapes: list[tuple[int, ...]], sizes: list[tuple[int, int]], half: bool) -> None:
    batches = [torch.full(shape, 0.5, dtype=torch.float16 if half else torch.float32) for shape in shapes]
    read = images_from_batches(batches)
    assert [one.name for one in read] == [f"image {number}" for number in range(1, len(sizes) + 1)]
    assert [one.rgb.shape for one in read if one.rgb is not None] == [(*size, 3) for size in sizes]
    assert all(one.rgb is not None and one.rgb.min() >= 127 for one in read)


@pytest.mark.parametrize("shape", [(8, 6, 3), (1, 8, 6, 2), (1, 0, 6, 3), (1, 8, 6, 3, 1)])
def test_a_list_with_something_else_in_it_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FaceExprError, match=r"An IMAGE of shape .* was given; \[N, H, W, 3\] is needed"):
        images_from_batches([torch.zeros(1, 8, 6, 3), torch.zeros(shape)])


def encoded(picture: Picture, kind: str) -> bytes:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, kind)
    return stream.getvalue()


def two_frames(picture: Picture, kind: str) -> bytes:
    stream = BytesIO()
    frames = [Image.fromarray(one) for one in (picture, picture[:, ::-1])]
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def line_of(report: str, name: str) -> str:
    lines = [line for line in report.splitlines() if line[9:].startswith(f"{name}:")]
    assert len(lines) == 1, (name, report)
    return lines[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("saved by a browser.jfif", "JPEG"),
        ("old.jpe", "JPEG"),
        ("two lenses.MPO", "MPO"),
        ("animated.apng", "PNG"),
        ("scan.jp2", "JPEG2000"),
        ("paint.tga", "TGA"),
        ("a jpeg called.png", "JPEG"),
        ("a webp called.jpg", "WEBP"),
        ("an avif called.jpeg", "AVIF"),
        ("without ending", "PNG"),
        ("IMG_0001.jpg~", "JPEG"),
        ("1.2.2026", "WEBP"),
        ("paint.dib", "BMP"),
        ("plain.ppm", "PPM"),
    ],
)
def test_a_picture_is_told_by_what_it_holds(tmp_path: Path, photo: Picture, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(encoded(photo, kind))
    (one,) = read_images(tmp_path)
    assert one.name == name and one.problem == "" and one.rgb is not None
    assert np.abs(one.rgb.astype(int) - photo).mean() < 6


@pytest.mark.parametrize("name", ["IMG_0002.JPG", "IMG_0003.HEIC", "IMG_0004", "IMG_0005.png"])
def test_heic_under_any_name_is_read(tmp_path: Path, photo: Picture, name: str) -> None:
    (tmp_path / name).write_bytes(HEIC.read_bytes())
    (one,) = read_images(tmp_path)
    assert one.rgb is not None and np.abs(one.rgb.astype(int) - photo).mean() < 6


@pytest.mark.usefixtures("no_heif_reader")
@pytest.mark.parametrize("name", ["IMG_0002.JPG", "IMG_0003.HEIC", "IMG_0004", "IMG_0005.png"])
def test_heic_that_cannot_be_read_says_what_to_do_under_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(HEIC.read_bytes())
    (one,) = read_images(tmp_path)
    assert one.rgb is None and "is a HEIC picture" in one.problem
    assert "python -m pip install pillow-heif" in one.problem and "or save the picture as JPEG" in one.problem


@pytest.mark.usefixtures("no_heif_reader")
@pytest.mark.parametrize("brands", ["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1", "miafheic", "MiHBmsf1heix"])
def test_heic_is_told_by_any_of_its_brands(tmp_path: Path, brands: str) -> None:
    """The first is the file's own, the others, after four bytes of version, those that it is compatible with."""
    own, others = brands[:4].encode(), brands[4:].encode()
    (tmp_path / "photo.jpg").write_bytes((16 + len(others)).to_bytes(4, "big") + b"ftyp" + own + bytes(4) + others + b"meta" + bytes(40))
    (one,) = read_images(tmp_path)
    assert "is a HEIC picture, which needs the Python package pillow-heif" in one.problem


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jpg", b"", "is empty"),
        ("b.png", b"no picture", "is damaged or no picture"),
        ("c.heic", HEIC_HEAD, "is a HEIC picture, but damaged"),
        ("d.jxl", b"\xff\x0a" + bytes(40), "is a JPEG XL picture, not read here; save it as JPEG"),
        ("e.NEF", b"MM\0*" + bytes(60), "is a camera's raw file; develop it and save it as JPEG"),
        ("f.cr3", bytes.fromhex("0000001866747970") + b"crx " + bytes(40), "is a camera's raw file"),
        ("g.jpg", b"<!DOCTYPE html><html><body>not found", "is no picture but a web page, not the picture itself"),
        ("h.jpg", bytes.fromhex("0000002066747970") + b"isom" + bytes(40), "is no picture but a video"),
        ("i.jpg", b"%PDF-1.7\n", "is no picture but a PDF"),
        ("j.tga", b"\0" * 5, "is damaged|cannot be read"),
        ("k.tif", b"II*\0" + bytes(60), "is damaged|cannot be read"),
    ],
)
def test_a_picture_that_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    (one,) = read_images(tmp_path)
    assert one.rgb is None
    assert any(words in one.problem for words in problem.split("|")), one.problem


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_is_taken_and_said(tmp_path: Path, photo: Picture, kind: str) -> None:
    (tmp_path / "moving").write_bytes(two_frames(photo, kind))
    (one,) = read_images(tmp_path)
    assert one.rgb is not None and np.abs(one.rgb.astype(int) - photo).mean() < 20
    assert one.notes == ("the first of its 2 pictures was taken",)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0no TIFF at all", b"Exif\0\0MM\0"], ids=["garbage", "cut short"])
def test_a_damaged_exif_block_costs_no_picture(tmp_path: Path, photo: Picture, kind: str, exif: bytes) -> None:
    Image.fromarray(photo).save(tmp_path / "photo", kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    (one,) = read_images(tmp_path)
    assert one.problem == "" and one.rgb is not None and np.array_equal(one.rgb, photo)
    assert np.array_equal(read_rgb(tmp_path / "photo"), photo)
    assert one.notes == ("its EXIF data is damaged and was not used",)


def test_a_phones_second_lens_is_no_second_picture(tmp_path: Path, photo: Picture) -> None:
    (tmp_path / "portrait.jpg").write_bytes(two_frames(photo, "MPO"))
    (one,) = read_images(tmp_path)
    assert one.rgb is not None and one.notes == ()


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("notes.md", b"# Summer", "no picture"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0", "no picture"),
        ("diary.txt", b"at the sea", "text, but no photo has this name"),
        ("IMG_0001.MOV", bytes.fromhex("0000001466747970") + b"qt  " + bytes(40), "a video"),
        ("clip.webm", b"\x1aE\xdf\xa3" + bytes(40), "a video"),
        ("all.zip", b"PK\x03\x04" + bytes(40), "an archive; unpack it"),
        (".DS_Store", b"\0", "a hidden file"),
        ("._photo.png", b"\0\x05\x16\x07", "a hidden file"),
        (".IMG_7.HEIC.icloud", b"bplist00", "a picture that lies in iCloud only; download it"),
        ("empty", b"", "is empty"),
        ("mail.dat", b"Message:CR and more", "no picture"),
    ],
)
def test_what_is_no_photo_has_its_line(
    tmp_path: Path, photo: Picture, detector: FaceDetector, name: str, content: bytes, word: str
) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(photo, "PNG"))
    (tmp_path / name).write_bytes(content)
    report = prepare_subject(read_dataset(tmp_path), detector=detector, resolution=64).report
    assert line_of(report, name) == f"no photo {name}: {word}"
    assert report.startswith("1 of 1 pictures kept")


def test_folders_and_broken_links_have_their_lines(tmp_path: Path, photo: Picture, detector: FaceDetector) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(photo, "PNG"))
    (tmp_path / "more").mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    report = prepare_subject(read_dataset(tmp_path), detector=detector, resolution=64).report
    assert "a folder, not looked into; choose it by itself" in line_of(report, "more/")
    assert "a hidden folder" in line_of(report, ".cache/")
    assert "a link to a file that is not there" in line_of(report, "gone.jpg")


@pytest.mark.parametrize("name", ["photo.txt", "photo.caption", "photo.png.txt", "photo.png.caption"])
def test_captions_of_every_layout_are_read(tmp_path: Path, photo: Picture, detector: FaceDetector, name: str) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(photo, "PNG"))
    (tmp_path / name).write_text("ohwx in a spacesuit")
    subject = prepare_subject(read_dataset(tmp_path), detector=detector, resolution=64)
    assert subject.photos[0].caption == "ohwx in a spacesuit"
    assert line_of(subject.report, name) == f"no photo {name}: the caption of the photo of its name"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_caption_that_notepad_wrote_is_read(tmp_path: Path, photo: Picture, encoding: str) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(photo, "PNG"))
    (tmp_path / "photo.txt").write_bytes("ohwx lächelnd".encode(encoding))
    assert [one.caption for one in read_images(tmp_path)] == ["ohwx lächelnd"]


def test_a_photo_whose_caption_cannot_be_read_is_skipped(tmp_path: Path, photo: Picture, detector: FaceDetector) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(encoded(photo, "PNG"))
    (tmp_path / "a.txt").write_bytes("schön".encode("latin-1"))
    subject = prepare_subject(read_dataset(tmp_path), detector=detector, resolution=64)
    assert [one.name for one in subject.photos] == ["b.png"]
    assert "its caption a.txt cannot be read" in line_of(subject.report, "a.png")
    assert "Save it as UTF-8 text, or take it away" in line_of(subject.report, "a.png")


def test_a_second_caption_and_an_empty_one_are_told(tmp_path: Path, photo: Picture, detector: FaceDetector) -> None:
    for name, words in (("a.txt", "ohwx"), ("a.caption", "other"), ("b.txt", " \n")):
        (tmp_path / f"{name[0]}.png").write_bytes(encoded(photo, "PNG"))
        (tmp_path / name).write_text(words)
    subject = prepare_subject(read_dataset(tmp_path), detector=detector, resolution=64, drop_duplicates=False)
    assert subject.photos[0].caption == "ohwx" and "a.caption was not used" in line_of(subject.report, "a.png")
    assert "b.txt is empty" in line_of(subject.report, "b.png")


def kohya(root: Path, picture: Picture) -> Path:
    for name in ("10_ohwx person", "5_ohwx person laughing"):
        (root / name).mkdir(parents=True)
        (root / name / "1.png").write_bytes(encoded(picture if name[0] == "1" else picture[:, ::-1], "PNG"))
    (root / "10_ohwx person" / "1.caption").write_text("ohwx at home")
    (root / "10_ohwx person" / "log.json").write_text("{}")
    return root


@pytest.mark.parametrize("place", ["", "img/"])
def test_kohyas_folders_are_read_together(tmp_path: Path, photo: Picture, detector: FaceDetector, place: str) -> None:
    kohya(tmp_path / place, photo)
    (tmp_path / "config.toml").write_text("")
    subject = prepare_subject(read_dataset(tmp_path), detector=detector, resolution=64, drop_duplicates=False)
    assert [one.name for one in subject.photos] == [f"{place}10_ohwx person/1.png", f"{place}5_ohwx person laughing/1.png"]
    assert subject.photos[0].caption == "ohwx at home"
    for name in (f"{place}10_ohwx person/1.caption", f"{place}10_ohwx person/log.json", "config.toml"):
        line_of(subject.report, name)
    told = line_of(subject.report, f"{place}5_ohwx person laughing/")
    assert "kohya's folder of 'ohwx person laughing', each photo 5 times" in told and "those of the settings" in told


def test_one_of_kohyas_folders_may_be_chosen_by_itself(tmp_path: Path, photo: Picture) -> None:
    chosen = kohya(tmp_path, photo) / "10_ohwx person"
    read = read_dataset(chosen)
    assert [one.name for one in read] == ["1.png", "10_ohwx person/", "1.caption", "log.json"]
    assert [one.photo for one in read] == [True, False, False, False]


@pytest.mark.parametrize("inside", ["", "pictures/"])
def test_what_a_table_of_captions_does_not_name_is_told(tmp_path: Path, photo: Picture, detector: FaceDetector, inside: str) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    for name in (f"{inside}a.png", f"{inside}b.png", "c.png"):
        (tmp_path / name).write_bytes(encoded(photo, "PNG"))
    (tmp_path / inside / "x.md").write_text("")
    (tmp_path / "metadata.jsonl").write_text(f'{{"file_name": "{inside}a.png", "text": "ohwx"}}\n')
    report = prepare_subject(read_dataset(tmp_path), detector=detector, resolution=64).report
    assert report.startswith("1 of 3 pictures kept")
    for name in (f"{inside}b.png", "c.png"):
        assert line_of(report, name) == f"skipped  {name}: is not named in metadata.jsonl"
    assert line_of(report, f"{inside}x.md").startswith("no photo")
    assert line_of(report, "metadata.jsonl") == "no photo metadata.jsonl: names the photos and their captions"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="such names cannot be there")
def test_names_that_break_lines_or_are_no_text_have_their_lines(tmp_path: Path, photo: Picture, detector: FaceDetector) -> None:
    for name in ("two\nlines.png", "b\udcff.png"):
        (tmp_path / name).write_bytes(encoded(photo, "PNG"))
    (tmp_path / "odd\r\udcfe.md").write_text("")
    subject = prepare_subject(read_dataset(tmp_path), detector=detector, resolution=64, drop_duplicates=False)
    assert [photo.name for photo in subject.photos] == ["b?.png", "two?lines.png"]
    assert len(subject.report.splitlines()) == 4 and line_of(subject.report, "odd??.md") == "no photo odd??.md: is empty"
    subject.report.encode("utf-8")
    assert contact_sheet(subject).shape[1] == 2 * 256 + 3 * 14


def test_a_pipe_in_the_folder_is_not_waited_for(tmp_path: Path, photo: Picture) -> None:
    os = pytest.importorskip("os")
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "photo.png").write_bytes(encoded(photo, "PNG"))
    assert [path.name for path in picture_files(tmp_path)] == ["photo.png"]
    assert [(one.name, one.problem) for one in read_dataset(tmp_path)][1] == ("pipe.jpg", "no file")


def test_a_photo_that_cannot_be_opened_is_named_and_the_others_are_read(tmp_path: Path, photo: Picture, monkeypatch) -> None:
    for name in ("a.png", "cloud.png", "locked.heic"):
        (tmp_path / name).write_bytes(encoded(photo, "PNG"))
    problems = {"cloud.png": OSError(22, "The cloud file provider is not running"), "locked.heic": PermissionError(13, "Permission denied")}
    opened = Path.open

    def opening(path: Path, *given: Any, **named: Any) -> Any:
        if path.name in problems:
            raise problems[path.name]
        return opened(path, *given, **named)

    monkeypatch.setattr(Path, "open", opening)  # the mode of a file does not stop root
    read = {one.name: one for one in read_dataset(tmp_path)}
    assert read["a.png"].rgb is not None
    for name, error in problems.items():
        assert read[name].rgb is None and str(error.strerror) in read[name].problem


def test_a_picture_of_a_vector_format_starts_no_other_program(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    with pytest.raises(Image.UnidentifiedImageError):
        read_rgb(tmp_path / "a.jpg")


def test_more_pictures_than_the_memory_holds_are_refused_by_their_headers(tmp_path: Path) -> None:
    """None is read for that, kohya's folders and those of metadata.jsonl count, and what is no picture does not."""
    Image.new("RGB", (4000, 3000)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:400])  # the rest would be needed to read it
    (tmp_path / "c.txt").write_text("a photo")
    require_room(tmp_path, photo_files(tmp_path), free=150_000_000)
    with pytest.raises(FaceExprError, match=r"The 2 pictures in .* would take 0\.1 GB of memory once read; 0\.1 GB are free"):
        require_room(tmp_path, photo_files(tmp_path), free=140_000_000)
    (tmp_path / "c").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "c" / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "b.png"}\n{"file_name": "c/a.png"}\n')
    with pytest.raises(FaceExprError, match="The 2 pictures in"):
        require_room(tmp_path, photo_files(tmp_path), free=140_000_000)


def test_reading_an_album_can_be_stopped_at_every_picture(tmp_path: Path, photo: Picture) -> None:
    for name in "abc":
        Image.fromarray(photo).save(tmp_path / f"{name}.png")
    seen: list[str] = []

    def reading(name: str) -> None:
        seen.append(name)
        if name == "b.png":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_dataset(tmp_path, reading=reading)
    assert seen == ["a.png", "b.png"]
    kohya = tmp_path / "person" / "3_ohwx woman"
    kohya.mkdir(parents=True)
    Image.fromarray(photo).save(kohya / "b.png")
    with pytest.raises(KeyboardInterrupt):
        read_dataset(kohya.parent, reading=reading)
