"""Captions from what is known of a picture (`attributes_of` in picture.py): varied in wording, order and in what they leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from faceexpr_core.expressions import action_unit
from faceexpr_core.text import degree

from .backgrounds import PLACES

CANONICAL_SHARE = 0.7
BARE_SHARE = 0.1
"""Captions that name no more than the person and the expression, as a subject's photos are captioned."""
PADDED_SHARE = 0.08
"""Captions with the commas by which prompts of different expressions are brought to one length."""
TURNED = 14.0
"""Degrees of yaw from which on a caption may say so."""
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
BEARDS = {"full": ("beard", "with a beard", "a full beard"), "stubble": ("stubble", "with stubble"), "goatee": ("goatee", "with a goatee"),
          "moustache": ("moustache", "with a moustache")}


def person(attributes: Mapping[str, Any], rng: np.random.Generator | None = None) -> str:
    """`a young woman`; with an rng, sometimes without the age, or just `a person`."""
    if rng is not None and rng.random() < 0.06:
        return "a person"
    if rng is not None and rng.random() < 0.25:
        return f"a {attributes['gender']}"
    article = "an" if attributes["age"] == "old" else "a"
    return f"{article} {attributes['age']} {attributes['gender']}"


def hair(attributes: Mapping[str, Any], rng: np.random.Generator | None = None) -> str:
    """`long red hair`, `red hair`, `red hair tied back` or `bald`."""
    style, colour = attributes["hair_style"], attributes["hair"]
    if style == "bald":
        return "bald"
    if rng is not None and rng.random() < 0.35:
        return f"{colour} hair"
    return f"{colour} hair tied back" if style == "tied back" else f"{style} {colour} hair"


def scene(attributes: Mapping[str, Any]) -> str:
    """`in a library` or `green background`."""
    place = PLACES.get(attributes["background"])
    return place.words if place else f"{attributes['background']} background"


def expression_phrase(attributes: Mapping[str, Any], rng: np.random.Generator | None = None) -> str:
    """`sad expression` or, with an rng, one of its variants; the phrases of action units where there are such."""
    if attributes["expression"] is None:
        units = [action_unit(code).phrase for code in attributes["action_units"]]
        if rng is not None:
            rng.shuffle(units)
        return " and ".join(units)
    word = attributes["expression"]
    if rng is None:
        return f"{word} expression"
    if word == "neutral" or rng.random() > 0.3:
        canonical = rng.random() < CANONICAL_SHARE or word not in OTHER_PHRASES
        return f"{word} expression" if canonical else str(rng.choice(OTHER_PHRASES[word]))
    return f"{degree(attributes['intensity'])} {word} expression".strip()


def looks_of(attributes: Mapping[str, Any], rng: np.random.Generator) -> list[tuple[float, str]]:
    """What is seen of the person in every picture: how often a caption says it, and how."""
    found = [(0.80, f"{attributes['skin']} skin"), (0.12, f"{attributes['eyes']} eyes")]
    if attributes["hat"] != "headscarf":
        found.append((0.80, hair(attributes, rng)))
    if attributes["beard"] in BEARDS:
        found.append((0.9, str(rng.choice(BEARDS[attributes["beard"]]))))
    if attributes["freckles"]:
        found.append((0.4, "freckles"))
    return found


def details(attributes: Mapping[str, Any], rng: np.random.Generator) -> list[tuple[float, str]]:
    """What else is seen in this picture."""
    found = [(0.85, scene(attributes))]
    if attributes["glasses"]:
        found.append((0.95, "glasses" if rng.random() < 0.3 else "wearing glasses"))
    if attributes["hat"] != "none":
        hat = attributes["hat"] if rng.random() < 0.3 else f"{attributes['hat_colour']} {attributes['hat']}"
        if rng.random() < 0.25 and hat.endswith(("cap", "hat")):
            hat = "hat"
        found.append((0.95, f"wearing {'an' if hat[0] in 'ao' else 'a'} {hat}"))
    if attributes["earrings"] != "none":
        found.append((0.6, "hoop earrings" if attributes["earrings"] == "hoops" and rng.random() < 0.6 else "earrings"))
    if attributes["clothes"]:
        found.append((0.3, f"{'an' if attributes['clothes'][0] in 'ao' else 'a'} {attributes['clothes']}"))
    found.append((0.2, attributes["light"]))
    if abs(attributes["yaw"]) > TURNED:
        found.append((0.4, f"turned to the {'right' if attributes['yaw'] > 0 else 'left'}"))
    return found


def caption(attributes: Mapping[str, Any], rng: np.random.Generator, looks: bool = True) -> str:
    """`a photo of a young woman, tan skin, long red hair, in a library, sad expression`, varied; without `looks` only gender is left of
    the person."""
    opening = str(rng.choice(PICTURE_WORDS, p=[0.7, 0.12, 0.12, 0.06]))
    expression = expression_phrase(attributes, rng)
    seen = [*(looks_of(attributes, rng) if looks else ()), *details(attributes, rng)]
    kept = [text for chance, text in seen if rng.random() < chance]
    if rng.random() < BARE_SHARE:
        kept = []
    if rng.random() < PADDED_SHARE:
        expression = ", " * int(rng.integers(1, 4)) + expression
    if rng.random() < 0.5:
        rng.shuffle(kept)
    if rng.random() < 0.03:
        return ", ".join([f"{opening} {person(attributes, rng)}", *kept])
    place = len(kept) if rng.random() < 0.75 else int(rng.integers(0, len(kept) + 1))
    return ", ".join([f"{opening} {person(attributes, rng)}", *kept[:place], expression, *kept[place:]])
