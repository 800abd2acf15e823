"""The table of the places to fuse: what of a leak is the donor's, and what any expression has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.benchmarks import summary

FUSED = "cross_attention_difference:target=neutral"


def _lines(path: Path, values: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{json.dumps(one)}\n" for one in values))


def test_a_leak_is_told_over_that_of_words_which_have_no_donor(tmp_path: Path) -> None:
    seen = {"right": True, "cosine": 0.9, "intensity": 1.0, "face": True, "seconds": 1.0, "similarity": 0.7}
    where = {"subject": 1, "noise": 0, "expression": "happy"}
    drawn = [{**where, "arm": "text", **seen}, {**where, "arm": FUSED, **seen, "leak": 0.04}]
    rest = {**where, "arm": "neutral", "expression": "neutral", "similarity": 0.8}
    _lines(tmp_path / "records" / "1.jsonl", [rest, *drawn])
    _lines(summary.over_words(tmp_path) / "1.jsonl", [{**where, "arm": FUSED, "over_words": 0.005}])
    told = summary.table(tmp_path, ["text", FUSED], "the command")
    first, second = (line for line in told.splitlines() if line.startswith(f"| `{FUSED}`"))
    assert "| 0.040 |" in first
    assert second.endswith("| +0.005 |")


@pytest.mark.parametrize("kept", [True, False])
def test_runs_of_before_have_no_leak_over_words(tmp_path: Path, kept: bool) -> None:
    seen = {"right": True, "cosine": 0.9, "intensity": 1.0, "face": True, "seconds": 1.0, "similarity": 0.7}
    where = {"subject": 1, "noise": 0, "expression": "happy", "arm": "text"}
    _lines(tmp_path / "records" / "1.jsonl", [{**where, **seen}, {**where, **seen, "arm": FUSED}])
    if kept:
        _lines(summary.over_words(tmp_path) / "1.jsonl", [{**where, "arm": FUSED, "over_words": None}])
    told = summary.table(tmp_path, ["text", FUSED], "the command")
    assert told.splitlines()[-1].endswith("| - |")


def test_a_table_holds_the_people_and_noises_that_its_command_asks_for(tmp_path: Path) -> None:
    seen = {"cosine": 0.9, "intensity": 1.0, "face": True, "seconds": 1.0, "similarity": 0.7, "arm": "text", "expression": "happy"}
    kept = [
        {**seen, "subject": subject, "noise": noise, "right": right}
        for subject, noise, right in ((1, 0, True), (2, 0, False), (3, 3, False))
    ]
    _lines(tmp_path / "records" / "all.jsonl", kept)
    told = [summary.table(tmp_path, ["text"], "", of).splitlines() for of in (summary.every, summary.of_people([1, 3], [0, 1]))]
    whole, chosen = (next(line for line in lines if line.startswith("| `text`")) for lines in told)
    assert whole.startswith("| `text` | 3 | 0.33 ") and chosen.startswith("| `text` | 1 | 1.00 ")
