"""Captions from attribute dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from faceexpr_core.expressions import ACTION_UNITS
from faceexpr_core.text import degree

CANONICAL_SHARE = 0.7
BARE_SHARE = 0.1
"""Captions that name no more than the person and the expression, as a subject's photos are captioned."""
PADDED_SHARE = 0.08
"""Captions with the commas by which prompts of different expressions are brought to one length."""
OTHER_PHRASES: dict[str, tuple[str, ...]] = {
    "neutral": ("a neutral face", "no expression", "looking neutral", "a calm neutral expression", "a neutral expression"),
    "happy": ("smiling", "a happy face", "looking happy", "a big smile"),
    "sad": ("a sad face", "looking sad", "frowning sadly"),
    "angry": ("an angry face", "looking angry", "glaring angrily"),
    "surprised": ("a surprised face", "looking surprised", "raised brows in surprise"),
    "fearful": ("a fearful face", "looking fearful", "afraid"),
    "disgusted": ("a disgusted face", "looking disgusted", "in disgust"),
    "contemptuous": ("a contemptuous face", "looking contemptuous", "a smirk of contempt"),
    "shocked": ("a shocked face", "looking shocked", "in shock"),
}
PICTURE_WORDS = ("a photo of", "a portrait of", "a picture of", "a close-up photo of")


def person(attributes: Mapping[str, Any], rng: np.random.Generator | None = None) -> str:
    """`a young woman`; with an rng, sometimes without the age, or just `a person`."""
    if rng is not None and rng.random() < 0.06:
        return "a person"
    if rng is not None and rng.random() < 0.25:
        return f"a {attributes['gender']}"
    article = "an" if attributes["age"] == "old" else "a"
    return f"{article} {attributes['age']} {attributes['gender']}"


def hair(attributes: Mapping[str, Any], rng: np.random.Generator | None = None) -> str:
    """`long red hair`, `red hair` or `bald`."""
    if attributes["hair_style"] == "bald":
        return "bald"
    if rng is not None and rng.random() < 0.4:
        return f"{attributes['hair']} hair"
    return f"{attributes['hair_style']} {attributes['hair']} hair"


def expression_phrase(attributes: Mapping[str, Any], rng: np.random.Generator | None = None) -> str:
    """`sad expression` or, with an rng, one of its variants; the phrases of action units where there are such."""
    units = [ACTION_UNITS[unit].phrase for unit in attributes["action_units"]]
    if attributes["expression"] is None:
        if rng is not None:
            rng.shuffle(units)
        return " and ".join(units)
    word = attributes["expression"]
    if rng is None:
        return f"{word} expression"
    if word == "neutral" or rng.random() > 0.3:
        canonical = rng.random() < CANONICAL_SHARE
        return f"{word} expression" if canonical else str(rng.choice(OTHER_PHRASES[word]))
    return f"{degree(attributes['intensity'])} {word} expression".strip()


def caption(attributes: Mapping[str, Any], rng: np.random.Generator) -> str:
    """`a photo of a young woman, tan skin, red hair, green background, sad expression`, varied."""
    opening = str(rng.choice(PICTURE_WORDS, p=[0.7, 0.12, 0.12, 0.06]))
    expression = expression_phrase(attributes, rng)
    details = [
        (0.85, f"{attributes['skin']} skin"),
        (0.85, hair(attributes, rng)),
        (0.85, f"{attributes['background']} background"),
        (0.12, f"{attributes['eyes']} eyes"),
    ]
    if attributes["beard"]:
        details.append((0.9, "beard" if rng.random() < 0.5 else "with a beard"))
    if attributes["glasses"]:
        details.append((0.95, "glasses" if rng.random() < 0.3 else "wearing glasses"))
    if attributes["light"] != "front":
        details.append((0.1, f"light from the {attributes['light']}"))
    kept = [text for chance, text in details if rng.random() < chance]
    if rng.random() < BARE_SHARE:
        kept = []
    if rng.random() < PADDED_SHARE:
        expression = ", " * int(rng.integers(1, 4)) + expression
    if rng.random() < 0.4:
        rng.shuffle(kept)
    if rng.random() < 0.03:
        return ", ".join([f"{opening} {person(attributes, rng)}", *kept])
    place = len(kept) if rng.random() < 0.75 else int(rng.integers(0, len(kept) + 1))
    return ", ".join([f"{opening} {person(attributes, rng)}", *kept[:place], expression, *kept[place:]])
