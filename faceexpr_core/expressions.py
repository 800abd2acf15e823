"""The vocabulary: expressions, their blends, and FACS action units with the phrases that name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from .errors import FaceExprError

NONE = "none"
"""Stands where an expression's name may: nothing is added to the prompt."""
SECOND_WEIGHT = 0.5
"""Of an expression that is blended in, unless told."""


@dataclass(frozen=True)
class ActionUnit:
    """One FACS action unit; `side` is "" (both), "L" or "R" of the person's own face.

    `blendshapes` are the ARKit/MediaPipe blendshapes that it moves, with the weight (0..1) of its full strength (the mapping is ours).
    """

    number: int
    phrase: str
    blendshapes: Mapping[str, float] = field(hash=False)
    side: str = ""

    @property
    def code(self) -> str:
        """As in FACS: `12`, `R12`."""
        return f"{self.side}{self.number}"

    @property
    def regions(self) -> frozenset[str]:
        """The regions of the face that it moves (names of `REGIONS`)."""
        return frozenset(name for name, numbers in REGIONS.items() if self.number in numbers)


@dataclass(frozen=True)
class Expression:
    """A basic expression: its canonical phrase is `<word> expression`."""

    name: str
    word: str
    action_units: tuple[ActionUnit, ...]

    @property
    def phrase(self) -> str:
        return f"{self.word} expression"

    @property
    def regions(self) -> frozenset[str]:
        """Those that its action units move; a face that shows it moves more (`fusion.donor_faces.moved_regions`)."""
        return frozenset().union(*(unit.regions for unit in self.action_units))

    @property
    def blendshapes(self) -> dict[str, float]:
        """The strongest weight that any of its action units gives each blendshape."""
        weights: dict[str, float] = {}
        for unit in self.action_units:
            for shape, weight in unit.blendshapes.items():
                weights[shape] = max(weight, weights.get(shape, 0.0))
        return weights


REGIONS: Mapping[str, frozenset[int]] = MappingProxyType(
    {
        "brows": frozenset({1, 2, 4}),
        "eyes": frozenset({5, 6, 7, 43, 46}),
        "nose": frozenset({9, 10}),
        "mouth": frozenset(range(10, 28)),
        "jaw": frozenset({17, 26, 27}),
    }
)
"""Region of the face -> numbers of the action units that move it."""


def _both(shape: str, weight: float = 1.0) -> dict[str, float]:
    return {f"{shape}Left": weight, f"{shape}Right": weight}


ACTION_UNITS: Mapping[int, ActionUnit] = MappingProxyType(
    {
        number: ActionUnit(number, phrase, MappingProxyType(blendshapes))
        for number, phrase, blendshapes in (
            (1, "raised inner brows", {"browInnerUp": 1.0}),
            (2, "raised outer brows", _both("browOuterUp")),
            (4, "lowered brows", _both("browDown")),
            (5, "wide open eyes", _both("eyeWide")),
            (6, "raised cheeks", _both("cheekSquint")),
            (7, "tightened eyelids", _both("eyeSquint")),
            (9, "wrinkled nose", _both("noseSneer")),
            (10, "raised upper lip", _both("mouthUpperUp")),
            (12, "lip corners pulled up", _both("mouthSmile")),
            (14, "dimpled lip corners", _both("mouthDimple")),
            (15, "lip corners pulled down", _both("mouthFrown")),
            (17, "raised chin", {"mouthShrugLower": 1.0, "mouthShrugUpper": 0.4}),
            (20, "stretched lips", _both("mouthStretch")),
            (23, "tightened lips", {"mouthRollLower": 0.7, "mouthRollUpper": 0.7}),
            (24, "pressed lips", _both("mouthPress")),
            (25, "parted lips", {**_both("mouthLowerDown", 0.6), **_both("mouthUpperUp", 0.25), "jawOpen": 0.08}),
            (26, "jaw dropped", {"jawOpen": 0.45}),
            (27, "mouth wide open", {"jawOpen": 1.0}),
            (43, "eyes closed", _both("eyeBlink")),
            (46, "winking", {"eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.3}),
        )
    }
)
"""FACS number -> action unit. The phrases are those that FaceExpr Mini is trained with (14 belongs to contempt and has none there)."""

_SIDES = {"L": ("left", "Right"), "R": ("right", "Left")}
_CODE = re.compile(r"(?:AU)?\s*(?:([LR])\s*)?(\d+)", re.IGNORECASE)


def action_unit(code: str) -> ActionUnit:
    """The action unit of a FACS code: `12`, `AU12`, `R12`, `AUL14`. Raises FaceExprError for any other text."""
    match = _CODE.fullmatch(code.strip())
    if match is None or int(match[2]) not in ACTION_UNITS:
        known = ", ".join(map(str, ACTION_UNITS))
        raise FaceExprError(
            f"'{code.strip()}' is not an action unit of the vocabulary. Write numbers such as AU1+AU2, R12 or AU12:0.6, out of: {known}."
        )
    unit, side = ACTION_UNITS[int(match[2])], (match[1] or "").upper()
    if not side:
        return unit
    word, other = _SIDES[side]
    if unit.number == 46:  # a wink has one side from the start
        own = {name.replace("Left", "Right" if side == "R" else "Left"): weight for name, weight in unit.blendshapes.items()}
    else:
        own = {name: weight for name, weight in unit.blendshapes.items() if not name.endswith(other)}
    return replace(unit, phrase=f"{unit.phrase} on the {word} side", blendshapes=MappingProxyType(own), side=side)


def parse_action_units(text: str) -> tuple[ActionUnit, ...]:
    """The units of `parse_unit_strengths`, without their strengths."""
    return tuple(unit for unit, _ in parse_unit_strengths(text))


def parse_unit_strengths(text: str) -> tuple[tuple[ActionUnit, float], ...]:
    """Action units written as `AU1+AU2`, `1, 2`, `R12 + R14` or, with a strength above 0 and up to 1, `AU6:0.5+AU12`; () for blank text.

    Each once, in the order given; a unit without a strength has 1. Raises FaceExprError for anything else, and for a unit at two strengths.
    """
    found: dict[str, tuple[ActionUnit, float]] = {}
    for part in re.split(r"[+,;]", text):
        if part.strip():
            code, _, number = part.partition(":")
            unit, strength = action_unit(code), _strength(part, number) if ":" in part else 1.0
            if found.setdefault(unit.code, (unit, strength))[1] != strength:
                raise FaceExprError(f"action unit {unit.code} is asked for twice in '{text.strip()}', at two strengths. Name it once.")
    return tuple(found.values())


def _strength(part: str, number: str) -> float:
    try:
        strength = float(number)
    except ValueError:
        strength = 0.0
    if not 0 < strength <= 1:
        raise FaceExprError(f"'{part.strip()}' has no strength above 0 and up to 1 after the colon. Write it as in AU12:0.6.")
    return strength


def action_unit_phrase(units: tuple[ActionUnit, ...]) -> str:
    """`raised inner brows and raised outer brows`."""
    return " and ".join(unit.phrase for unit in units)


EXPRESSIONS: Mapping[str, Expression] = MappingProxyType(
    {
        name: Expression(name, word, parse_action_units(units))
        for name, word, units in (
            ("neutral", "neutral", ""),
            ("happy", "happy", "6+12+25"),
            ("sad", "sad", "1+4+15"),
            ("angry", "angry", "4+5+7+23"),
            ("surprised", "surprised", "1+2+5+26"),
            ("fearful", "fearful", "1+2+4+5+20"),
            ("disgusted", "disgusted", "9+10+17"),
            ("contempt", "contemptuous", "R12+R14"),
            ("shocked", "shocked", "1+2+5+27"),
        )
    }
)
"""Name -> expression, with the action units of the method's vocabulary."""

COMPOUNDS: Mapping[str, tuple[tuple[str, float], ...]] = MappingProxyType(
    {
        "happily surprised": (("happy", 0.7), ("surprised", 0.7)),
        "happily disgusted": (("happy", 0.7), ("disgusted", 0.7)),
        "sadly fearful": (("sad", 0.7), ("fearful", 0.7)),
        "sadly angry": (("sad", 0.7), ("angry", 0.7)),
        "sadly surprised": (("sad", 0.7), ("surprised", 0.7)),
        "sadly disgusted": (("sad", 0.7), ("disgusted", 0.7)),
        "fearfully angry": (("fearful", 0.7), ("angry", 0.7)),
        "fearfully surprised": (("fearful", 0.7), ("surprised", 0.7)),
        "fearfully disgusted": (("fearful", 0.7), ("disgusted", 0.7)),
        "angrily surprised": (("angry", 0.7), ("surprised", 0.7)),
        "angrily disgusted": (("angry", 0.7), ("disgusted", 0.7)),
        "disgustedly surprised": (("disgusted", 0.7), ("surprised", 0.7)),
        "appalled": (("disgusted", 0.8), ("angry", 0.4)),
        "hateful": (("angry", 0.8), ("disgusted", 0.4)),
        "awed": (("surprised", 0.8), ("fearful", 0.4)),
        "bittersweet": (("happy", 0.6), ("sad", 0.6)),
    }
)
"""Name -> parts (expression, weight). The names are the compound expressions of Du, Tao and Martinez, PNAS 111 (2014), and `bittersweet`;
the weights are ours."""


def names() -> tuple[str, ...]:
    """Every name that `blend_of` knows: basic expressions first, then compounds."""
    return (*EXPRESSIONS, *COMPOUNDS)


def canonical_name(name: str) -> str:
    """A name as `names` has it, by which names are compared and kept.

    Names and words both serve (`contempt`, `contemptuous`); case and underscores do not matter. Raises FaceExprError for any other.
    """
    wanted = " ".join(name.replace("_", " ").lower().split())
    if wanted in COMPOUNDS:
        return wanted
    for expression in EXPRESSIONS.values():
        if wanted in (expression.name, expression.word):
            return expression.name
    raise FaceExprError(f"'{name}' is not an expression of the vocabulary. Choose one of: {', '.join(names())}.")


def blend_of(name: str) -> tuple[tuple[Expression, float], ...]:
    """The expressions that a name stands for, each with its weight; a basic expression is itself with weight 1.

    Takes names, and raises FaceExprError, as `canonical_name` does.
    """
    known = canonical_name(name)
    return tuple((EXPRESSIONS[part], weight) for part, weight in COMPOUNDS.get(known, ((known, 1.0),)))


def blendshapes_of(name: str) -> dict[str, float]:
    """The weight of each blendshape at full strength of a name that `blend_of` knows, from 0 up to 1 for a basic expression; the parts of a
    compound add up, as their conditionings do (the rule is ours)."""
    weights: dict[str, float] = {}
    for part, share in blend_of(name):
        for shape, weight in part.blendshapes.items():
            weights[shape] = weights.get(shape, 0.0) + share * weight
    return weights
