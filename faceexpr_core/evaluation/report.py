"""The end of an evaluation: tables and page from what is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..files import replace_file
from .page import build_page
from .run import Evaluation
from .summary import differences, measures, summarise
from .tables import DIFFERENCES, PEOPLE, PICTURES, SUMMARY, difference_rows, people_rows, picture_rows, summary_rows, write_tables

PAGE = "report.html"
TABLES = tuple(f"{name}.{ending}" for name in (PICTURES, SUMMARY, DIFFERENCES, PEOPLE) for ending in ("csv", "parquet"))


def write_report(run: Evaluation, about: Mapping[str, str]) -> tuple[Path, str]:
    """Write the page and the tables into the output folder, in the place of earlier ones. Returns the page's path, and what to tell the
    user, "" for nothing."""
    records = run.records()
    chosen = measures(run.output)
    rows = summarise(records, [arm.name for arm in run.plan.arms], chosen)
    compared = differences(rows)
    tables = {
        PICTURES: picture_rows(records),
        SUMMARY: summary_rows(rows, chosen),
        DIFFERENCES: difference_rows(compared, chosen),
        PEOPLE: people_rows(rows),
    }
    note = write_tables(run.output, tables)
    replace_file(run.output / PAGE, build_page(run, records, rows, compared, chosen, about).encode("utf-8", "replace"))
    return run.output / PAGE, note
