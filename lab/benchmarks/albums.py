"""Photos of a person of Mini's world as users have them; the first shows the person at rest, but in `frowning`.

mixed      about half with a mild expression, each another one
smiling    all others smile, mildly to fully, as in most people's albums
lively     each of the others shows another expression, strongly
frowning   all look sad, strongly: for a LoRA that always frowns (`benchmarks.frowns`), none of ALBUMS
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lab.world.picture import Picture

MIXED = "mixed"
ALBUMS = (MIXED, "smiling", "lively")
FROWNING = "frowning"
PHOTO_SIDE = 256
"""Pixels."""
LIVELY = ("happy", "sad", "angry", "surprised", "fearful", "disgusted", "contemptuous")
FIRST_NUMBER = {"smiling": 40_000, "lively": 41_000, FROWNING: 42_500}
"""The world draws other pictures of a person under other numbers."""
_DRAWS = {"smiling": 26, "lively": 27, FROWNING: 28}


def album_photos(album: str, seed: int, count: int) -> list[Picture]:
    """`count` photos of the person of a seed, the same each time; `album` is one of ALBUMS, or FROWNING."""
    from lab.world.dataset import subject_photos
    from lab.world.expressions import Shown
    from lab.world.picture import picture

    if album == MIXED:
        return subject_photos(seed, count, PHOTO_SIDE)
    rng = np.random.default_rng([_DRAWS[album], seed])
    if album == FROWNING:
        shown = [Shown("sad", float(rng.uniform(0.7, 1.0))) for _ in range(count)]
    elif album == "smiling":
        shown = [Shown("neutral", 0.0)] + [Shown("happy", float(rng.uniform(0.4, 1.0))) for _ in range(count - 1)]
    else:
        shown = [Shown("neutral", 0.0)] + [
            Shown(str(name), float(rng.uniform(0.6, 1.0))) for name in rng.choice(LIVELY, count - 1, replace=False)
        ]
    return [picture(seed, FIRST_NUMBER[album] + number, one, PHOTO_SIDE) for number, one in enumerate(shown)]
