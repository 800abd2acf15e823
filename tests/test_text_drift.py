"""The table of how far text encoders drift, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lab.benchmarks import text_drift


def test_a_row_for_each_fifty_steps_and_the_end_of_a_run_that_diverged() -> None:
    record = {
        "arm": "default",
        "subject": 7,
        "steps": 70,
        "diverged": "The training diverged: at step 71",
        "identity": [0.1] * 50 + [0.3] * 20,
        "crafting": [math.nan, 0.25] * 25 + [math.nan, 2.0] * 9 + [math.nan, 60.0],
        "lengths": [[1, 1.2, 1.1], [50, 1.3, 1.2], [60, 2.0, 3.0], [70, 2.5, 4.0]],
    }
    _, _, first, second = text_drift.table([record]).splitlines()
    assert first == "| `default` | 7 | 1 to 50 | 0.100 | 0.25 (0.25) | 1.30, 1.20 |  |"
    assert second == "| `default` | 7 | 51 to 70 | 0.300 | 2.00 (60.00) | 2.50, 4.00 | **diverged** |"


def test_text_encoders_that_do_not_learn_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="paper: its text encoders do not learn"):
        text_drift.main(["--work_dir", f"{tmp_path}", "--output_dir", f"{tmp_path}", "--arms", "paper"])
