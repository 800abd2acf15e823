"""Whether a folder's photos have room in the machine's memory, told before they are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import FaceExprError
from ..faces.images import pixels_in

_SHARE = 0.5
"""Of the memory that is free, so much may be taken: photos that are turned upright are there twice for a while."""


def require_room(folder: Path, files: Iterable[Path], free: int | None = None) -> None:
    """Raise FaceExprError where a folder's picture `files`, all read at once, would take more than half of the `free` bytes of memory (by
    default what the system says is available)."""
    import psutil

    sizes = [pixels_in(path) for path in files]
    needed, there = 3 * sum(sizes), psutil.virtual_memory().available if free is None else free
    if needed > _SHARE * there:
        count = sum(size > 0 for size in sizes)
        raise FaceExprError(
            f"The {count} pictures in {folder} would take {needed / 2**30:.1f} GB of memory once read; {there / 2**30:.1f} GB are "
            "free, and half of that may be taken. Six to twenty photos are best: choose those and move the others elsewhere, or make "
            "them smaller."
        )
