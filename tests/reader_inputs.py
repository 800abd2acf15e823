"""The squares on which the reader was compared with face-api: `python tests/reader_inputs.py squares.bin` writes them for
lab/recipe/reader_reference.mjs, which says what face-api makes of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rendered import rendered_people
from skimage import data

SIDE = 112


def reference_squares() -> list[NDArray[np.uint8]]:
    """The astronaut's face, nine renders, noise and a ramp: uint8 [112, 112, 3] each."""
    renders = [picture[40 : 40 + SIDE, 40 : 40 + SIDE] for picture in rendered_people()[1]]
    noise = np.random.default_rng(7).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    ramp = np.stack(np.broadcast_arrays(2 * np.arange(SIDE)[:, None], 2 * np.arange(SIDE), 90), axis=2).astype(np.uint8)
    return [np.asarray(data.astronaut())[60 : 60 + SIDE, 168 : 168 + SIDE], *renders, noise, ramp]


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(np.stack(reference_squares()).tobytes())
