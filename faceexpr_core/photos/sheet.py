"""The report as a picture: each photo as it will be learned, with its mask, verdict and caption, and those left out with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .letters import LEFT_OUT, Pen
from .subject import Photo, Subject
from .verdicts import DROPPED, KEPT, NO_PHOTO, SKIPPED, Verdict

if TYPE_CHECKING:
    from PIL import ImageDraw

CELL = 256
"""Side of each photo in pixels."""

COLUMNS = 4

_GAP, _LINE, _TEXT = 14, 18, 14
_LINES = 9
_DIMMED = 0.6
_GROUND, _INK, _PALE = (24, 24, 27), (235, 235, 235), (150, 150, 155)
_COLOURS = {KEPT: (110, 205, 120), DROPPED: (240, 175, 70), SKIPPED: (235, 95, 85)}


def contact_sheet(subject: Subject) -> NDArray[np.uint8]:
    """The sheet, uint8 [H, W, 3]: a cell for each photo in the report's order, at most COLUMNS a row, then a line for each other file.

    Around a kept photo's face its mask's edge is drawn, and what lies outside is dimmed. A name with letters that no font here has is told
    by the line of the report that has it.
    """
    from PIL import Image, ImageDraw

    pen = Pen(_TEXT)
    said = _readable(subject, pen)
    photos = {photo.name: photo for photo in subject.photos}
    cells = [verdict for verdict in subject.verdicts if verdict.verdict != NO_PHOTO]
    lines = subject.report.split("\n")
    heading, others = lines[:1], [line for line in lines[1:] if line not in {cell.line() for cell in cells}]
    if pen.lacks(subject.report):
        others.append(f"{LEFT_OUT} stands for letters that no font of this computer has, 'line 2' for such a name: see the report")
    columns = max(1, min(COLUMNS, len(cells)))
    width = columns * (CELL + _GAP) + _GAP
    texts = [_cell_lines(verdict, said, pen) for verdict in cells]
    rows = [max(len(text) for text in texts[start : start + columns]) for start in range(0, len(cells), columns)]
    heading, footer = ([part for line in some for part in _wrapped(said(line), pen, width - 2 * _GAP)] for some in (heading, others))
    tops = np.cumsum([_GAP + len(heading) * _LINE + _GAP, *(CELL + (row + 1) * _LINE + _GAP for row in rows)]).tolist()
    sheet = Image.new("RGB", (width, tops[-1] + len(footer) * _LINE + _GAP), _GROUND)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_GAP, _GAP), heading, pen, _INK)
    for number, (verdict, text) in enumerate(zip(cells, texts, strict=True)):
        left, top = _GAP + number % columns * (CELL + _GAP), tops[number // columns]
        picture = _kept_picture(photos[verdict.name]) if verdict.verdict == KEPT else _left_out(verdict.picture)
        sheet.paste(Image.fromarray(picture), (left, top))
        colour = _COLOURS[verdict.verdict]
        draw.rectangle((left, top, left + CELL - 1, top + CELL - 1), outline=colour, width=2)
        _write(draw, (left, top + CELL + 3), [_cut_to(f"{verdict.verdict}: {said(verdict.name)}", pen, CELL)], pen, colour)
        _write(draw, (left, top + CELL + 3 + _LINE), text, pen, _INK if verdict.verdict == KEPT else _PALE)
    _write(draw, (_GAP, tops[-1]), footer, pen, _PALE)
    return np.array(sheet, np.uint8)


def _readable(subject: Subject, pen: Pen) -> Callable[[str], str]:
    """What makes of the report's words those that the pen can write."""
    lines = {verdict.name: number for number, verdict in enumerate(subject.verdicts, start=2) if pen.lacks(verdict.name)}

    def said(text: str) -> str:
        for name in sorted(lines, key=len, reverse=True):
            text = text.replace(name, f"line {lines[name]}")
        return pen.readable(text)

    return said


def _cell_lines(verdict: Verdict, said: Callable[[str], str], pen: Pen) -> list[str]:
    texts = [*([f'"{verdict.caption}"'] if verdict.verdict == KEPT else []), verdict.words, *verdict.notes]
    lines = [part for text in texts for part in _wrapped(said(text), pen, CELL)]
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 1], "... (see the report)"]


def _kept_picture(photo: Photo) -> NDArray[np.uint8]:
    from PIL import Image

    side = (CELL, CELL)
    image = np.asarray(Image.fromarray(photo.image).resize(side, Image.Resampling.LANCZOS), np.float32)
    mask = np.asarray(Image.fromarray(np.round(photo.mask() * 255).astype(np.uint8)).resize(side, Image.Resampling.BILINEAR), np.float32)
    inside = np.pad(mask > 127, 1)
    core = inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    shown = image * (_DIMMED + (1 - _DIMMED) * mask[..., None] / 255)
    shown[(mask > 127) & ~core] = _COLOURS[KEPT]
    return np.round(shown).astype(np.uint8)


def _left_out(picture: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    if picture is None:
        return np.full((CELL, CELL, 3), 48, np.uint8)
    fitted = ImageOps.pad(Image.fromarray(picture), (CELL, CELL), color=(48, 48, 48))
    return np.round(np.asarray(fitted, np.float32) * _DIMMED).astype(np.uint8)


def _wrapped(text: str, pen: Pen, width: int) -> list[str]:
    lines: list[str] = []
    current = ""
    for word in text.split():
        while pen.length(word) > width:  # a name without a space
            head = _longest(word, pen, width)
            lines, current, word = [*lines, *([current] if current else []), head], "", word[len(head) :]
        longer = f"{current} {word}".strip()
        if pen.length(longer) <= width:
            current = longer
        else:
            lines, current = [*lines, current], word
    return [*lines, current] if current else lines


def _longest(word: str, pen: Pen, width: int) -> str:
    return next((word[:end] for end in range(len(word), 1, -1) if pen.length(word[:end]) <= width), word[:1])


def _cut_to(text: str, pen: Pen, width: int) -> str:
    return text if pen.length(text) <= width else _longest(text, pen, width - round(pen.length("..."))) + "..."


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], lines: list[str], pen: Pen, ink: tuple[int, int, int]) -> None:
    for number, line in enumerate(lines):
        pen.write(draw, (place[0], place[1] + number * _LINE), line, ink)
