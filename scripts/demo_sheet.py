"""The demo's sheet: the photos, each expression in a row for each way of drawing it, strips, and an expression from a stranger's photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from demo_graph import ARMS, BLEND, EXPRESSIONS, NEUTRAL, STRANGER, STRONGER, WORDS
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from faceexpr_core.expressions import action_unit_phrase, parse_action_units

CELL = 256
GAP = 12
MARGIN = 40
LABELS = 56
HEADING = 56
COLUMNS = 8
INK, QUIET, RIGHT, WRONG, PAPER = "#1d2530", "#6a7484", "#1f7a4d", "#a8442a", "#fbfaf8"
TITLES = {
    "strength": f"How strongly: {STRONGER}, from nothing to half as much again",
    "blend": f"Two at once: from {BLEND[0]} to {BLEND[1]}",
    "units": "Single muscles, one side alone too",
}
LONGEST = 22
"""Letters of a label that fit under a picture."""

Picture = NDArray[np.uint8]


class Cell(NamedTuple):
    """A picture, what was asked, and what was measured: text and colour, then more in a quiet one."""

    picture: Picture
    asked: str
    measured: str = ""
    colour: str = QUIET
    more: str = ""


def draw_sheet(
    photos: Sequence[Picture], donors: Sequence[Picture], pictures: Mapping[str, Mapping[str, Picture]], report: Mapping[str, Any]
) -> Image.Image:
    """Rows of pictures uint8 [H, W, 3] with what was asked and what was measured under each. `donors`: a stranger at rest, and not."""
    rows = [(f"The {len(photos)} photos", [Cell(photo, "") for photo in photos]), *_rows(donors, pictures, report)]
    width = 2 * MARGIN + COLUMNS * (CELL + GAP) - GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + len(rows) * (HEADING + CELL + LABELS)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (title, cells) in enumerate(rows):
        top = MARGIN + number * (HEADING + CELL + LABELS)
        pen.text((MARGIN, top + 8), title, fill=INK, font=ImageFont.load_default(30))
        for column, cell in enumerate(cells):
            left = MARGIN + column * (CELL + GAP)
            sheet.paste(Image.fromarray(cell.picture).resize((CELL, CELL), Image.Resampling.LANCZOS), (left, top + HEADING))
            _label(pen, left, top + HEADING + CELL + 6, cell)
    return sheet


def _rows(
    donors: Sequence[Picture], pictures: Mapping[str, Mapping[str, Picture]], report: Mapping[str, Any]
) -> list[tuple[str, list[Cell]]]:
    measured = {(cell["arm"], cell["asked"]): cell for cell in report["cells"]}
    rows = [(title, [_read(pictures[arm][name], name, measured[arm, name]) for name in EXPRESSIONS]) for arm, title in ARMS.items()]
    strengths = dict(zip(WORDS["strength"], report["strength"]["measured"], strict=True))
    blends = {one["asked"]: one for one in report["blend"]}
    units = {one["asked"]: one["moved"] for one in report["units"]}
    told = {
        "strength": {name: f"measured {value:.2f}" for name, value in strengths.items()},
        "blend": {name: (one["measured"] or "no face found") + _likeness(one) for name, one in blends.items()},
        "units": {name: f"moved: {', '.join(moved[:5]) or 'none'}" for name, moved in units.items()},
    }
    for row, title in TITLES.items():
        asked = {name: _words(name) if row == "units" else name for name in WORDS[row]}
        rows.append((title, [Cell(pictures[row][name], asked[name], told[row][name]) for name in WORDS[row]]))
    taken = _read(pictures[STRANGER]["person"], "with the stranger's smile", report[STRANGER])
    own = Cell(pictures["with_lora"][NEUTRAL], "the person, at rest")
    strangers = [Cell(one, words) for one, words in zip(donors, ("a stranger, at rest", "the stranger, happy"), strict=True)]
    return [*rows, ("From a stranger's photo", [*strangers, own, taken])]


def _read(picture: Picture, asked: str, cell: Mapping[str, Any]) -> Cell:
    return Cell(picture, asked, cell["measured"] or "no face found", RIGHT if cell["right"] else WRONG, _likeness(cell))


def _likeness(cell: Mapping[str, Any]) -> str:
    return "" if cell["identity"] is None else f"   likeness {cell['identity']:.2f}"


def _words(units: str) -> str:
    """The phrase of action units, or their codes where it is too long."""
    phrase = action_unit_phrase(parse_action_units(units))
    return phrase if len(phrase) <= LONGEST else units


def _label(pen: ImageDraw.ImageDraw, left: int, top: int, cell: Cell) -> None:
    pen.text((left, top), cell.asked, fill=INK, font=ImageFont.load_default(22))
    small = ImageFont.load_default(16)
    pen.text((left, top + 26), cell.measured, fill=cell.colour, font=small)
    pen.text((left + pen.textlength(cell.measured, font=small), top + 26), cell.more, fill=QUIET, font=small)
