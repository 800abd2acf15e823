"""What was measured of each person of an ablation, in a folder of small files that can be kept with the code.

LoRAs and pictures of a person take some forty minutes on two cores and sixty megabytes; what the tables need of them are eight kilobytes.
People measured before, on another machine, count with those of today.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from faceexpr_core.evaluation.records import keep_meaning
from faceexpr_core.evaluation.summary import Measure, Row, row_of

from .store import commit, write_json

MEANING = "meaning.json"
PICTURES = "pictures"
ARMS, COMMITS = "arms", "commits"

Values = Mapping[str, float | None]
Figures = Mapping[str, Mapping[str, Values]]
"""Person -> arm -> measure, and how many `PICTURES` it is of."""


def read_figures(folder: Path, meaning: Mapping[str, Any], arms: Collection[str]) -> Figures:
    """Those of the people that have all of the `arms`; none where there is no such folder. Raises FaceExprError for a folder whose
    figures were measured in another way than `meaning` says."""
    if not folder.is_dir():
        return {}
    _keep(folder, meaning)
    kept = {path.stem: json.loads(path.read_text(encoding="utf-8"))[ARMS] for path in sorted(folder.glob("*.json")) if path.name != MEANING}
    return {name: own for name, own in kept.items() if own.keys() >= {*arms}}


def write_figures(folder: Path, meaning: Mapping[str, Any], rows: Sequence[Row], people: Collection[str]) -> None:
    """Keep what the rows say of these people, a file a person, with the commit of the code by arm; what it says of other arms stays."""
    folder.mkdir(parents=True, exist_ok=True)
    _keep(folder, meaning)
    for name in people:
        path = folder / f"{name}.json"
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {ARMS: {}, COMMITS: {}}
        # every person of a row has as many pictures as any other
        own = {row.arm: {PICTURES: row.pictures // len(row.people), **row.people[name]} for row in rows if name in row.people}
        write_json(path, {COMMITS: {**before[COMMITS], **dict.fromkeys(own, commit())}, ARMS: {**before[ARMS], **own}})


def with_figures(rows: Sequence[Row], kept: Figures, arms: Sequence[str], chosen: Sequence[Measure]) -> list[Row]:
    """Rows of these arms with the kept people beside those that they have, in the order of names."""
    here, joined = {row.arm: row for row in rows}, []
    for arm in arms:
        measured = here[arm].people if arm in here else {}
        others = {name: own[arm] for name, own in kept.items() if name not in measured}
        people = dict(sorted({**measured, **others}.items()))
        if people:
            pictures = (here[arm].pictures if arm in here else 0) + sum(int(one[PICTURES] or 0) for one in others.values())
            joined.append(
                row_of(arm, pictures, {name: {one.name: own[one.name] for one in chosen} for name, own in people.items()}, chosen)
            )
    return joined


def _keep(folder: Path, meaning: Mapping[str, Any]) -> None:
    keep_meaning(folder / MEANING, meaning, holds="figures", instead="give another --figures_dir")
