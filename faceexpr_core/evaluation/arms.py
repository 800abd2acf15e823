"""Arms of an evaluation, written as words: the ways in which every picture is drawn.

    base                                the model without any LoRA, which knows the class word alone
    lora                                the person's LoRA, the expression asked in the text
    fusion                              the same LoRA and a neutral text, the expression by fusion from the model without it
    lora:scale=1.5                      more of the expression at each step (the epsilon mode)
    lora:lora_strength=0.8
    lora:embeddings=off                 the expression in plain words: `slightly happy`, `happy`, `very happy`
    fusion:strength=1.5,text=expression
    fusion:site=cross_attention,layers=decoder,window=0-0.8
    lora:preset=paper                   a LoRA of its own, trained in another way
    fusion:prior=off,crafting_weight=0

Keys of a drawing: scale, lora_strength, embeddings (on, off), and for fusion strength, text (neutral, expression), site, mode, layers,
window. Every other key is an option of `faceexpr train`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import FaceExprError
from ..fusion.settings import (
    EXPRESSION_TEXT,
    MODES,
    NEUTRAL_TEXT,
    SITES,
    FusionSettings,
    default_site,
    paper_settings,
    site_settings,
)

BASE, LORA, FUSION = "base", "lora", "fusion"
WAYS = (BASE, LORA, FUSION)
DEFAULT_ARMS = WAYS
TEXTS = (NEUTRAL_TEXT, EXPRESSION_TEXT)

_FUSED = ("strength", "text", "site", "mode", "layers", "window")


@dataclass(frozen=True)
class Arm:
    """`name` is how it was written. `training`: options of `faceexpr train` by name, in order, that this arm's LoRA has of its own;
    None for an arm without a LoRA. `fusion` None: the expression by text alone. `scale` None: plain guidance. `embeddings` False: the
    expression as `text.plain_terms` says it, instead of embeddings weighed against a neutral text's."""

    name: str
    training: tuple[tuple[str, str], ...] | None
    fusion: FusionSettings | None = None
    text: str = NEUTRAL_TEXT
    scale: float | None = None
    lora_strength: float = 1.0
    embeddings: bool = True

    def meaning(self) -> dict[str, Any]:
        """All fields, and of fusion what strength 1 stands for and where it acts, which may change with the code. `embeddings`, which came
        later, is left out where it was not given, so that older folders can be gone on with."""
        found = {name: value for name, value in asdict(self).items() if name != "embeddings" or not value}
        return found if self.fusion is None else {**found, "strength 1": self.fusion.units, "acts on": "the whole face"}


def parse_arms(words: Iterable[str]) -> list[Arm]:
    """Arms of words, each once. Raises FaceExprError for one that cannot be read, and for two that mean the same."""
    arms: list[Arm] = []
    for word in dict.fromkeys(words):
        arm = _arm(word)
        if twin := next((other for other in arms if replace(other, name=word) == arm), None):
            raise FaceExprError(f"the arms '{twin.name}' and '{word}' draw the same pictures; leave one out.")
        arms.append(arm)
    if not arms:
        raise FaceExprError(f"no arms were given. Give some of {', '.join(DEFAULT_ARMS)}.")
    return arms


def without_folders(words: str) -> str:
    """Words of an arm or a training for readers, of a file's path its name alone: where it lies on a computer stays there."""
    return re.sub(r"(?:[A-Za-z]:)?[^\s=,:'\"]*[\\/]([^\s=,'\"\\/]+)", r"\1", words)


def _arm(word: str) -> Arm:
    way, _, rest = word.partition(":")
    try:
        if way not in WAYS:
            raise FaceExprError(f"it starts with none of {', '.join(WAYS)}")
        given = _given(rest)
        scale = _number(given, "scale")
        embeddings = one_of("embeddings", given.pop("embeddings", "on"), ("on", "off")) == "on"
        if not embeddings and scale is not None:
            raise FaceExprError("scale needs embeddings, which are off")
        if way == BASE:
            if given:
                raise FaceExprError(f"{BASE} takes no {next(iter(given))}: it has no LoRA and no fusion")
            return Arm(word, None, scale=scale, embeddings=embeddings)
        strength = _number(given, "lora_strength")
        arm = Arm(word, (), scale=scale, lora_strength=1.0 if strength is None else strength, embeddings=embeddings)
        if way == FUSION:
            arm = replace(arm, text=one_of("text", given.pop("text", NEUTRAL_TEXT), TEXTS), fusion=_fusion(given))
        if wrong := [key for key in _FUSED if key in given]:
            raise FaceExprError(f"{wrong[0]} belongs to {FUSION}")
        return replace(arm, training=tuple(given.items()))
    except (FaceExprError, ValueError) as reason:
        raise FaceExprError(f"the arm '{word}' cannot be read: {reason}. See faceexpr evaluate --help.") from reason


def _given(rest: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise FaceExprError(f"'{part}' is no key=value")
        if key in found:
            raise FaceExprError(f"{key} is given twice")
        found[key] = value
    return found


def _fusion(given: dict[str, str]) -> FusionSettings:
    mode, site = given.pop("mode", None), given.pop("site", None)
    if mode is not None:
        one_of("mode", mode, MODES)
    chosen = site or (None if mode == "paper" else default_site(False))
    settings = paper_settings() if chosen is None else site_settings(one_of("site", chosen, SITES))
    changed: dict[str, Any] = {name: value for name, value in (("mode", mode), ("layers", given.pop("layers", None))) if value is not None}
    if (strength := _number(given, "strength")) is not None:
        changed["strength"] = strength
    if "window" in given:
        low, _, high = given.pop("window").partition("-")
        changed["window"] = (float(low), float(high))
    return replace(settings, **changed)


def _number(given: dict[str, str], key: str) -> float | None:
    if key not in given:
        return None
    text = given.pop(key)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise FaceExprError(f"{key} is '{text}', which is no number")
    return number


def one_of(what: str, value: str, allowed: tuple[str, ...]) -> str:
    """The value. Raises FaceExprError for one that is not `allowed`, which says `what` it is of."""
    if value not in allowed:
        raise FaceExprError(f"{what} is {value}, not one of {', '.join(allowed)}")
    return value
