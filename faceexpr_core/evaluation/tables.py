"""The records as tables for other programs: CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import replace_file
from ..measure.statistics import Interval
from ..typed import installing
from .records import Record
from .summary import Difference, Measure, Row

PICTURES, SUMMARY, DIFFERENCES, PEOPLE = "pictures", "summary", "differences", "people"


def picture_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row a picture, all with the same columns."""
    return [dict(one) for one in records]


def summary_rows(rows: Sequence[Row], measures: Sequence[Measure]) -> list[dict[str, Any]]:
    """A row for each arm and measure: the mean over the people who have it, and the ends of its interval, empty where they are too few."""
    return [
        {"arm": row.arm, "measure": one.name, **_counted(row.values[one.name]), "pictures": row.pictures, **_ends(row.values[one.name])}
        for row in rows
        for one in measures
    ]


def difference_rows(found: Sequence[Difference], measures: Sequence[Measure]) -> list[dict[str, Any]]:
    """A row for each two arms and measure: `arm` less `against`."""
    return [
        {
            "arm": both.arm,
            "against": both.against,
            "measure": one.name,
            **_counted(both.values[one.name]),
            **_ends(both.values[one.name]),
        }
        for both in found
        for one in measures
    ]


def people_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row for each arm and person, a column a measure."""
    return [{"arm": row.arm, "person": name, **values} for row in rows for name, values in row.people.items()]


def write_tables(folder: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Write each table as <name>.csv and, where pyarrow is installed, <name>.parquet; without it a <name>.parquet of an earlier run, whose
    numbers are no longer those of the CSV, is deleted. Returns what to tell the user, "" for nothing. Raises OSError."""
    for name, rows in tables.items():
        replace_file(folder / f"{name}.csv", _csv(rows).encode())
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        for name in tables:
            (folder / f"{name}.parquet").unlink(missing_ok=True)
        return f"the tables were written as CSV alone. For Parquet too, type: {installing('pyarrow')}"
    for name, rows in tables.items():
        stream = io.BytesIO()
        columns = {
            column: pyarrow.array([row.get(column) for row in rows], pyarrow.uint64() if column == "seed" else None)  # up to 2^64 - 1
            for column in (rows[0] if rows else ())
        }
        pyarrow.parquet.write_table(pyarrow.table(columns), stream)
        replace_file(folder / f"{name}.parquet", stream.getvalue())
    return ""


def _counted(interval: Interval | None) -> dict[str, int]:
    return {"people": 0 if interval is None else interval.groups}


def _ends(interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return dict.fromkeys(("mean", "low", "high"))
    low, high = (interval.low, interval.high) if interval.is_known else (None, None)
    return {"mean": interval.mean, "low": low, "high": high}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def _plain(value: Any) -> Any:
    """Words that a spreadsheet would take for a formula, as words."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
