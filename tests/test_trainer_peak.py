"""`python -m lab.benchmarks.trainer_peak` measures every preset; with Mini in SDXL's place, for time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from comfy_process import REPOSITORY

MEASURE = """
import sys
import lab.benchmarks.trainer_peak as peak
from lab.card.sets import mini_models

unet, encoders = mini_models()
peak.sdxl_unet = lambda dtype, device: unet.to(device, dtype)
peak.sdxl_encoders = lambda dtype, device: encoders
peak.main()
"""


@pytest.mark.parametrize("preset", ["default", "paper", "low-vram"])
def test_the_peak_of_every_preset_can_be_measured(preset: str) -> None:
    words = [sys.executable, "-c", MEASURE, f"--preset={preset}", "--side=64", "--set=accumulation=1"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].strip("|").split("|")]
    assert cells[:3] == [f"`{preset}` accumulation=1", "64", "bf16"]
    weights, peak, steps = (float(cell) for cell in cells[3:6])
    assert 0 < weights < peak and steps < peak < 4 and float(cells[7]) > 0
