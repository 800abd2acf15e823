"""Expressions, blends and FACS action units as weights of the 52 ARKit facial units of the mesh.

The unit shapes of the mesh are mild, so some weights exceed ARKit's 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from faceexpr_core.expressions import COMPOUNDS, action_unit
from faceexpr_core.expressions import EXPRESSIONS as VOCABULARY


def _both(name: str, weight: float) -> dict[str, float]:
    return {f"{name}Left": weight, f"{name}Right": weight}


EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {**_both("mouthSmile", 1.15), **_both("cheekSquint", 0.9), **_both("mouthUpperUp", 0.6), "jawOpen": 0.22},
    "sad": {"browInnerUp": 2.2, **_both("browDown", 0.5), **_both("mouthFrown", 2.0), "mouthShrugLower": 1.05, **_both("eyeLookDown", 0.4),
            **_both("eyeBlink", 0.1), **_both("mouthStretch", 0.4), "jawOpen": 0.05},
    "angry": {**_both("browDown", 1.5), **_both("noseSneer", 0.3), **_both("eyeSquint", 0.2), **_both("mouthFrown", 1.1),
              "mouthFunnel": 0.2, "jawForward": 0.55, "mouthShrugUpper": 0.2, **_both("mouthUpperUp", 0.65), **_both("mouthLowerDown", 0.2),
              "jawOpen": 0.5, **_both("mouthStretch", 0.5), **_both("cheekSquint", 0.35)},
    "surprised": {"jawOpen": 0.66, "browInnerUp": 1.7, **_both("browOuterUp", 1.9), **_both("eyeWide", 1.35)},
    "fearful": {"browInnerUp": 2.6, **_both("browDown", 0.6), **_both("eyeWide", 2.4), **_both("mouthStretch", 2.25),
                **_both("mouthLowerDown", 1.4), **_both("mouthFrown", 1.3), "jawOpen": 0.72},
    "disgusted": {**_both("noseSneer", 1.4), **_both("mouthUpperUp", 2.2), **_both("eyeSquint", 1.2), **_both("eyeBlink", 0.35),
                  "mouthShrugLower": 1.1, "mouthRollLower": 0.3, **_both("mouthLowerDown", 0.3), **_both("browOuterUp", 0.6)},
    "contemptuous": {"mouthSmileRight": 1.1, "mouthDimpleRight": 0.6, "mouthRight": 0.25, "cheekSquintRight": 0.6,
                     **_both("mouthPress", 0.4), "eyeSquintRight": 0.3},
    "shocked": {"jawOpen": 1.05, "browInnerUp": 1.6, **_both("browOuterUp", 1.6), **_both("eyeWide", 1.3)},
}
"""By the word of a caption; full intensity."""

ACTION_UNITS: dict[int, dict[str, float]] = {
    1: {"browInnerUp": 1.8},
    2: _both("browOuterUp", 1.7),
    4: _both("browDown", 1.7),
    5: _both("eyeWide", 1.4),
    6: _both("cheekSquint", 1.0),
    7: _both("eyeSquint", 1.2),
    9: _both("noseSneer", 1.6),
    10: _both("mouthUpperUp", 1.5),
    12: _both("mouthSmile", 1.0),
    14: _both("mouthDimple", 1.3),
    15: _both("mouthFrown", 1.5),
    17: {"mouthShrugLower": 1.0, "mouthShrugUpper": 0.4},
    20: _both("mouthStretch", 1.5),
    23: {"mouthRollLower": 0.7, "mouthRollUpper": 0.7},
    24: _both("mouthPress", 1.5),
    25: {**_both("mouthLowerDown", 0.6), **_both("mouthUpperUp", 0.25), "jawOpen": 0.08},
    26: {"jawOpen": 0.45},
    27: {"jawOpen": 1.0},
    43: _both("eyeBlink", 1.0),
    46: {"eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.3},
}
"""FACS number -> full strength. Their phrases stand in faceexpr_core/expressions.py."""

ONE_SIDED = (2, 4, 6, 7, 10, 12, 14, 15, 46)
"""Action units that a training picture may show on one side."""


@dataclass(frozen=True)
class Shown:
    """What a face does: an expression's word, a compound's name or action units (codes such as `12`, `R12`), at an intensity 0..1."""

    expression: str | None = "neutral"
    intensity: float = 1.0
    action_units: tuple[str, ...] = ()


def weights_of(shown: Shown) -> dict[str, float]:
    """The facial units of what is shown, times its intensity. Raises FaceExprError for a code and KeyError for a word that is unknown."""
    if shown.expression is None:
        full = combined(*(unit_weights(code) for code in shown.action_units))
    elif shown.expression in COMPOUNDS:
        full = combined(*(scaled(EXPRESSIONS[VOCABULARY[part].word], weight) for part, weight in COMPOUNDS[shown.expression]))
    else:
        full = EXPRESSIONS[shown.expression]
    return scaled(full, shown.intensity)


def unit_weights(code: str) -> dict[str, float]:
    """The weights of an action unit's code; of `L12` and `R12` only that side of the person's own face."""
    unit = action_unit(code)
    weights = ACTION_UNITS[unit.number]
    if not unit.side:
        return dict(weights)
    if unit.number == 46:
        return {name.replace("Left", "Right" if unit.side == "R" else "Left"): weight for name, weight in weights.items()}
    other = "Right" if unit.side == "L" else "Left"
    return {name: weight for name, weight in weights.items() if not name.endswith(other)}


def scaled(weights: Mapping[str, float], intensity: float) -> dict[str, float]:
    """The same expression at another intensity (1 = full)."""
    return {unit: weight * intensity for unit, weight in weights.items()}


def combined(*parts: Mapping[str, float]) -> dict[str, float]:
    """The strongest weight of each unit."""
    units: dict[str, float] = {}
    for part in parts:
        for unit, weight in part.items():
            units[unit] = max(weight, units.get(unit, 0.0))
    return units
