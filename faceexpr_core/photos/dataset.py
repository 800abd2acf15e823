"""A folder of photos with captions: in .txt files beside them, or in metadata.jsonl as Hugging Face's image folders have it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from ..errors import FaceExprError
from ..faces.images import SourceImage, caption_files, picture_files, plain_name, read_source, shown_name
from ..files import one_line
from .folder import folders_of_photos, inside_of, kohya_folders, looked_into, no_photo, others, read_folder
from .room import HALF, require_room

METADATA = "metadata.jsonl"
CAPTION_COLUMNS = ("text", "caption", "prompt")
"""Columns taken for captions when none is named, in this order."""


def read_dataset(
    folder: Path,
    image_column: str = "image",
    caption_column: str | None = None,
    reading: Callable[[str], None] | None = None,
    share: float = HALF,
) -> list[SourceImage]:
    """The photos of a folder, those that metadata.jsonl names if there is one (also in `train/`), with their captions; after them a
    source with a word, and no picture, for every other file.

    `image_column`, `caption_column`: columns of metadata.jsonl; `image` means `file_name`, as Hugging Face calls it. With no
    `caption_column` each line's caption is the first that it has of CAPTION_COLUMNS. A caption of metadata.jsonl goes before a .txt.
    `reading` is told each picture's name before it is read, and may raise to stop. Raises FaceExprError for a missing folder, column or
    file, for a line that cannot be read, and for more pictures than a `share` (0..1) of the free memory holds.
    """
    if not folder.is_dir():
        raise FaceExprError(
            f"There is no folder {folder}. Give a folder of photos, with captions in {METADATA} or .txt files if you have them."
        )
    inside = _photos_inside(folder)
    if inside is not None:
        there = [inside_of(inside.name, one) for one in read_dataset(inside, image_column, caption_column, reading, share)]
        return [*there, looked_into(inside.name), *others(folder, [inside.name])]
    table = folder / METADATA
    if not table.is_file():
        for kind, column in (("caption", caption_column), ("image", image_column if image_column != "image" else None)):
            if column is not None:
                raise FaceExprError(
                    f"The {kind} column {column!r} was given, but {folder} has no {METADATA}; add it, or leave the column out."
                )
        return read_folder(folder, reading, share)
    rows = _rows(table)
    given = [_file_name(row, image_column, table, number) for number, row in rows]
    meant = _pictures_of(folder, given)
    for name, (number, _) in zip(given, rows, strict=True):
        if name not in meant:
            raise FaceExprError(f"{table}, line {number}, names {name}, which is no picture in {folder}. Add it, or take the line out.")
    names = [meant[name] for name in given]
    require_room(folder, (folder / name for name in dict.fromkeys(names)), share)
    pictures = {name: _read(folder, name, reading) for name in dict.fromkeys(names)}
    found = [_with_caption(pictures[name], row, caption_column, table, number) for name, (number, row) in zip(names, rows, strict=True)]
    unused = {
        name_in(name.parent, file) for name, one in zip(names, found, strict=True) for file in _unused(folder, name, pictures[name], one)
    }
    return [*found, *(_said(one, unused) for one in _not_named(folder, names))]


def photo_files(folder: Path, image_column: str = "image", beside: bool = False) -> list[Path]:
    """The files of which `read_dataset` makes photos: pictures, captions beside them, and metadata.jsonl. `image_column` as there;
    `beside`: with the pictures that lie beside those that metadata.jsonl names."""
    inside, table = _photos_inside(folder), folder / METADATA
    if inside is not None:
        return photo_files(inside, image_column, beside)
    if table.is_file():
        there = [*dict.fromkeys(_pictures_of(folder, _names_in(table, image_column)).values())]
        parents = sorted({name.parent for name in there})
        pictures = [picture for one in parents for picture in picture_files(folder / one)] if beside else [folder / name for name in there]
    else:
        pictures = [picture for one in folders_of_photos(folder) for picture in picture_files(one)]
    return [*([table] if table.is_file() else []), *pictures, *(file for picture in pictures for file in caption_files(picture))]


def watched_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files that `read_dataset` reads, and what lies beside them, of which it tells the names. Of hidden files neither: systems
    write them when somebody looks into a folder."""
    home = _photos_inside(folder) or folder
    try:
        read = photo_files(home)
    except FaceExprError:  # which reading tells
        read = [home / METADATA]
    folders = {folder, home, *(path.parent for path in read)}
    beside = {path for one in folders for path in one.iterdir() if not path.name.startswith(".")}
    return read, sorted(beside.difference(read))


def _photos_inside(folder: Path) -> Path | None:
    """The folder in a folder without photos that has them: `img` of kohya's projects, `train` of Hugging Face's."""
    if has_photos(folder):
        return None
    places = (("img", kohya_folders), ("train", has_photos))
    return next((folder / name for name, fits in places if (folder / name).is_dir() and fits(folder / name)), None)


def holds_photos(folder: Path) -> bool:
    """Whether `read_dataset` finds any in a folder."""
    return has_photos(folder) or _photos_inside(folder) is not None


def has_photos(folder: Path) -> bool:
    """Whether photos, their table or kohya's folders lie directly in it."""
    return bool(picture_files(folder) or kohya_folders(folder) or (folder / METADATA).is_file())


def _not_named(folder: Path, names: Sequence[Path]) -> Iterator[SourceImage]:
    """A line for what metadata.jsonl does not name."""
    yield no_photo(METADATA, "names the photos and their captions")
    parents = sorted({Path("."), *(name.parent for name in names)})
    for parent in parents:
        yield from (looked_into(place.as_posix()) for place in [parent] if place != Path("."))
        for picture in picture_files(folder / parent):
            if parent / picture.name not in names:
                yield SourceImage(name_in(parent, shown_name(picture)), None, problem=f"is not named in {METADATA}")
        known = [METADATA, *(name.parts[0] for name in parents if name.parts)] if parent == Path(".") else []
        rest = others(folder / parent, known)
        yield from rest if parent == Path(".") else (inside_of(parent.as_posix(), one) for one in rest)


def name_in(parent: PurePath, file: str) -> str:
    """What a photo of a folder is called, by which it is found again: with a stroke as `inside_of` puts it, on Windows too."""
    return (parent / file).as_posix()


def _names_in(table: Path, image_column: str = "image") -> list[Path]:
    """The pictures that metadata.jsonl names, from its folder. Raises FaceExprError for lines that cannot be read."""
    return [_file_name(row, image_column, table, number) for number, row in _rows(table)]


def _pictures_of(folder: Path, names: Iterable[Path]) -> dict[Path, Path]:
    """Of the names those of which there is a picture in the folder, with its own name, which may be spelled in another way."""
    given = [*names]
    parents = [parent for parent in {name.parent for name in given} if (folder / parent).is_dir()]
    there = {parent / file.name for parent in parents for file in picture_files(folder / parent)}
    spelled = {plain_name(path.as_posix()): path for path in there}
    found = {name: name if name in there else spelled.get(plain_name(name.as_posix())) for name in given}
    return {name: path for name, path in found.items() if path is not None}


def _rows(table: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    try:
        lines = table.read_text(encoding="utf-8-sig").split("\n")  # others that end a line may stand in JSON's words
    except (OSError, UnicodeDecodeError) as reason:
        raise FaceExprError(f"{table} cannot be read ({reason}); it needs to be UTF-8 text with one JSON object a line.") from reason
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as reason:
            raise FaceExprError(f"{table}, line {number}, is no JSON ({reason}); each line must be like {_EXAMPLE}.") from reason
        if not isinstance(row, dict):
            raise FaceExprError(f"{table}, line {number}, is a {type(row).__name__}; each line must be like {_EXAMPLE}.")
        rows.append((number, row))
    if not rows:
        raise FaceExprError(f"{table} names no pictures; each line must be like {_EXAMPLE}.")
    return rows


_EXAMPLE = '{"file_name": "1.jpg", "text": "a photo of ohwx woman, smiling"}'


def _file_name(row: dict[str, Any], column: str, table: Path, number: int) -> Path:
    keys = ("file_name", "image") if column == "image" else (column, f"{column}_file_name")
    name = next((row[key] for key in keys if key in row), None)
    if not isinstance(name, str):
        raise FaceExprError(f"{table}, line {number}, has no {keys[0]!r}; each line must be like {_EXAMPLE}.")
    path = Path(name)
    if leaves(path):
        raise FaceExprError(f"{table}, line {number}, names {name}, which lies outside the folder; move the picture into it.")
    return path


def leaves(path: PurePath) -> bool:
    """Whether a path may lead out of the folder that it is joined to: on Windows a drive alone does, and a path from the drive's root."""
    return bool(path.anchor) or ".." in path.parts


def _read(folder: Path, name: Path, reading: Callable[[str], None] | None) -> SourceImage:
    shown = shown_name(name)
    if reading is not None:
        reading(shown)
    return replace(read_source(folder / name), name=name_in(name.parent, shown))


def _with_caption(source: SourceImage, row: dict[str, Any], named: str | None, table: Path, number: int) -> SourceImage:
    column = named or next((name for name in CAPTION_COLUMNS if row.get(name)), None)
    caption = row.get(column) if column is not None else None
    if caption is None and named is not None:
        raise FaceExprError(f"{table}, line {number}, has no {column!r}, which was named as the caption column. Add it, or name another.")
    if caption is not None and not isinstance(caption, str):
        raise FaceExprError(f"{table}, line {number}: the caption is a {type(caption).__name__}; it must be text in quotes.")
    words = one_line(caption or "")
    if not words:
        return source
    return replace(source, caption=words)


def _unused(folder: Path, name: Path, read: SourceImage, source: SourceImage) -> list[str]:
    """Names of the files with a photo's caption that is not the one it has."""
    return [shown_name(file) for file in caption_files(folder / name)] if read.caption != source.caption else []


def _said(one: SourceImage, unused: Collection[str]) -> SourceImage:
    return replace(one, problem=f"not used: {METADATA} has a caption for the photo of its name") if one.name in unused else one
