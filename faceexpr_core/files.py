"""Files that appear whole or not at all: in no other's place (`write_new`), or in the old one's (`replace_file`). Once written, they stay
when the power goes."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice, takewhile
from pathlib import Path

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What ends a line of text, or is a command to a terminal."""
_HELD = (5, 32, 33)
"""What Windows answers while a virus scanner, an indexer or a reader has a file open: denied, shared, locked."""
PATIENCE = 2.0
"""Seconds that such a file is waited for; most are free after some milliseconds."""


def digest_of_file(path: Path) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of what a file holds. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def name_bytes(words: str) -> bytes:
    """Words that may hold files' names, for a digest: UTF-8, and what of a name is no text as well."""
    return words.encode("utf-8", "surrogatepass")


def one_line(text: str) -> str:
    """Text of a stranger's file for a line of ours: without line breaks of any kind, and what a terminal takes for commands."""
    return " ".join(CONTROL.sub(" ", text).split())


def write_new(path: Path, content: bytes) -> Path:
    """Write a file at `path`, or beside it as `name_00001_.ext` when the name is taken; return where it lies. Raises OSError."""
    return write_first_free(_names(path), content)


def write_first_free(names: Iterable[Path], content: bytes) -> Path:
    """Write a file under the first of `names`, all of one folder, that is not taken; return where it lies. Raises OSError."""
    rest = iter(names)
    first = next(rest)
    with _written(first, [content]) as temporary:
        published = _publish(temporary, chain([first], rest))
    _sync_folder(published.parent)
    return published


def try_name(path: Path) -> None:
    """Make sure that a file can have the name `path`, with `write_new`'s number too. Nothing is left there. Raises OSError."""
    numbered = next(islice(_names(path), 1, None))
    try:
        numbered.open("xb").close()
    except FileExistsError:
        return
    _patiently(os.unlink, numbered)


def write_once(path: Path, content: bytes) -> Path:
    """`write_new`, unless `path` or a numbered name beside it holds just this; return where it lies. Raises OSError."""
    return next((one for one in taken_names(path) if one.is_file() and one.read_bytes() == content), None) or write_new(path, content)


def taken_names(path: Path) -> list[Path]:
    """What lies under the names that `write_new` passes over."""
    return list(takewhile(Path.exists, _names(path)))


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader finds the old file or the new one, whole, whenever the power goes. Raises OSError."""
    replace_streamed(path, [content])


def replace_streamed(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """`replace_file` for content that comes in pieces, so that all of it is never in memory. Raises OSError, and what `pieces` raises."""
    with _written(path, pieces) as temporary:
        _patiently(os.replace, temporary, path)
        _sync_folder(path.parent)


@contextmanager
def _written(path: Path, pieces: Iterable[bytes | memoryview]) -> Iterator[Path]:
    """The content on the disk under a name of its own beside `path`, which is gone at the end. Errors name `path`."""
    make_folder(path.parent)
    temporary = part_beside(path)
    try:
        with temporary.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except OSError as error:
        if str(error.filename) == str(temporary) and error.filename2 is None:
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # what stays costs space; whether the file is saved is known by now
            _patiently(os.unlink, temporary)


def make_folder(folder: Path) -> None:
    """Make `folder`, and those that it lies in, where they are not there. Raises OSError."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync_folder(made.parent)


def part_beside(path: Path) -> Path:
    """A name of its own for what becomes `path`, as long as that one's, or of 15 letters: Windows counts those of the whole path."""
    return path.with_name(f".{path.name[:-15]}-{secrets.token_hex(4)}.part")


def too_long(error: OSError, windows: bool = os.name == "nt") -> bool:
    """Whether Windows did not take a file's path for its length, or that of what is written beside it. It says so of folders alone."""
    folder, name = os.path.split(os.path.abspath(str(error.filename2 or error.filename or "")))
    beyond = len(folder) + 1 + max(len(name), 15) > 259
    return (windows and beyond and isinstance(error, FileNotFoundError)) or getattr(error, "winerror", None) == 206


def beginning(name: str, size: int) -> str:
    """The letters at the beginning of `name` that take at most `size` bytes on the disk."""
    return name.encode("utf-8", "ignore")[:size].decode("utf-8", "ignore")


def _publish(temporary: Path, names: Iterable[Path]) -> Path:
    for candidate in names:
        try:
            _patiently(os.link, temporary, candidate)  # fails when the name exists, unlike os.replace
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links
            if candidate.exists():
                continue
            _patiently(os.replace, temporary, candidate)
        return candidate
    raise AssertionError("the names never end")


def _patiently(act: Callable[..., object], *paths: Path) -> None:
    """What `os` does to a file; while another program has it open it is tried again. Raises OSError."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            act(*paths)
            return
        except OSError as error:
            if getattr(error, "winerror", None) not in _HELD or time.monotonic() >= end:
                raise
        time.sleep(0.02)


def _names(path: Path) -> Iterator[Path]:
    yield path
    number = 1
    while True:
        yield path.with_name(f"{path.stem}_{number:05}_{path.suffix}")
        number += 1


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders; there the rename itself is journalled
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
