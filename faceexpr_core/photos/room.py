"""Whether a folder's photos have room in the machine's memory, told before they are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import FaceExprError
from ..faces.images import pixels_in

HALF = 0.5
"""Of the memory that is free, so much may be taken: photos that are turned upright are there twice for a while."""


def share_apart(processes: int = 1) -> float:
    """What may be taken where a process of its own prepares the photos: each of the `processes` that train holds them, the temporary
    folder, which may lie in memory, has them once more, and the one that prepares them twice."""
    return 1 / (3 + processes)


def require_room(folder: Path, files: Iterable[Path], share: float = HALF, free: int | None = None) -> None:
    """Raise FaceExprError where a folder's picture `files`, all read at once, would take more than a `share` (0..1) of the `free` bytes of
    memory (by default what the system says is available)."""
    import psutil

    sizes = [pixels_in(path) for path in files]
    needed, there = 3 * sum(sizes), psutil.virtual_memory().available if free is None else free
    if needed > share * there:
        count = sum(size > 0 for size in sizes)
        raise FaceExprError(
            f"The {count} pictures in {folder} would take {needed / 2**30:.1f} GB of memory once read; {there / 2**30:.1f} GB are "
            f"free, and {share:.0%} of that may be taken. Six to twenty photos are best: choose those and move the others elsewhere, or "
            "make them smaller."
        )
