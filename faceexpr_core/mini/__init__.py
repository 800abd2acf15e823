"""FaceExpr Mini: a tiny checkpoint with SDXL's architecture, trained on rendered faces."""

from __future__ import annotations

from pathlib import Path

RESOLUTION = 192
"""Side in pixels of the square pictures Mini was trained on."""

FULL_WIDTH = 320
"""Channels of the first blocks of SDXL's U-Net; Mini's has fewer."""

_HERE = Path(__file__).parent


def path() -> Path:
    """The diffusers pipeline directory (StableDiffusionXLPipeline) of the shipped checkpoint."""
    return _HERE / "checkpoint"


def subject_path() -> Path:
    """A folder with six photos of one rendered person whom Mini never saw."""
    return _HERE / "subject"


def donor_path() -> Path:
    """A folder with two photos of another person, happy and neutral, to take an expression from."""
    return _HERE / "donor"
