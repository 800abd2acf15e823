"""Records of a comparison of training runs as Markdown tables with intervals, and as sheets of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from faceexpr_core import mini
from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.evaluation.records import read_all
from faceexpr_core.evaluation.run import read_picture
from faceexpr_core.evaluation.summary import grouped
from faceexpr_core.measure.expression import CLASSES
from faceexpr_core.measure.identity import identity_drop
from faceexpr_core.measure.judges import Picture
from faceexpr_core.measure.statistics import Interval

from . import summary
from .preset_arms import BASE
from .store import file_name
from .subjects import PHOTOS
from .summary import Record, Value, Wanted, every, likeness

NEUTRAL = "neutral"
PERSON, CLASS = "person", "class"
"""What a picture was asked to show: the person, or anybody of the person's class."""

LEGEND = (
    "right: the expression asked is the one measured, of 7 (no face is a miss), in the change of blendshapes from the arm's own neutral "
    "picture of the same noise; cos, intensity: of that change along the asked expression's prototype, 1 a usual full expression. on the "
    "person: right, of 8 with neutral, in the change from the subject's photo at rest. likeness: normalised SFace to the subject's photos, "
    "0 another person, 1 the same; drop: neutral picture's likeness less this. varies: distance of the seeds' pictures of one expression. "
    "class: the class alone is asked for, without the trigger. drift: SFace similarity of such a face to the subject's photos less that of "
    f"the base model's from the same noise; 0 where the class was kept. `{BASE}`: no LoRA, the ceiling of expression. [95 % bootstrap "
    "intervals over subjects]."
)

EACH_PERSON = ("right", "on the person", "likeness", "drift")
"""Columns that are told of each person."""


class Column(NamedTuple):
    """A value of the pictures of one kind; of the expressive ones, and with `neutral` of the neutral ones too."""

    kind: str
    value: Value
    neutral: bool = False


def picture_path(output: Path, record: Record) -> Path:
    name = f"{record['subject']}_{record['noise']}_{record['kind']}_{record['expression']}.png"
    return output / "pictures" / file_name(record["arm"]) / name


def records_of(output: Path, arm: str, wanted: Wanted = every) -> list[Record]:
    return list(filter(wanted, read_all(output / "records" / file_name(arm))))


def table(output: Path, arms: Sequence[str], against: Sequence[str], command: str, wanted: Wanted = every) -> str:
    """Markdown: a line an arm, its differences from each arm of `against` in the same places, and each expression's share of hits."""
    found = {arm: own for arm in (BASE, *arms) if (own := records_of(output, arm, wanted))}
    whole = {(arm, kind): [one for one in own if one["kind"] == kind] for arm, own in found.items() for kind in (PERSON, CLASS)}
    expressive = {key: [one for one in own if one["expression"] != NEUTRAL] for key, own in whole.items()}

    def read(arm: str, column: Column) -> list[Record]:
        return (whole if column.neutral else expressive).get((arm, column.kind), [])

    columns = _columns(found)
    lines = [f"`{command}`", "", LEGEND, "", *table_head(["arm", "subjects", *columns, "varies", "class varies"])]
    for arm, own in found.items():
        cells = [summary.cell(summary.over_subjects(read(arm, column), column.value), name) for name, column in columns.items()]
        for kind, name in ((PERSON, "varies"), (CLASS, "class varies")):
            cells.append(summary.cell(summary.diversity(expressive[arm, kind], partial(picture_path, output)), name))
        lines.append(table_line([f"`{arm}`", f"{len(grouped(own, 'subject'))}", *cells]))
    for other in against:
        lines += ["", f"Differences from `{other}`:", "", *table_head(["arm", *columns])]
        plain = {kind: {summary.place(one): one for one in whole.get((other, kind), [])} for kind in (PERSON, CLASS)}
        for arm in found:
            if arm not in (other, BASE):
                differences = [
                    summary.over_subjects(read(arm, column), summary.difference(column.value, plain[column.kind]))
                    for column in columns.values()
                ]
                cells = [summary.cell(interval, name, signed=True) for name, interval in zip(columns, differences, strict=True)]
                lines.append(table_line([f"`{arm}`", *cells]))
    lines += [
        "",
        "Right by expression, the person and the class; neutral: on the person:",
        "",
        *table_head(["arm", "asked for", NEUTRAL, *CLASSES]),
    ]
    shown = [arm for arm in found if arm != BASE]
    for arm, kind in [*((arm, PERSON) for arm in shown), *((arm, CLASS) for arm in found)]:
        by_name = grouped(expressive[arm, kind], "expression")
        shares = (summary.over_subjects(by_name.get(name, []), _right) for name in CLASSES)
        at_rest = summary.over_subjects((one for one in whole[arm, kind] if one["expression"] == NEUTRAL), _on_person)
        lines.append(table_line([f"`{arm}`", kind, _mean(at_rest), *map(_mean, shares)]))
    lines += ["", f"Each person, {' / '.join(f'`{arm}`' for arm in shown)}:", "", *table_head(["person", *EACH_PERSON])]
    by_person = {(arm, name): grouped(read(arm, columns[name]), "subject") for arm in shown for name in EACH_PERSON}
    for subject in sorted({one["subject"] for arm in shown for one in found[arm]}):
        means = [
            [summary.over_subjects(by_person[arm, name].get(subject, []), columns[name].value) for arm in shown] for name in EACH_PERSON
        ]
        lines.append(table_line([f"{subject}", *(" / ".join(map(_mean, cells)) for cells in means)]))
    return "\n".join(lines) + "\n"


def _mean(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.mean:.2f}"


def _columns(found: Mapping[str, Sequence[Record]]) -> dict[str, Column]:
    resting = {(one["arm"], *summary.place(one)[:2]): one for own in found.values() for one in own if _is(one, PERSON, NEUTRAL)}
    kept = {summary.place(one): one for one in found.get(BASE, []) if one["kind"] == CLASS}

    def drop(record: Record) -> float | None:
        neutral = resting.get((record["arm"], *summary.place(record)[:2]))
        return None if neutral is None else identity_drop(neutral["similarity"], record["similarity"])

    def drift(record: Record) -> float | None:
        base = kept.get(summary.place(record))
        if base is None or base["similarity"] is None or record["similarity"] is None:
            return None
        return float(record["similarity"] - base["similarity"])

    return {
        "right": Column(PERSON, _right),
        "on the person": Column(PERSON, _on_person, neutral=True),
        "cos": Column(PERSON, lambda record: record["cosine"]),
        "intensity": Column(PERSON, lambda record: record["intensity"]),
        "likeness": Column(PERSON, likeness),
        "SFace": Column(PERSON, lambda record: record["similarity"]),
        "drop": Column(PERSON, drop),
        "face": Column(PERSON, lambda record: float(record["face"])),
        "class right": Column(CLASS, _right),
        "drift": Column(CLASS, drift),
    }


def _right(record: Record) -> float:
    return float(record["right"])


def _on_person(record: Record) -> float | None:
    return float(record["on_person"]) if "on_person" in record else None


def _is(record: Record, kind: str, expression: str) -> bool:
    return bool(record["kind"] == kind and record["expression"] == expression)


def sheet(output: Path, people: Path, arms: Sequence[str], kind: str, wanted: Wanted = every, shown_people: int = 2) -> Image.Image:
    """Photos of the first subjects, whose folders lie in `people`, then a row an arm: neutral and every expression from the first noise."""
    found = {arm: [one for one in records_of(output, arm, wanted) if one["kind"] == kind] for arm in (BASE, *arms)}
    subjects = sorted({one["subject"] for own in found.values() for one in own})[:shown_people]
    rows: list[tuple[str, Sequence[Picture]]] = []
    for subject in subjects:
        photos = [_small(people / str(subject) / f"photo_{number}.png") for number in range(PHOTOS)]
        rows.append((f"{subject}: photos", photos))
        for arm, own in found.items():
            its = [one for one in own if one["subject"] == subject]
            shown = {one["expression"]: one for one in its if one["noise"] == its[0]["noise"]}
            if shown:
                order = [name for name in (NEUTRAL, *CLASSES) if name in shown]
                rows.append((f"{subject}, {kind}: {arm}", [read_picture(picture_path(output, shown[name])) for name in order]))
    return summary.page_of(rows)


def _small(path: Path) -> Picture:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB").resize((mini.RESOLUTION, mini.RESOLUTION), Image.Resampling.LANCZOS))
