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
    from lab.mannequins.dataset import Picture

MIXED = "mixed"
ALBUMS = (MIXED, "smiling", "lively")
FROWNING = "frowning"
_DRAWS = {"smiling": 26, "lively": 27, FROWNING: 28}
LIVELY = ("happy", "sad", "angry", "surprised", "fearful", "disgusted", "contemptuous")


def album_photos(album: str, seed: int, count: int) -> list[Picture]:
    """`count` photos of the person of a seed, the same each time; `album` is one of ALBUMS, or FROWNING."""
    from lab.mannequins.dataset import Shown, draw, subject_photos
    from lab.mannequins.heads import make_head

    if album == MIXED:
        return subject_photos(seed, count)
    head, rng = make_head(seed), np.random.default_rng([_DRAWS[album], seed])
    if album == FROWNING:
        return [draw(head, Shown("sad", float(rng.uniform(0.7, 1.0))), rng, 256) for _ in range(count)]
    if album == "smiling":
        others = [Shown("happy", float(rng.uniform(0.4, 1.0))) for _ in range(count - 1)]
    else:
        others = [Shown(str(name), float(rng.uniform(0.6, 1.0))) for name in rng.choice(LIVELY, count - 1, replace=False)]
    return [draw(head, one, rng, 256) for one in (Shown("neutral", 0.0), *others)]
