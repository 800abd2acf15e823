"""What became of each file, in a line of the report and with a small picture for the contact sheet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KEPT, DROPPED, SKIPPED, NO_PHOTO = "kept", "dropped", "skipped", "no photo"
"""A photo that is learned; one that shows a face but is left out; one that cannot be used; a file that is no photo."""

THUMBNAIL = 192
"""Longest side of a verdict's picture in pixels."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """`verdict` is one of the words above, `words` what was seen, or the reason; `caption` of a photo that is kept, whether it was
    `given`, and `notes`. `picture` uint8 [h, w, 3], at most THUMBNAIL a side; None where nothing could be read, and for photos that are
    kept, whose picture is the prepared one."""

    name: str
    verdict: str
    words: str
    picture: NDArray[np.uint8] | None = None
    caption: str = ""
    given: bool = False
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """The report's line."""
        caption = f', caption "{self.caption}"{" (as given)" if self.given else ""}' if self.verdict == KEPT else ""
        return f"{self.verdict:<8} {self.name}: {'; '.join((self.words + caption, *self.notes))}"


def thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture made small, its sides in their proportion."""
    from PIL import Image

    small = Image.fromarray(rgb)
    small.thumbnail((THUMBNAIL, THUMBNAIL), reducing_gap=3.0)
    return np.array(small, np.uint8)
