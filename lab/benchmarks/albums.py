"""Photos of a person of Mini's world as users have them; the first of every album shows the person at rest.

mixed      about half with a mild expression, each another one
smiling    all others smile, mildly to fully, as in most people's albums
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lab.mannequins.dataset import Picture

MIXED = "mixed"
ALBUMS = (MIXED, "smiling")


def album_photos(album: str, seed: int, count: int) -> list[Picture]:
    """`count` photos of the person of a seed, the same each time; `album` is one of ALBUMS."""
    from lab.mannequins.dataset import Shown, draw, subject_photos
    from lab.mannequins.heads import make_head

    if album == MIXED:
        return subject_photos(seed, count)
    head, rng = make_head(seed), np.random.default_rng([26, seed])
    smiles = [Shown("happy", float(rng.uniform(0.4, 1.0))) for _ in range(count - 1)]
    return [draw(head, one, rng, 256) for one in (Shown("neutral", 0.0), *smiles)]
