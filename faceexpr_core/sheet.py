"""A sheet of expressions: what is on it, and the labelled picture. Ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import FaceExprError
from .expressions import EXPRESSIONS, NONE, blend_of, names, parse_action_units

ALL = "all"
"""Stands for the basic expressions of the vocabulary."""
MAX_PICTURES = 400

_INK, _PAPER = "#1d2530", "#fbfaf8"
_LABEL = 1 / 9
"""Height of a label as a share of a picture's shorter side."""
_SMALLEST_LABEL = 18


class Asked(NamedTuple):
    """What a picture of the sheet shows, as Expression Text Encode takes it."""

    expression: str
    intensity: float
    second: str = NONE
    second_weight: float = 0.0
    action_units: str = ""

    @property
    def label(self) -> str:
        """`happy 0.5`, `happy 0.5 surprised 0.5`, `AU1+AU2`; a strength of 1 is not said."""
        parts = [(self.action_units or self.expression, self.intensity), (self.second, self.second_weight)]
        return (
            " ".join(f"{name}{'' if weight == 1 else f' {round(weight, 3):g}'}" for name, weight in parts if name != NONE and weight > 0)
            or "neutral"
        )


def parse_entries(text: str) -> tuple[str, ...]:
    """Expressions written with commas or on lines: names of the vocabulary, action units such as `AU1+AU2`, or `all`; each once.

    Raises FaceExprError for anything else, and for none.
    """
    found: dict[str, None] = {}
    for part in re.split(r"[,;\n]", text):
        if entry := " ".join(part.split()):
            found |= dict.fromkeys(EXPRESSIONS if entry.lower() == ALL else [_entry(entry)])
    if not found:
        raise FaceExprError(f"no expressions were given. Write names with commas between them, such as happy, sad, AU1+AU2, or {ALL}.")
    return tuple(found)


def parse_intensities(text: str) -> tuple[float, ...]:
    """Intensities written with commas, `0.5, 1, 1.5`, each 0 to 1.5. Raises FaceExprError for anything else, and for none."""
    try:
        found = tuple(float(part) for part in text.replace(";", ",").split(",") if part.strip())
    except ValueError:
        found = ()
    if not found or not all(0 <= one <= 1.5 for one in found):
        raise FaceExprError(f"the intensities are {text!r}; write numbers from 0 to 1.5 with commas between them, such as 0.5, 1.")
    return found


def grid_of_expressions(entries: Sequence[str], intensities: Sequence[float]) -> list[Asked]:
    """Every expression at every intensity, expression by expression. Raises FaceExprError where they are too many."""
    _check_count(len(entries) * len(intensities))
    return [_at(entry, intensity) for entry in entries for intensity in intensities]


def strip(entries: Sequence[str], intensity: float, frames: int) -> list[Asked]:
    """`frames` pictures from each expression to the next, ends included and not repeated: the first fades as the second comes.

    Raises FaceExprError for fewer than two expressions or frames, and for action units, which have no second strength.
    """
    if frames < 2 or len(entries) < 2:
        raise FaceExprError(
            f"a strip of {frames} frames between {len(entries)} expressions cannot be drawn; it needs two frames or more, and two "
            "expressions or more."
        )
    if units := [entry for entry in entries if entry not in names()]:
        raise FaceExprError(f"a strip goes from one expression to the next by name; {units[0]} is an action unit. Leave it out.")
    _check_count((len(entries) - 1) * (frames - 1) + 1)
    shown = [_at(entries[0], intensity)]
    for first, second in pairwise(entries):
        for number in range(1, frames):
            share = number / (frames - 1)
            blend = Asked(first, (1 - share) * intensity, second, share * intensity)
            shown.append(_at(second, intensity) if number == frames - 1 else blend)
    return shown


def sheet_columns(entries: int, intensities: int) -> int:
    """Columns of the sheet: an intensity each, or, with one intensity, about as many as rows."""
    return intensities if intensities > 1 else int(np.ceil(np.sqrt(entries)))


def labelled_sheet(pictures: Sequence[NDArray[np.uint8]], labels: Sequence[str], columns: int) -> NDArray[np.uint8]:
    """One picture of many, uint8 [H, W, 3] each and all of one size: in rows of `columns`, each over its label, pixel for pixel."""
    height, width = pictures[0].shape[:2]
    page = SheetPage(height, width, len(pictures), columns)
    for picture, label in zip(pictures, labels, strict=True):
        page.add(picture, label)
    return page.pixels()


class SheetPage:
    """`labelled_sheet` of `count` pictures that come one by one: each is painted once, onto a page made at the start.

    With `small_side`, `small()` is the page at that many pixels at most, kept as it fills.
    """

    def __init__(self, height: int, width: int, count: int, columns: int, small_side: int | None = None) -> None:
        from PIL import Image

        self._height, self._width, self._columns, self._filled = height, width, columns, 0
        self._text = max(_SMALLEST_LABEL, round(_LABEL * min(height, width)))
        self._gap = max(4, self._text // 3)
        rows, gap = -(-count // columns), self._gap
        self._page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + self._text + gap) + gap), _PAPER)
        self._scale = 0.0 if small_side is None else min(1.0, small_side / max(self._page.size))
        width, height = self._scaled(self._page.size)
        self._small = Image.new("RGB", (max(1, width), max(1, height)), _PAPER)

    def add(self, picture: NDArray[np.uint8], label: str) -> None:
        """Paint the next picture, uint8 [H, W, 3], and its label."""
        from PIL import Image, ImageDraw, ImageFont

        height, width, text, gap = self._height, self._width, self._text, self._gap
        row, column = divmod(self._filled, self._columns)
        left, top = gap + column * (width + gap), gap + row * (height + text + gap)
        self._page.paste(Image.fromarray(picture), (left, top))
        pen, size = ImageDraw.Draw(self._page), 0.8 * text
        while size > 6 and pen.textlength(label, ImageFont.load_default(size)) > width:
            size -= 1
        pen.text((left + width / 2, top + height + text / 2), label, fill=_INK, font=ImageFont.load_default(size), anchor="mm")
        self._filled += 1
        if self._scale:
            self._reduce((left, top), (left + width, top + height + text))

    def pixels(self) -> NDArray[np.uint8]:
        """The page, uint8 [H, W, 3]; paper where no picture is yet."""
        return np.asarray(self._page, np.uint8)

    def small(self) -> NDArray[np.uint8]:
        """The page reduced, uint8 [H, W, 3]."""
        return np.asarray(self._small, np.uint8)

    def _reduce(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        from PIL import Image

        (left, top), (right, bottom) = self._scaled(start), self._scaled(end)
        size = max(1, right - left), max(1, bottom - top)
        self._small.paste(self._page.resize(size, Image.Resampling.BILINEAR, box=(*start, *end)), (left, top))

    def _scaled(self, place: tuple[int, int]) -> tuple[int, int]:
        return round(self._scale * place[0]), round(self._scale * place[1])


def _entry(entry: str) -> str:
    name = entry.replace("_", " ").lower()
    if name in names():
        return name
    try:
        parse_action_units(entry)
    except FaceExprError:
        blend = blend_of(entry)  # says what the vocabulary has
        return blend[0][0].name
    return entry


def _at(entry: str, intensity: float) -> Asked:
    return Asked(entry, intensity) if entry in names() else Asked(NONE, intensity, action_units=entry)


def _check_count(count: int) -> None:
    if count > MAX_PICTURES:
        raise FaceExprError(f"that would be {count} pictures; a sheet has {MAX_PICTURES} at most. Name fewer expressions or intensities.")
