"""Photos of a person of Mini's world as users have them; the first of every album shows the person at rest.

mixed      about half with a mild expression, each another one
smiling    all others smile, mildly to fully, as in most people's albums
lively     all others with a clear expression, each another one
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from faceexpr_core.mini.world.dataset import Picture

MIXED = "mixed"
ALBUMS = (MIXED, "smiling", "lively")


def album_photos(album: str, seed: int, count: int) -> list[Picture]:
    """`count` photos of the person of a seed, the same each time; `album` is one of ALBUMS."""
    from faceexpr_core.mini.world.dataset import EXPRESSIVE, Shown, draw, make_head, subject_photos

    if album == MIXED:
        return subject_photos(seed, count)
    head, rng = make_head(seed), np.random.default_rng([26, seed])
    shown = [Shown("neutral", 0.0)]
    while len(shown) < count:
        smiles = album == "smiling"
        name = "happy" if smiles else str(rng.choice(EXPRESSIVE))
        shown.append(Shown(name, float(rng.uniform(0.4 if smiles else 0.6, 1.0))))
    return [draw(head, one, rng, 256) for one in shown]
