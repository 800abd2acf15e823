"""The demo's sheet: the photos, and below them each expression, a row for each way of drawing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL = 256
GAP = 12
MARGIN = 40
LABELS = 56
HEADING = 56
INK, QUIET, RIGHT, WRONG, PAPER = "#1d2530", "#6a7484", "#1f7a4d", "#a8442a", "#fbfaf8"


def draw_sheet(
    photos: Sequence[np.ndarray],
    pictures: Mapping[str, Mapping[str, np.ndarray]],
    report: Mapping[str, Any],
    expressions: Sequence[str],
    arms: Mapping[str, str],
) -> Image.Image:
    """Photos on the first row, then a row an arm with what was asked and what was measured under each. Pictures: uint8 [H, W, 3]."""
    width = 2 * MARGIN + len(expressions) * (CELL + GAP) - GAP
    height = 2 * MARGIN + HEADING + CELL + len(arms) * (HEADING + CELL + LABELS) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    top = MARGIN
    _heading(pen, top, f"The {len(photos)} photos")
    top += HEADING
    for column, photo in enumerate(photos):
        sheet.paste(_enlarged(photo), (_left(column), top))
    top += CELL + GAP
    cells = {(cell["arm"], cell["asked"]): cell for cell in report["cells"]}
    for arm, title in arms.items():
        _heading(pen, top, title)
        top += HEADING
        for column, name in enumerate(expressions):
            sheet.paste(_enlarged(pictures[arm][name]), (_left(column), top))
            _label(pen, _left(column), top + CELL + 6, cells[arm, name])
        top += CELL + LABELS
    return sheet


def _left(column: int) -> int:
    return MARGIN + column * (CELL + GAP)


def _enlarged(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.LANCZOS)


def _heading(pen: ImageDraw.ImageDraw, top: int, text: str) -> None:
    pen.text((MARGIN, top + 8), text, fill=INK, font=ImageFont.load_default(30))


def _label(pen: ImageDraw.ImageDraw, left: int, top: int, cell: Mapping[str, Any]) -> None:
    pen.text((left, top), cell["asked"], fill=INK, font=ImageFont.load_default(22))
    measured = cell["measured"] or "no face found"
    likeness = "" if cell["identity"] is None else f"   likeness {cell['identity']:.2f}"
    pen.text((left, top + 26), measured, fill=RIGHT if cell["right"] else WRONG, font=ImageFont.load_default(16))
    taken = pen.textlength(measured, font=ImageFont.load_default(16))
    pen.text((left + taken, top + 26), likeness, fill=QUIET, font=ImageFont.load_default(16))
