"""Faces of three people of Mini's world, whom no fit has seen: tests/data/rendered_faces.jpg, drawn by lab.recipe.rendered_faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DATA = Path(__file__).parent / "data"
SIDE = 192
"""Pixels along each square of the sheets."""
COLUMNS = ("neutral", "happy", "sad", "angry", "surprised", "fearful", "disgusted", "contempt", "shocked")

Picture = NDArray[np.uint8]


def squares(name: str) -> list[list[Picture]]:
    """The pictures of a sheet, row by row: uint8 [SIDE, SIDE, 3]."""
    sheet = np.asarray(Image.open(DATA / name))
    rows, columns = sheet.shape[0] // SIDE, sheet.shape[1] // SIDE
    return [[sheet[SIDE * y : SIDE * (y + 1), SIDE * x : SIDE * (x + 1)].copy() for x in range(columns)] for y in range(rows)]


def rendered_people() -> list[list[Picture]]:
    """A row for each person, a picture for each of COLUMNS."""
    return squares("rendered_faces.jpg")


def turned_faces() -> list[Picture]:
    """One face at rest, turned by 0, 15, -50 and 50 degrees."""
    return squares("turned_faces.jpg")[0]
