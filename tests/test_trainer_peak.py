"""`python -m lab.benchmarks.trainer_peak` measures every preset; with Mini in SDXL's place, for time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from forks import fork

from lab.benchmarks import trainer_peak
from lab.card.sets import mini_models


def measure(words: list[str]) -> None:
    unet, encoders = mini_models()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainer_peak, "sdxl_unet", lambda dtype, device: unet.to(device, dtype))
        patched.setattr(trainer_peak, "sdxl_encoders", lambda dtype, device: encoders)
        patched.setattr(sys, "argv", ["trainer_peak", *words])
        trainer_peak.main()


@pytest.mark.parametrize("preset", ["default", "paper", "low-vram"])
def test_the_peak_of_every_preset_can_be_measured(tmp_path: Path, preset: str) -> None:
    told = fork(tmp_path, measure, [f"--preset={preset}", "--side=64", "--set=accumulation=1"]).printed(timeout=300)
    cells = [cell.strip() for cell in told.splitlines()[-1].strip("|").split("|")]
    assert cells[:3] == [f"`{preset}` accumulation=1", "64", "bf16"]
    weights, peak, steps = (float(cell) for cell in cells[3:6])
    assert 0 < weights < peak and steps < peak < 4 and float(cells[7]) > 0
