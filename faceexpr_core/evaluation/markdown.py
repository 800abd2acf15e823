"""Lines of Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table_head(columns: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    return [table_line(columns), table_line(["---"] * len(columns))]


def table_line(cells: Iterable[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"
