"""The data set as `datasets` loads it: a folder for each split with its pictures and metadata.jsonl; what was rejected lies apart."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..evaluation.plan import PERSON
from ..files import replace_file, replace_streamed
from ..measure.picture_score import NEUTRAL
from ..text import without_slot
from .cast import Cast, portrait_file
from .people import Candidate
from .plan import REJECTED, SPLITS
from .reading import SHOWN
from .run import Dataset

METADATA = "metadata.jsonl"
PORTRAIT = "portrait.png"


HEAVY = ("blendshapes", "landmarks", "action_units")
"""Columns that are never held for all pictures at once."""


def rows(run: Dataset, cast: Cast) -> Iterator[dict[str, Any]]:
    """A row for each picture of the data set and each that was rejected, in order: `split` (or `rejected`), `file_name` in that folder,
    who and what was asked, what was measured (`reading.measure`), and `reasons`."""
    people = {one.name: one for one in cast.people}
    for record in run.recorded(cast.people):
        split, _, name = record["file"].partition("/")
        one = people[record["person"]]
        neutral = record["expression"] == NEUTRAL
        asked = {"expression": record["expression"], "intensity": 0.0 if neutral else record["asked"]}
        yield {"split": split, "file_name": name, **_who(one), **asked, **_where(record, one), **_measured(record)}
    for one, kept in cast.refused:
        place = run.plan.portrait(one)
        record = {**kept, "scene": place.scene, "seed": place.seed}
        asked = {"expression": NEUTRAL, "intensity": 0.0}
        name = f"{one.name}/{PORTRAIT}"
        yield {"split": REJECTED, "file_name": name, **_who(one), **asked, **_where(record, one), **_measured(record)}


def light_rows(run: Dataset, cast: Cast) -> list[dict[str, Any]]:
    """The rows without the columns HEAVY: what the card is computed from."""
    return [{key: value for key, value in row.items() if key not in HEAVY} for row in rows(run, cast)]


def write_layout(run: Dataset, cast: Cast, there: Collection[str], since: float) -> None:
    """Write metadata.jsonl of each split, and of `rejected`, that has pictures (`there`); refused people's portraits are put into the
    latter too. `since` is when this run began, in seconds of the epoch: what is younger another process may be writing."""
    for one, _ in cast.refused:
        replace_file(run.output / REJECTED / one.name / PORTRAIT, portrait_file(run.output, one).read_bytes())
    for split in (*SPLITS, REJECTED):
        file = run.output / split / METADATA
        if split in there:
            replace_streamed(file, (_line(row) for row in rows(run, cast) if row["split"] == split))
        else:
            file.unlink(missing_ok=True)
        for part in (run.output / split).glob("*/.*.part"):  # what a killed run was writing; every picture is there by now
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < since:
                    part.unlink()


def _line(row: Mapping[str, Any]) -> bytes:
    """Splits hold nothing that was rejected, so that no reason is told there."""
    told = {key: value for key, value in row.items() if key != "split" and (row["split"] == REJECTED or key != "reasons")}
    return (json.dumps(told, ensure_ascii=False) + "\n").encode()


def _who(one: Candidate) -> dict[str, Any]:
    traits = one.traits
    looks = {key: "" if traits is None else getattr(traits, key) for key in ("gender", "age", "skin")}
    return {"person": one.name, "kind": one.kind, **looks}


def _where(record: Mapping[str, Any], one: Candidate) -> dict[str, Any]:
    return {"scene": record["scene"], "prompt": without_slot(record["scene"].replace(PERSON, one.words)), "seed": record["seed"]}


def _measured(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in (*SHOWN, "reasons")}


def picture_path(output: Path, row: Mapping[str, Any]) -> Path:
    path: Path = output / row["split"] / row["file_name"]
    return path
