"""A folder of photos as people have it, with kohya's folders in it, and a word for every file that is no photo."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import FaceExprError
from ..faces.images import SourceImage, caption_files, picture_files, read_images, shown_name
from ..faces.kinds import kind_of
from .room import HALF, require_room

KOHYA_FOLDER = re.compile(r"^(\d+)_(.+)$")
"""`10_ohwx person`: how often each photo is drawn in an epoch, and the words that name the person."""


def read_folder(folder: Path, reading: Callable[[str], None] | None = None, share: float = HALF) -> list[SourceImage]:
    """The photos directly in a folder; where there are none, those of its `10_ohwx person` folders. After them a word for every other
    file and folder. `reading` as in `read_images`. Raises FaceExprError for a folder that does not exist or holds no pictures, and for
    more of them than a `share` (0..1) of the free memory holds."""
    kohya = kohya_folders(folder)
    if not kohya and folder.is_dir() and not picture_files(folder):
        there = "\n".join(f"{one.name}: {one.problem}" for one in others(folder))
        raise FaceExprError(
            f"The folder {folder} holds no pictures. Put photos of one person into it (six to twenty are best), as JPEG, PNG, WebP, TIFF, "
            f"HEIC or another usual kind.{f' There is:{chr(10)}{there}' if there else ''}"
        )
    folders = folders_of_photos(folder)
    require_room(folder, (file for one in folders if one.is_dir() for file in picture_files(one)), share)
    if folders == [folder]:
        own = [_as_named(folder)] if folder.is_dir() and KOHYA_FOLDER.match(folder.name) else []
        return [*read_images(folder, reading), *own, *others(folder)]
    found: list[SourceImage] = []
    for inside in kohya:
        found += [inside_of(inside.name, one) for one in [*read_images(inside, reading), *others(inside)]]
        found.append(_as_named(inside))
    return [*found, *others(folder, [inside.name for inside in kohya])]


def folders_of_photos(folder: Path) -> list[Path]:
    """The folders whose pictures `read_folder` reads: the folder itself, or kohya's in it."""
    kohya = kohya_folders(folder)
    return kohya if kohya and not picture_files(folder) else [folder]


def kohya_folders(folder: Path) -> list[Path]:
    """Folders of the form that kohya's scripts read, if they hold pictures."""
    if not folder.is_dir():
        return []
    inside = (path for path in sorted(folder.iterdir()) if KOHYA_FOLDER.match(path.name) and path.is_dir() and not path.is_symlink())
    return [path for path in inside if picture_files(path)]


def others(folder: Path, known: Collection[str] = ()) -> list[SourceImage]:
    """A source with a word, and no picture, for everything in a folder but its pictures and the names in `known`; [] for no folder."""
    if not folder.is_dir():
        return []
    pictures = picture_files(folder)
    captions = {shown_name(file) for picture in pictures for file in caption_files(picture)}
    used = {*captions, *known, *(shown_name(picture) for picture in pictures)}
    found = [no_photo(name, "the caption of the photo of its name") for name in sorted(captions)]
    return [*found, *(no_photo(name, word) for name, word in _words(folder) if name.rstrip("/") not in used)]


def no_photo(name: str, word: str) -> SourceImage:
    """A line of the report for what is no photo."""
    return SourceImage(name, None, problem=word, photo=False)


def looked_into(folder: str) -> SourceImage:
    """The line of a folder whose photos are read."""
    return no_photo(f"{folder}/", "a folder whose photos are read")


def inside_of(folder: str, source: SourceImage) -> SourceImage:
    """The source with its folder before its name."""
    return replace(source, name=f"{folder}/{source.name}")


def _words(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        try:
            yield (f"{shown_name(path)}/", _folder_word(path)) if path.is_dir() else (shown_name(path), _file_word(path))
        except OSError as reason:
            yield shown_name(path), f"cannot be read ({reason.strerror})"


def _folder_word(path: Path) -> str:
    if path.name.startswith("."):
        return "a hidden folder"
    return "a folder, not looked into; choose it by itself, or move its photos here"


def _file_word(path: Path) -> str:
    if path.suffix == ".icloud":
        return "a picture that lies in iCloud only; download it"
    if path.name.startswith("."):
        return "a hidden file"
    if not path.exists():
        return "a link to a file that is not there"
    if not path.is_file():
        return "no file"
    if path.suffix.lower() in (".txt", ".caption"):
        return "text, but no photo has this name"
    return kind_of(path).words


def _as_named(folder: Path) -> SourceImage:
    times, words = folder.name.split("_", 1)
    return no_photo(
        f"{folder.name}/",
        f"kohya's folder of '{words}', each photo {times} times; here trigger and class word are those of the settings, "
        "and each photo comes up equally often",
    )
