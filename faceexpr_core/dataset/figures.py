"""The card's figures, each computed from the rows of the data set (`layout.light_rows`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..evaluation.markdown import table_head, table_line
from ..measure.reader import READER_CLASSES
from ..measure.reading import READ_CLASSES
from .plan import REJECTED, SPLITS

Row = Mapping[str, Any]
Table = list[list[str]]
"""The first line is the head."""


def splits(rows: Sequence[Row]) -> Table:
    """People and pictures of each split."""
    lines = [["split", "people", "of these learned", "pictures"]]
    for split in SPLITS:
        mine = [row for row in rows if row["split"] == split]
        people = {row["person"]: row["kind"] for row in mine}
        lines.append([split, f"{len(people)}", f"{sum(kind == 'learned' for kind in people.values())}", f"{len(mine)}"])
    return lines


def expressions(rows: Sequence[Row]) -> Table:
    """Pictures of each expression in each split, those rejected, and the share kept."""
    return _counted(rows, "expression", list(dict.fromkeys(row["expression"] for row in rows)))


def intensities(rows: Sequence[Row]) -> Table:
    """The same of each intensity asked, with the strength that the blendshapes read in those kept."""
    values = sorted({row["intensity"] for row in rows})
    lines = _counted(rows, "intensity", values)
    lines[0].append("strength read")
    for line, value in zip(lines[1:], values, strict=True):
        read = [row["strength"] for row in kept(rows) if row["intensity"] == value and row["strength"] is not None]
        line.append(_mean(read))
    return lines


def reasons(rows: Sequence[Row]) -> Table:
    """Why pictures were rejected; one may have several reasons."""
    counts = Counter(reason.split(",")[0] for row in rows for reason in row["reasons"])
    return [["reason", "pictures"], *[[reason, f"{count}"] for reason, count in counts.most_common()]]


def looks(rows: Sequence[Row]) -> Table:
    """Described people by the words that were asked for, in each split."""
    people = {row["person"]: row for row in kept(rows) if row["kind"] == "described"}
    lines = [["asked", *SPLITS]]
    for key in ("gender", "age", "skin"):
        for value in sorted({row[key] for row in people.values()}):
            mine = Counter(row["split"] for row in people.values() if row[key] == value)
            lines.append([value, *[f"{mine[split]}" for split in SPLITS]])
    return lines


def agreement(rows: Sequence[Row]) -> Table:
    """What was read in the expressive pictures that were kept."""
    mine = [row for row in kept(rows) if row["intensity"] > 0]
    classified = [row["classified"] == row["expression"] for row in mine if row["expression"] in READER_CLASSES]
    read = [row["read"] == row["expression"] for row in mine if row["expression"] in READ_CLASSES]
    likeness = [row["likeness"] for row in mine if row["likeness"] is not None]
    return [
        ["measure", "value"],
        ["expression asked is the likeliest by both judges", _share(read)],
        ["expression asked is the classifier's favourite", _share(classified)],
        ["likeness to the person's portrait, mean (SFace)", _mean(likeness)],
        ["likeness, lowest", f"{min(likeness):.2f}" if likeness else "-"],
        ["head turned against the neutral picture, mean degrees", _mean([row["pose"] for row in mine if row["pose"] is not None])],
        ["change outside the face, mean (0 to 1)", _mean([row["background"] for row in mine if row["background"] is not None], 3)],
    ]


def kept(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["split"] != REJECTED]


def markdown(table: Table) -> str:
    head, *lines = table
    return "\n".join([*table_head(head), *map(table_line, lines)])


def size_category(pictures: int) -> str:
    """Hugging Face's word for how many pictures there are."""
    for limit, word in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if pictures < limit:
            return word
    return "1M<n<10M"


def _counted(rows: Sequence[Row], key: str, values: Sequence[Any]) -> Table:
    lines = [[key, *SPLITS, REJECTED, "kept"]]
    for value in values:
        counts = Counter(row["split"] for row in rows if row[key] == value)
        share = 1 - counts[REJECTED] / sum(counts.values())
        said = value if isinstance(value, str) else f"{value:g}"
        lines.append([said, *[f"{counts[split]}" for split in (*SPLITS, REJECTED)], f"{share:.0%}"])
    return lines


def _share(right: Sequence[bool]) -> str:
    return f"{np.mean(right):.0%}" if right else "-"


def _mean(values: Sequence[float], digits: int = 2) -> str:
    return f"{np.mean(values):.{digits}f}" if values else "-"
