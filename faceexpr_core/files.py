"""Files that appear whole or not at all, and never in the place of another."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def write_new(path: Path, content: bytes) -> Path:
    """Write a file at `path`, or beside it as `name_00001_.ext` when the name is taken; return where it lies. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return _publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> Path:
    for candidate in _names(path):
        try:
            os.link(temporary, candidate)  # fails when the name exists, unlike os.replace
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links
            if candidate.exists():
                continue
            os.replace(temporary, candidate)
        return candidate
    raise AssertionError("the names never end")


def _names(path: Path) -> Iterator[Path]:
    yield path
    number = 1
    while True:
        yield path.with_name(f"{path.stem}_{number:05}_{path.suffix}")
        number += 1
