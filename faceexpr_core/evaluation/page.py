"""One page that tells an evaluation: numbers, plots and pictures in a single file that opens from disk and asks for nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ..measure.picture_score import NEUTRAL
from ..measure.statistics import FEW, LEVEL, Interval
from ..text import without_slot
from . import plots
from .arms import without_folders
from .plan import PERSON
from .records import Record
from .run import Evaluation, person_folder, read_picture
from .summary import Difference, Measure, Row, by_expression, by_intensity, grouped, strongest

TEMPLATE = Path(__file__).with_name("page.html.jinja")
SHOWN = 600
"""Pictures on the page at most; the folder has all."""
OPEN = 3
"""People whose pictures are seen at once; the others' are unfolded by a click."""
THUMB, QUALITY = 192, 82
"""Longer side of a picture on the page in pixels, and JPEG's quality."""
ARROWS = {1: "↑", -1: "↓", 0: ""}


def build_page(
    run: Evaluation,
    records: Sequence[Record],
    rows: Sequence[Row],
    compared: Sequence[Difference],
    measures: Sequence[Measure],
    about: Mapping[str, str],
) -> str:
    """The page's HTML; `about` says how it was made, a line each."""
    from jinja2 import Environment

    arms = [row.arm for row in rows]
    known = [one for one in measures if any(row.values[one.name] is not None for row in rows)]
    intensities = by_intensity(records, arms)
    sheets, left_out = _sheets(run, records)
    less = [_differences(arm, known, compared) for arm in arms[:-1]]
    template = Environment(autoescape=True, trim_blocks=False).from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        title=f"Expressions of {run.people[0].name}" if len(run.people) == 1 else f"Expressions of {len(run.people)} people",
        people=run.people,
        few=FEW,
        expressions=run.plan.expressions,
        intensities=[f"{one:g}" for one in run.plan.intensities],
        scenes=run.plan.scenes,
        seeds=run.plan.seeds,
        pictures=len(records),
        rows=rows,
        results=[_line(one, [row.values[one.name] for row in rows]) for one in known],
        differences=less,
        chance=_chance(less),
        plots={
            "forest": _named(plots.forest(rows, measures), "Means of the arms in the chief measures"),
            "expressions": _named(plots.expressions(by_expression(records, arms, "right")), "Share right by expression, blendshapes"),
            "classified": _named(
                plots.expressions(by_expression(records, arms, "right_classifier")), "Share right by expression, classifier"
            ),
            "trade": _named(plots.trade(rows), "Likeness against expression score"),
            "intensities": _named(plots.intensities(intensities), "Intensity asked against intensity read")
            if len(run.plan.intensities) > 1
            else "",
        },
        confusions=[{"arm": arm, "matrices": _confusions(own)} for arm, own in grouped(records, "arm").items()],
        sheets=sheets,
        left_out=left_out,
        about=list(about.items()),
        measures=known,
    )
    for arm in arms:
        page = page.replace(escape(arm), escape(without_folders(arm)))
    return page


def _differences(against: str, measures: Sequence[Measure], compared: Sequence[Difference]) -> dict[str, Any]:
    """The later arms less one."""
    later = [one for one in compared if one.against == against]
    lines = [_line(measure, [one.values[measure.name] for one in later], signed=True) for measure in measures]
    return {"against": against, "arms": [one.arm for one in later], "lines": lines}


def _chance(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many intervals of `_differences` are marked where they leave out 0, and, in words, how many of so many do so by chance."""
    intervals = sum("ends" in cell for table in tables for line in table["lines"] if line["arrow"] for cell in line["cells"])
    marked = (1 - LEVEL) * intervals
    return {"intervals": intervals, "marked": f"about {marked:.0f}" if marked > 0.99 else "less than one"}


def _line(measure: Measure, values: Sequence[Interval | None], signed: bool = False) -> dict[str, Any]:
    """A row of a table: a cell an arm; without `signed` the best is marked, where not all are as good."""
    cells = [_cell(measure, value, signed) for value in values]
    known = [value.mean for value in values if value is not None]
    if not signed and measure.better and len({cell["mean"] for cell in cells}) > 1:
        best = _number(max(known, key=lambda mean: measure.better * mean), measure.digits)
        cells = [{**cell, "best": cell["mean"] == best} for cell in cells]
    return {"title": measure.title, "arrow": ARROWS[measure.better], "cells": cells}


def _cell(measure: Measure, value: Interval | None, signed: bool) -> dict[str, Any]:
    if value is None:
        return {"mean": "-"}
    found = {"mean": _number(value.mean, measure.digits, signed)}
    if value.low < value.high:
        found["ends"] = f"[{_number(value.low, measure.digits, signed)}, {_number(value.high, measure.digits, signed)}]"
        if signed and measure.better and value.low * value.high > 0:
            better = value.mean * measure.better > 0
            found |= {"word": "better" if better else "worse", "mark": "right" if better else "wrong"}
    return found


def _number(value: float, digits: int, signed: bool = False) -> str:
    return f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"  # + 0.0: no -0


def _confusions(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What each judge read, in shares of what was asked, at the strongest intensity."""
    found = []
    asked = grouped([one for one in strongest(records) if one["expression"] != NEUTRAL], "expression")
    for judge, key in (("blendshapes", "read"), ("classifier", "classified")):
        columns = list(dict.fromkeys((*asked, NEUTRAL, *(one[key] for own in asked.values() for one in own if one[key]), "none")))
        rows = []
        for name, own in asked.items():
            read = [one[key] or "none" for one in own]
            rows.append((name, [read.count(column) / len(read) for column in columns]))
        found.append({"judge": judge, "columns": columns, "rows": rows})
    return found


def _sheets(run: Evaluation, records: Sequence[Record]) -> tuple[list[dict[str, Any]], int]:
    """Of each person the photos, then the pictures of every place at the strongest intensity, and of the first one all intensities: while
    there is room everybody's first sheet, then everybody's second, and so on."""
    asked = {name: _asked_sheets(run, own) for name, own in grouped(records, "person").items()}
    room, chosen = SHOWN, set[tuple[str, int]]()
    for number in range(max(map(len, asked.values()), default=0)):
        for name, own in asked.items():
            if number < len(own) and len(own[number].records) <= room:
                chosen.add((name, number))
                room -= len(own[number].records)
    people, known = list[dict[str, Any]](), {one.name: one for one in run.people}
    for name, own in asked.items():
        sheets = []
        for one in (one for number, one in enumerate(own) if (name, number) in chosen):
            words = ", all intensities" if one.folded else ""
            title = f"“{without_slot(one.scene.replace(PERSON, known[name].words))}”, seed {one.seed}{words}"
            sheets.append(_sheet(run, title, one.records, one.folded))
        photos = [_thumb(path) for path in sorted(person_folder(run.output, name).glob("photo_*.png"))]
        people.append({"name": name, "photos": photos, "sheets": sheets, "folded": len(people) >= OPEN})
    shown = {cell["path"] for one in people for sheet in one["sheets"] for _, cells in sheet["rows"] for cell in cells if cell}
    return people, len(records) - len(shown)


class _Sheet(NamedTuple):
    """A sheet that might be shown; one that is `folded` has all intensities."""

    scene: str
    seed: int
    records: Sequence[Record]
    folded: bool


def _asked_sheets(run: Evaluation, records: Sequence[Record]) -> list[_Sheet]:
    """A person's, in order."""
    found = []
    for number, (scene, seed) in enumerate(dict.fromkeys((one["scene"], one["seed"]) for one in records)):
        here = [one for one in records if one["scene"] == scene and one["seed"] == seed]
        found.append(_Sheet(scene, seed, strongest(here), folded=False))
        if not number and len(run.plan.intensities) > 1:
            found.append(_Sheet(scene, seed, [one for one in here if one["expression"] != NEUTRAL], folded=True))
    return found


def _sheet(run: Evaluation, title: str, records: Sequence[Record], folded: bool) -> dict[str, Any]:
    several = len({one["intensity"] for one in records}) > 1

    def heading(record: Record) -> str:
        name = str(record["expression"])
        return f"{name} {record['intensity']:g}" if several and name != NEUTRAL else name

    columns = list(dict.fromkeys(heading(one) for one in records))
    rows = []
    for arm, own in grouped(records, "arm").items():
        cells = {heading(one): _picture(run.output, one) for one in own}
        rows.append((arm, [cells.get(column) for column in columns]))
    return {"title": title, "columns": columns, "rows": rows, "folded": folded}


def _picture(output: Path, record: Record) -> dict[str, Any]:
    marks = {True: ("✓", "right"), False: ("✗", "wrong"), None: ("", "")}
    (sign, mark), (sign_2, mark_2) = marks[record["right"]], marks[record["right_classifier"]]
    likeness = "" if record["likeness"] is None else f"{record['likeness']:.2f}"
    read, classified = record["read"] or "unknown", record["classified"] or "unknown"
    asked = (
        f"{record['expression']} at {record['intensity']:g}: read as {read}, by the classifier {classified}, likeness {likeness or 'none'}"
    )
    return {
        "path": record["picture"],
        "source": _thumb(output / record["picture"]),
        "asked": asked if record["face"] else f"{record['expression']} at {record['intensity']:g}: no face found",
        "face": record["face"],
        "read": read,
        "classified": classified,
        "sign": sign,
        "mark": mark,
        "sign_2": f"{sign_2} " if sign_2 else "",
        "mark_2": mark_2,
        "likeness": likeness,
    }


def _thumb(path: Path) -> str:
    """A picture's file as a small JPEG in a data URI."""
    from PIL import Image

    picture = Image.fromarray(read_picture(path))
    picture.thumbnail((THUMB, THUMB), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _named(svg: str, words: str) -> str:
    """A plot that a screen reader names; `words` are ours, and hold nothing that HTML would read otherwise."""
    return svg.replace("<svg ", f'<svg role="img" aria-label="{words}" ', 1)
