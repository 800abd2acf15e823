"""Inputs that several nodes of fusion have alike."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..faceexpr_core.fusion.bank import FeatureBank
from ..faceexpr_core.fusion.donor_faces import moved_in
from ..faceexpr_core.fusion.settings import MAX_STRENGTH, FusionSettings

FEATURES = io.Custom("FACEEXPR_FEATURES")


def strength_input(name: str, tooltip: str, *, optional: bool = False, default: float = FusionSettings.strength) -> Any:
    """How strong the fusion is."""
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=MAX_STRENGTH,
        step=0.05,
        round=0.001,
        optional=optional,
        display_mode=io.NumberDisplay.slider,
        tooltip=tooltip,
    )


def window_inputs(low: str, high: str) -> tuple[Any, ...]:
    """`window_low` and `window_high` with their tooltips."""
    return tuple(
        io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip)
        for name, default, tooltip in zip(("window_low", "window_high"), FusionSettings.window, (low, high), strict=True)
    )


SAYS_NOTHING = (
    "the features change nothing: the text with the expression says the same as the neutral one. Extract them of two texts that differ"
)
"""What is told of features with `says_nothing`."""


def moved_by(features: FeatureBank) -> tuple[str, ...]:
    """The regions of the face to which the features are held; () for all of it."""
    return moved_in(features.notes)
