"""People described in words: what is asked of a made-up person, from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GENDERS = ("woman", "man")
AGES = ("young", "middle-aged", "old")
SKINS = ("pale", "fair", "tan", "brown", "dark")
HAIR = {"pale": ("black", "brown", "blond", "red"), "fair": ("black", "brown", "blond", "red"), "tan": ("black", "brown", "blond"),
        "brown": ("black", "brown"), "dark": ("black", "brown")}  # fmt: skip
STYLES = {"woman": ("short", "long", "curly", "braided"), "man": ("short", "very short", "long", "curly")}
EYES = {"pale": ("brown", "blue", "green", "grey"), "fair": ("brown", "blue", "green", "grey"), "tan": ("brown", "green"),
        "brown": ("brown",), "dark": ("brown",)}  # fmt: skip
GREY = {"young": 0.0, "middle-aged": 0.25, "old": 0.7}
BALD, BEARD = 0.12, 0.3
"""Shares of men; the young are never bald."""
CELLS = [(gender, age, skin) for gender in GENDERS for age in AGES for skin in SKINS]
"""Each is asked once in every thirty people."""


@dataclass(frozen=True)
class Traits:
    """Words for a person's looks; `beard` is a word of the prompt or ""."""

    gender: str
    age: str
    skin: str
    hair: str
    eyes: str
    beard: str

    def words(self) -> str:
        """`young woman, tan skin, long red hair, green eyes`: no article, in the words of Mini's captions, which SDXL reads too."""
        return ", ".join(filter(None, (f"{self.age} {self.gender}", f"{self.skin} skin", self.hair, f"{self.eyes} eyes", self.beard)))


def describe_person(seed: int, number: int) -> tuple[Traits, int]:
    """The looks of the person of a number (from 0), and the seed of that person's noise (0..2^31): the same for the same two numbers.

    Gender, age and skin are balanced over every thirty people; the rest is drawn, with colours that go together (ours).
    """
    order = np.random.default_rng([seed, number // len(CELLS), 1]).permutation(len(CELLS))
    gender, age, skin = CELLS[int(order[number % len(CELLS)])]
    rng = np.random.default_rng([seed, number, 2])
    colour = "grey" if rng.random() < GREY[age] else str(rng.choice(HAIR[skin]))
    hair = f"{rng.choice(STYLES[gender])} {colour} hair"
    man = gender == "man"
    if rng.random() < BALD and man and age != "young":
        hair = "bald"
    beard = "beard" if rng.random() < BEARD and man else ""
    return Traits(gender, age, skin, hair, str(rng.choice(EYES[skin])), beard), int(rng.integers(2**31))
