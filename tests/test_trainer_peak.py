"""`python -m lab.benchmarks.trainer_peak` measures every preset."""

from __future__ import annotations

from pathlib import Path

import mini_peak
import pytest
from forks import fork


@pytest.mark.parametrize("preset", ["default", "paper", "low-vram"])
@pytest.mark.long
def test_the_peak_of_every_preset_can_be_measured(tmp_path: Path, preset: str) -> None:
    told = fork(tmp_path, mini_peak.main, [f"--preset={preset}", "--side=64", "--set=accumulation=1"]).printed(timeout=300)
    cells = [cell.strip() for cell in told.splitlines()[-1].strip("|").split("|")]
    assert cells[:3] == [f"`{preset}` accumulation=1", "64", "bf16"]
    weights, peak, steps = (float(cell) for cell in cells[3:6])
    assert 0 < weights < peak and steps < peak < 4 and float(cells[7]) > 0
