"""FACS action units read out of blendshapes.

The mapping from units to blendshapes is the vocabulary's (`expressions.ACTION_UNITS`, ours). MediaPipe hardly ever moves `cheekSquint`
and `noseSneer`, so that AU6 and AU9 are not seen on most faces; AU10 and AU25 share `mouthUpperUp`, AU26 and AU27 the jaw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..expressions import ACTION_UNITS, ActionUnit, action_unit

MOVED = 0.25
"""Strength from which a unit counts as moved."""

_JAW_WIDE = 0.6


def unit_strength(unit: ActionUnit, blendshapes: Mapping[str, float], resting: Mapping[str, float]) -> float:
    """How strongly a unit moved from the resting face, 0..1: the least-squares weight w >= 0 of `resting + w unit.blendshapes` over that
    unit's blendshapes; 1 is its full strength. Both faces are MediaPipe's blendshapes, 0..1."""
    change = sum(weight * (blendshapes[name] - resting[name]) for name, weight in unit.blendshapes.items())
    return min(1.0, max(0.0, change / sum(weight**2 for weight in unit.blendshapes.values())))


def moved_units(blendshapes: Mapping[str, float], resting: Mapping[str, float]) -> tuple[str, ...]:
    """FACS codes of the units that moved, strongest first: `12`, or `L12` / `R12` (the person's own side) where one side did alone.

    A wink (AU46) is AU43 on one side; of AU26 and AU27 only the one that fits the jaw is named.
    """
    wide = unit_strength(ACTION_UNITS[27], blendshapes, resting) >= _JAW_WIDE
    strengths: dict[str, float] = {}
    for number in ACTION_UNITS.keys() - {46, 26 if wide else 27}:
        code = _one_side(number, blendshapes, resting) or str(number)
        strengths[code] = unit_strength(action_unit(code), blendshapes, resting)
    return tuple(sorted((code for code, value in strengths.items() if value >= MOVED), key=lambda code: -strengths[code]))


def one_sidedness(number: int, blendshapes: Mapping[str, float], resting: Mapping[str, float]) -> float:
    """By how much further a unit (its FACS number) moved on one side of the face than on the other, 0..1."""
    left, right = _sides(number, blendshapes, resting)
    return abs(left - right)


def unit_errors(
    asked: Iterable[ActionUnit], intensity: float, blendshapes: Mapping[str, float], resting: Mapping[str, float]
) -> dict[str, float]:
    """Absolute error of each unit of the vocabulary by its FACS number, 0..1, 0 best: |asked - read|, where a unit that is not asked
    should not move.

    The mean over pictures is the AU-wise error (mean absolute error of AU intensities, as in the FERA challenges: Valstar et al., FG 2015,
    which also give correlations). Weak where MediaPipe is blind (AU6, AU9), and units that share blendshapes are charged twice.
    """
    return strength_errors({unit.code: intensity for unit in asked}, blendshapes, resting)


def strength_errors(wanted: Mapping[str, float], blendshapes: Mapping[str, float], resting: Mapping[str, float]) -> dict[str, float]:
    """`unit_errors` with a strength (0..1) for each unit asked, by its FACS code.

    Of a unit asked of one side (`R12`) each side is read by its own code, the other asked not to move, and the mean of both errors is
    taken: 0 where that side alone moved as far as asked. A unit asked of the whole face is read as a whole.
    """
    return {str(number): _error(number, wanted, blendshapes, resting) for number in ACTION_UNITS}


def _error(number: int, wanted: Mapping[str, float], blendshapes: Mapping[str, float], resting: Mapping[str, float]) -> float:
    whole = wanted.get(str(number), 0.0)
    left, right = (wanted.get(f"{side}{number}", whole) for side in "LR")
    if action_unit(f"L{number}").blendshapes == action_unit(f"R{number}").blendshapes:  # no sides: the jaw, the inner brows
        left = right = max(left, right)
    if left == right:
        return abs(left - unit_strength(ACTION_UNITS[number], blendshapes, resting))
    read_left, read_right = _sides(number, blendshapes, resting)
    return (abs(left - read_left) + abs(right - read_right)) / 2


def _one_side(number: int, blendshapes: Mapping[str, float], resting: Mapping[str, float]) -> str:
    """`L12` where the left side of AU12 moved at least twice as far as the right and visibly further, `R12` for the right, else ""."""
    left, right = _sides(number, blendshapes, resting)
    if abs(left - right) < max(MOVED, max(left, right) / 2):
        return ""
    return f"{'L' if left > right else 'R'}{number}"


def _sides(number: int, blendshapes: Mapping[str, float], resting: Mapping[str, float]) -> tuple[float, float]:
    left, right = (unit_strength(action_unit(f"{side}{number}"), blendshapes, resting) for side in "LR")
    return left, right
