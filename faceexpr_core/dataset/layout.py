"""The data set as `datasets` loads it: a folder for each split with its pictures and metadata.jsonl; what was rejected lies apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.plan import PERSON
from ..files import replace_file
from ..measure.picture_score import NEUTRAL
from .cast import Cast, portrait_file
from .people import Candidate
from .plan import REJECTED, SPLITS
from .reading import SHOWN
from .run import Dataset

METADATA = "metadata.jsonl"
PORTRAIT = "portrait.png"


def rows(run: Dataset, cast: Cast) -> list[dict[str, Any]]:
    """A row for each picture of the data set and each that was rejected, in order: `split` (or `rejected`), `file_name` in that folder,
    who and what was asked, what was measured (`reading.measure`), and `reasons`."""
    people = {one.name: one for one in cast.people}
    found = []
    for record in run.recorded(cast.people):
        split, _, name = record["file"].partition("/")
        one = people[record["person"]]
        neutral = record["expression"] == NEUTRAL
        asked = {"expression": record["expression"], "intensity": 0.0 if neutral else record["asked"]}
        found.append({"split": split, "file_name": name, **_who(one), **asked, **_where(record, one), **_measured(record)})
    for one, kept in cast.refused:
        place = run.plan.portrait(one)
        record = {**kept, "scene": place.scene, "seed": place.seed}
        asked = {"expression": NEUTRAL, "intensity": 0.0}
        row = {"split": REJECTED, "file_name": f"{one.name}/{PORTRAIT}", **_who(one), **asked, **_where(record, one), **_measured(record)}
        found.append(row)
    return found


def write_layout(run: Dataset, cast: Cast, found: Sequence[Mapping[str, Any]]) -> None:
    """Write metadata.jsonl of each split, and of `rejected`, where the portraits of refused people are put too."""
    for one, _ in cast.refused:
        replace_file(run.output / REJECTED / one.name / PORTRAIT, portrait_file(run.output, one).read_bytes())
    for split in (*SPLITS, REJECTED):
        mine = [row for row in found if row["split"] == split]
        file = run.output / split / METADATA
        if mine:
            replace_file(file, "".join(json.dumps(_without(row, split), ensure_ascii=False) + "\n" for row in mine).encode())
        else:
            file.unlink(missing_ok=True)
        for part in (run.output / split).glob("*/.*.part"):  # what a killed run was writing; every picture is there by now
            part.unlink(missing_ok=True)


def _without(row: Mapping[str, Any], split: str) -> dict[str, Any]:
    """Splits hold nothing that was rejected, so that no reason is told there."""
    return {key: value for key, value in row.items() if key != "split" and (split == REJECTED or key != "reasons")}


def _who(one: Candidate) -> dict[str, Any]:
    traits = one.traits
    looks = {key: "" if traits is None else getattr(traits, key) for key in ("gender", "age", "skin")}
    return {"person": one.name, "kind": one.kind, **looks}


def _where(record: Mapping[str, Any], one: Candidate) -> dict[str, Any]:
    return {"scene": record["scene"], "prompt": record["scene"].replace(PERSON, one.words), "seed": record["seed"]}


def _measured(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in (*SHOWN, "reasons")}


def picture_path(output: Path, row: Mapping[str, Any]) -> Path:
    path: Path = output / row["split"] / row["file_name"]
    return path
