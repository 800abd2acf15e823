"""`python -m lab.benchmarks.trainer_peak` with Mini in SDXL's place, for time; run in a fork of its own."""

from __future__ import annotations

import sys

import pytest

from lab.benchmarks import trainer_peak
from lab.card.sets import mini_models


def main(words: list[str]) -> None:
    unet, encoders = mini_models()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainer_peak, "sdxl_unet", lambda dtype, device: unet.to(device, dtype))
        patched.setattr(trainer_peak, "sdxl_encoders", lambda dtype, device: encoders)
        patched.setattr(sys, "argv", ["trainer_peak", *words])
        trainer_peak.main()
