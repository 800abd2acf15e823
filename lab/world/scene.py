"""What is chosen anew for each picture: what the person wears, how the camera looks, how it is lit, what lies behind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .assets import GARMENTS
from .backgrounds import PLACES, TINTS
from .covers import HATS, HEADSCARF
from .identity import EARS_SHOW, FABRICS, Colour, Person, fabric_colour
from .light import Lights

SUITS = ("male_elegantsuit01", "female_elegantsuit01")
LIGHT_WORDS = ("soft light", "light from the left", "light from the right", "light from above", "dramatic light", "warm light",
               "cool light", "backlight")


@dataclass(frozen=True)
class Outfit:
    """What is worn. Colours are sRGB; words are those of captions, empty where a picture says nothing of it."""

    garment: str
    garment_colour: Colour
    plain: bool  # fabric by code instead of the garment's own picture
    garment_words: str
    glasses: bool
    cover: str  # none, one of HATS or HEADSCARF
    cover_colour: Colour
    cover_word: str  # the colour's name
    earrings: str  # none, studs, hoops
    metal: str  # gold, silver


@dataclass(frozen=True)
class Scene:
    """Degrees; shifts in picture heights."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    gaze: tuple[float, float] = (0.0, 0.0)  # to the person's left, up: -1..1
    lights: Lights = field(default_factory=Lights)
    light_word: str = "soft light"
    background: str = "grey"  # a key of TINTS (a plain studio) or of PLACES
    seed: int = 0


def outfit_of(person: Person, rng: np.random.Generator) -> Outfit:
    """What the person wears in a picture: mostly the person's own habits."""
    man = person.gender == "man"
    wardrobe = np.random.default_rng([71, person.seed, int(rng.integers(3))])
    garment = str(wardrobe.choice(GARMENTS[person.gender]))
    word = str(wardrobe.choice(list(FABRICS)))
    suit = garment in SUITS
    plain = not suit and bool(wardrobe.random() < 0.75)
    cover = "none"
    if person.wears_headscarf:
        cover = HEADSCARF
    elif rng.random() < 0.09:
        cover = str(rng.choice(HATS, p=[0.4, 0.35, 0.25] if man else [0.4, 0.2, 0.4]))
    cover_word = str(rng.choice(list(FABRICS)))
    glasses = bool(rng.random() < (0.88 if person.wears_glasses else 0.03))
    show = person.hair_style in EARS_SHOW and cover not in (HEADSCARF, "knit cap")
    return Outfit(
        garment, fabric_colour(word, wardrobe), plain, "suit" if suit and man else f"{word} top" if plain else "", glasses, cover,
        fabric_colour(cover_word, rng), cover_word if cover != "none" else "", person.earrings if show and rng.random() < 0.9 else "none",
        str(wardrobe.choice(["gold", "silver"])),
    )


def scene_of(rng: np.random.Generator, yaw_spread: float = 10.0) -> Scene:
    """A camera, light and background: yaw to 30 degrees, half of the backgrounds plain."""
    background = str(rng.choice(list(TINTS))) if rng.random() < 0.5 else str(rng.choice(list(PLACES)))
    word = str(rng.choice(LIGHT_WORDS, p=[0.34, 0.13, 0.13, 0.08, 0.06, 0.12, 0.08, 0.06]))
    tint = TINTS.get(background) or PLACES[background].tint
    return Scene(
        yaw=float(np.clip(rng.normal(0, yaw_spread), -30, 30)), pitch=float(np.clip(rng.normal(0, 4), -10, 10)),
        roll=float(np.clip(rng.normal(0, 2.5), -7, 7)), shift=(float(rng.uniform(-0.025, 0.025)), float(rng.uniform(-0.02, 0.02))),
        scale=float(rng.uniform(0.94, 1.05)), gaze=(float(rng.normal(0, 0.10)), float(rng.normal(0, 0.06))),
        lights=replace(lights_of(word, rng), tint=tint), light_word=word, background=background, seed=int(rng.integers(1 << 30)),
    )


def lights_of(word: str, rng: np.random.Generator) -> Lights:
    """The lights that a word of LIGHT_WORDS stands for."""
    side = float(rng.choice([-1, 1]))
    lights = Lights(azimuth=side * float(rng.uniform(10, 40)), elevation=float(rng.uniform(18, 48)), key=float(rng.uniform(0.68, 0.95)),
                    ambient=float(rng.uniform(0.30, 0.45)), warmth=float(rng.uniform(-0.3, 0.4)), softness=float(rng.uniform(5, 10)),
                    rim=float(rng.uniform(0, 0.45)), rim_azimuth=float(rng.choice([-1, 1]) * rng.uniform(110, 155)))
    if word.startswith("light from the"):
        toward = 1.0 if word.endswith("right") else -1.0
        return replace(lights, azimuth=toward * float(rng.uniform(50, 72)), elevation=float(rng.uniform(12, 35)),
                       ambient=float(rng.uniform(0.20, 0.32)), softness=float(rng.uniform(3, 7)))
    if word == "light from above":
        return replace(lights, azimuth=side * float(rng.uniform(0, 15)), elevation=float(rng.uniform(58, 70)), softness=5.0)
    if word == "dramatic light":
        return replace(lights, azimuth=side * float(rng.uniform(48, 66)), ambient=float(rng.uniform(0.12, 0.18)), key=1.0, softness=3.5,
                       rim=float(rng.uniform(0.3, 0.7)))
    if word in ("warm light", "cool light"):
        return replace(lights, warmth=float(rng.uniform(1.3, 2.2)) * (1 if word == "warm light" else -1))
    if word == "backlight":
        return replace(lights, rim=float(rng.uniform(0.9, 1.4)), key=float(rng.uniform(0.45, 0.6)), ambient=float(rng.uniform(0.30, 0.4)))
    return lights
