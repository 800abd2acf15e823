"""Expressions and FACS action units as weights of the 52 ARKit facial units."""

from __future__ import annotations

from collections.abc import Mapping


def _both(name: str, weight: float) -> dict[str, float]:
    return {f"{name}Left": weight, f"{name}Right": weight}


# The unit shapes of the mesh are mild, so some weights exceed ARKit's 1.
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {**_both("mouthSmile", 1.15), **_both("cheekSquint", 0.9), **_both("mouthUpperUp", 0.6), "jawOpen": 0.22},
    "sad": {"browInnerUp": 1.8, **_both("mouthFrown", 1.5), **_both("eyeSquint", 0.3), "mouthShrugLower": 0.8},
    "angry": {
        **_both("browDown", 2.0),
        **_both("noseSneer", 0.3),
        **_both("mouthPress", 0.3),
        "mouthRollUpper": 0.9,
        "mouthRollLower": 0.9,
        **_both("eyeSquint", 0.3),
        **_both("eyeWide", 0.4),
        **_both("mouthFrown", 0.4),
    },
    "surprised": {"jawOpen": 0.5, "browInnerUp": 1.6, **_both("browOuterUp", 1.8), **_both("eyeWide", 1.2)},
    "fearful": {
        "browInnerUp": 1.9,
        **_both("browDown", 0.3),
        **_both("eyeWide", 1.3),
        **_both("mouthStretch", 1.8),
        **_both("mouthLowerDown", 0.9),
        **_both("mouthFrown", 0.3),
        "jawOpen": 0.12,
    },
    "disgusted": {
        **_both("noseSneer", 1.6),
        **_both("mouthUpperUp", 1.7),
        **_both("browDown", 0.3),
        **_both("eyeSquint", 0.8),
        **_both("mouthFrown", 0.5),
        "jawOpen": 0.08,
    },
    "contemptuous": {"mouthSmileLeft": 1.0, "mouthDimpleLeft": 1.2, "mouthLeft": 0.8, "cheekSquintLeft": 0.5, **_both("mouthPress", 0.4)},
    "shocked": {"jawOpen": 1.25, "browInnerUp": 1.6, **_both("browOuterUp", 1.6), **_both("eyeWide", 1.3)},
}

# FACS number -> ARKit units; the phrases stand in faceexpr_core/expressions.py
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
