"""A contact sheet: `python -m lab.world.sheet --parts DIR --out sheet.jpg [--first-seed 200000] [--people 48] [--columns 8]`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from .assets import load_parts, parts_folder
from .expressions import Shown
from .identity import REPORTING_IDENTITIES
from .picture import picture

NUMBER = 40_000
"""Pictures of a sheet are numbered from here."""
SHOWN = ("happy", "neutral", "surprised", "happy", "sad", "neutral", "contemptuous", "happy", "angry", "neutral", "fearful", "happy",
         "disgusted", "neutral", "shocked")
"""What the people of a sheet show in turn: friendly faces more often than others, as in an album."""


def sheet(first: int, people: int, columns: int, side: int) -> np.ndarray:
    """uint8 [rows * side, columns * side, 3] RGB: one picture a person; drawn at twice the side."""
    made = []
    for k in range(people):
        rng = np.random.default_rng([24, first + k])
        one = picture(first + k, NUMBER, Shown(SHOWN[k % len(SHOWN)], float(rng.uniform(0.7, 1.0))), side * 2)
        made.append(cv2.resize(one.image, (side, side), interpolation=cv2.INTER_AREA))
    made += [np.zeros_like(made[0])] * (-len(made) % columns)
    return np.vstack([np.hstack(made[i : i + columns]) for i in range(0, len(made), columns)])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, help="folder of parts; default: the environment variable FACEEXPR_PARTS")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-seed", type=int, default=REPORTING_IDENTITIES.start)
    parser.add_argument("--people", type=int, default=48)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--quality", type=int, default=80, help="of the JPG")
    arguments = parser.parse_args(argv)
    folder = parts_folder(arguments.parts)
    os.environ["FACEEXPR_PARTS"] = str(folder)
    load_parts(folder)
    drawn = sheet(arguments.first_seed, arguments.people, arguments.columns, arguments.side)
    cv2.imwrite(str(arguments.out), drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, arguments.quality])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
