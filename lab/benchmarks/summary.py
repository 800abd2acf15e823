"""Records of a comparison as a Markdown table with intervals, and as a sheet of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.evaluation.records import read_all
from faceexpr_core.evaluation.run import read_picture
from faceexpr_core.evaluation.summary import grouped
from faceexpr_core.measure import pictures as compared
from faceexpr_core.measure.identity import identity_drop, normalised
from faceexpr_core.measure.judges import Picture
from faceexpr_core.measure.pictures import Locality
from faceexpr_core.measure.statistics import Interval, mean_interval

from .arms import BASELINE
from .store import file_name

Record = Mapping[str, Any]
Value = Callable[[Record], float | None]

LABEL = 24
INK, PAPER = "#1d2530", "#fbfaf8"
MEANS_ONLY = ("face", "varies", "class varies", "s")
FINE = ("leak", "leak over words", "SFace", "SFace of neutral", "SFace drop", "drift")
"""Columns shown without intervals, and those with three places."""


def picture_path(output: Path, arm: str, subject: int, noise: int, expression: str) -> Path:
    return output / "pictures" / file_name(arm) / f"{subject}_{noise}_{expression}.png"


def _picture_of(output: Path, record: Record) -> Path:
    return picture_path(output, record["arm"], record["subject"], record["noise"], record["expression"])


def over_words(output: Path) -> Path:
    """Where it is kept how much nearer to their donors the pictures are than those drawn by words."""
    return output / "over_words"


def likeness(record: Record) -> float:
    """Normalised SFace similarity to the subject's photos, 0 without a face."""
    return normalised(record["similarity"])


def _ratio(record: Record) -> float | None:
    return Locality(record["inside"], record["outside"]).ratio if "inside" in record else None


MEASURES: Mapping[str, Value] = {
    "right": lambda record: float(record["right"]),
    "cos": lambda record: record["cosine"],
    "intensity": lambda record: record["intensity"],
    "likeness": likeness,
    "leak": lambda record: record.get("leak"),
    "outside / inside": _ratio,
    "face": lambda record: float(record["face"]),
    "s": lambda record: record["seconds"],
}
DIFFERENCES: Mapping[str, Value] = {
    **{name: MEASURES[name] for name in ("right", "cos", "intensity", "likeness")},
    "SFace": lambda record: record["similarity"],
}
OVER_WORDS = "leak over words"
LEGEND = (
    "right: the expression asked is the one measured, of 7 (no face is a miss). cos, intensity: of the change of blendshapes from the "
    "subject's neutral picture (same noise, no fusion) along the asked expression's prototype, 1 a usual full expression. likeness: "
    "normalised SFace to the subject's photos, 0 another person, 1 the same; drop: neutral picture's likeness less this. leak: SFace "
    "nearer to the donor than without fusion; over words: than the same expression in the text, which has no donor. outside / inside: "
    "change of pixels where the expression does not act over where it does. "
    "varies: distance of the seeds' pictures. s: processor seconds a picture, donors not counted. [95 % bootstrap intervals over subjects]."
)


Wanted = Callable[[Record], bool]
"""Whether a command asks for a record: a folder may hold more people and noises."""


def every(record: Record) -> bool:
    """All that is there."""
    return True


def of_people(subjects: Sequence[int], noises: Sequence[int]) -> Wanted:
    """Records of these people from these noises."""
    return lambda record: record["subject"] in subjects and record["noise"] in noises


def table(output: Path, arms: Sequence[str], command: str, wanted: Wanted = every) -> str:
    """Markdown: one line an arm, then the arms' differences from BASELINE on the same subjects, noises and expressions."""
    records = list(filter(wanted, read_all(output / "records")))
    by_arm = grouped(records, "arm")
    resting = {(one["subject"], one["noise"]): one for one in by_arm.get("neutral", [])}
    shown = [arm for arm in arms if arm in by_arm]
    columns = ["right", "cos", "intensity", "likeness", "drop", "leak", "outside / inside", "face", "varies", "s"]
    lines = [f"`{command}`", "", LEGEND, "", *table_head(["arm", "pictures", *columns])]
    for arm in shown:
        own = by_arm[arm]
        cells = {name: over_subjects(own, value) for name, value in MEASURES.items()}
        cells["drop"] = over_subjects(own, lambda one: _drop(one, resting))
        cells["varies"] = diversity(own, partial(_picture_of, output))
        lines.append(table_line([f"`{arm}`", f"{len(own)}", *(cell(cells[name], name) for name in columns)]))
    lines += ["", f"Differences from `{BASELINE.name}`:", "", *table_head(["arm", *DIFFERENCES, OVER_WORDS])]
    nearer = grouped(filter(wanted, read_all(over_words(output))), "arm")
    plain = {place(one): one for one in by_arm.get(BASELINE.name, [])}
    for arm in shown:
        if arm == BASELINE.name:
            continue
        cells = {name: over_subjects(by_arm[arm], difference(value, plain)) for name, value in DIFFERENCES.items()}
        cells[OVER_WORDS] = over_subjects(nearer.get(arm, []), lambda one: one["over_words"])
        lines.append(table_line([f"`{arm}`", *(cell(interval, name, signed=True) for name, interval in cells.items())]))
    return "\n".join(lines) + "\n"


def difference(value: Value, plain: Mapping[tuple[Any, ...], Record]) -> Value:
    """A record's value less that of the record in the same place of `plain`."""

    def less(record: Record) -> float | None:
        other = plain.get(place(record))
        mine, theirs = value(record), None if other is None else value(other)
        return None if mine is None or theirs is None else mine - theirs

    return less


def _drop(record: Record, resting: Mapping[tuple[Any, ...], Record]) -> float | None:
    neutral = resting.get((record["subject"], record["noise"]))
    return None if neutral is None else identity_drop(neutral["similarity"], record["similarity"])


def over_subjects(records: Iterable[Record], value: Value) -> Interval | None:
    """Mean of the subjects' means, with its interval; None where no record has a value."""
    groups = [[number for one in own if (number := value(one)) is not None] for own in grouped(records, "subject").values()]
    return mean_interval(groups) if any(groups) else None


def diversity(records: Iterable[Record], path: Callable[[Record], Path]) -> Interval | None:
    """How much the pictures of one subject and expression vary with the seed; `path` is where a record's picture lies."""
    groups = []
    for own in grouped(records, "subject").values():
        sets = [[read_picture(path(one)) for one in same] for same in grouped(own, "expression").values() if len(same) > 1]
        groups.append([compared.diversity(pictures) for pictures in sets])
    return mean_interval(groups) if any(groups) else None


def place(record: Record) -> tuple[Any, ...]:
    """What two arms' records must share to be compared."""
    return record["subject"], record["noise"], record["expression"]


def cell(interval: Interval | None, name: str, signed: bool = False, places: int | None = None) -> str:
    """An interval as the column `name` shows it, with `places` if they are given."""
    if interval is None:
        return "-"
    sign = "+" if signed else ""
    if name in MEANS_ONLY:
        return f"{interval.mean:{sign}.2f}"
    if places is None:
        places = 3 if name in FINE else 2
    if interval.low == interval.high:  # too few people, or all alike
        return f"{interval.mean:{sign}.{places}f}"
    return f"{interval.mean:{sign}.{places}f} [{interval.low:{sign}.{places}f}, {interval.high:{sign}.{places}f}]"


def sheet(output: Path, arms: Sequence[str], wanted: Wanted = every, people: int = 2) -> Image.Image:
    """The neutral picture and every expression of the first subjects from their first noise, a row an arm."""
    records = list(filter(wanted, read_all(output / "records")))
    order = list(dict.fromkeys(one["expression"] for one in records if one["arm"] == BASELINE.name))
    rows = []
    for subject, own in list(grouped(records, "subject").items())[:people]:
        noise = own[0]["noise"]
        drawn = {(one["arm"], one["expression"]) for one in own if one["noise"] == noise}
        for arm in arms:
            if any((arm, name) in drawn for name in order):
                paths = [picture_path(output, "neutral", subject, noise, "neutral")]
                paths += [picture_path(output, arm, subject, noise, name) for name in order if (arm, name) in drawn]
                rows.append((f"{subject}, noise {noise}: {arm}", [read_picture(path) for path in paths]))
    return page_of(rows, ("neutral", *order))


def page_of(rows: Sequence[tuple[str, Sequence[Picture]]], columns: Sequence[str] = ()) -> Image.Image:
    """Rows of pictures of one size, their words above each, and above all what the columns are."""
    side, count = (rows[0][1][0].shape[0], max(len(pictures) for _, pictures in rows)) if rows else (1, 1)
    above = LABEL if columns else 0
    page = Image.new("RGB", (count * side, above + max(1, len(rows)) * (side + LABEL)), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(LABEL * 2 / 3)
    for column, words in enumerate(columns):
        pen.text(((column + 0.5) * side, LABEL / 2), words, fill=INK, font=font, anchor="mm")
    for number, (words, pictures) in enumerate(rows):
        top = above + number * (side + LABEL)
        pen.text((4, top + LABEL / 2), words, fill=INK, font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            page.paste(Image.fromarray(np.asarray(picture)), (column * side, top + LABEL))
    return page
