"""Render the faces that the tests read: `python -m lab.recipe.rendered_faces`. Needs the world's parts (FACEEXPR_PARTS).

Writes into tests/data, in squares of SIDE pixels:

- `rendered_faces.jpg`: a row for each of three people, a column for each expression, neutral first;
- `turned_faces.jpg`: one face turned by each of YAWS degrees.

Reporting identities, whom nothing was fitted on, without hats and glasses.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from lab.world.expressions import EXPRESSIONS, Shown
from lab.world.identity import person_of
from lab.world.picture import picture
from lab.world.scene import outfit_of

FOLDER = Path(__file__).parents[2] / "tests" / "data"
PEOPLE = (200_121, 200_122, 200_124)
SIDE = 192
FIRST_NUMBER = 50_000
YAWS = (0.0, 15.0, -50.0, 50.0)
QUALITY = 90


def bare_headed(seed: int) -> Iterator[int]:
    """Numbers of pictures in which a person wears neither hat nor glasses."""
    for number in count(FIRST_NUMBER):
        outfit = outfit_of(person_of(seed), np.random.default_rng([21, seed, number]))
        if outfit.cover == "none" and not outfit.glasses:
            yield number


def main() -> None:
    rows = []
    for seed in PEOPLE:
        numbers = bare_headed(seed)
        rows.append(np.concatenate([picture(seed, next(numbers), Shown(word), SIDE).image for word in EXPRESSIONS], 1))
    turned = [picture(PEOPLE[0], FIRST_NUMBER, Shown(), SIDE, yaw=yaw, pitch=0.0, roll=0.0).image for yaw in YAWS]
    for name, page in (("rendered_faces", np.concatenate(rows)), ("turned_faces", np.concatenate(turned, 1))):
        Image.fromarray(page).save(FOLDER / f"{name}.jpg", quality=QUALITY, subsampling=0, optimize=True)


if __name__ == "__main__":
    main()
