"""Identities: a head from an integer seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .mesh import LOCAL_AREAS, head_mesh, phenotype_vertices

TRAINING_IDENTITIES = range(0, 100_000)
TUNING_IDENTITIES = range(100_000, 200_000)
REPORTING_IDENTITIES = range(200_000, 300_000)

Colour = tuple[float, float, float]  # sRGB, 0..1

AGES = {"young": (0.66, 0.73), "middle-aged": (0.79, 0.86), "old": (0.94, 1.0)}
SKINS: dict[str, Colour] = {
    "pale": (0.93, 0.80, 0.75),
    "fair": (0.90, 0.70, 0.59),
    "tan": (0.80, 0.59, 0.44),
    "brown": (0.61, 0.41, 0.29),
    "dark": (0.41, 0.27, 0.20),
}
HAIRS: dict[str, Colour] = {
    "black": (0.07, 0.06, 0.07),
    "brown": (0.33, 0.19, 0.10),
    "blond": (0.87, 0.69, 0.36),
    "red": (0.66, 0.23, 0.08),
    "grey": (0.66, 0.66, 0.67),
}
EYES: dict[str, Colour] = {
    "brown": (0.30, 0.16, 0.08),
    "blue": (0.25, 0.48, 0.72),
    "green": (0.28, 0.50, 0.28),
    "grey": (0.45, 0.52, 0.56),
}

# Shapes that read as an expression stay small, so that a resting face is close to neutral.
AREA_AMPLITUDE = {
    "cheek": 0.55,
    "chin": 0.55,
    "ear": 0.25,
    "eyebrows": 0.35,
    "eye": 0.4,
    "forehead": 0.6,
    "head": 0.35,
    "mouth": 0.4,
    "neck": 0.15,
    "nose": 0.42,
}
LABEL_AMPLITUDE = {
    "mouth-angles-up": 0.12,
    "eyebrows-angle-up": 0.2,
    "eye-height1-incr": 0.2,
    "eye-height2-incr": 0.2,
    "eye-height3-incr": 0.2,
    "mouth-trans-out": 0.05,
    "nose-trans-out": 0.05,
    "head-trans-out": 0.0,
    "head-trans-forward": 0.0,
    "head-trans-up": 0.0,
    "head-angle-out": 0.1,
    "chin-jaw-drop-incr": 0.25,
    "mouth-laugh-lines-out": 0.3,
    "mouth-dimples-out": 0.3,
    "neck-trans-out": 0.0,
    "chin-prognathism-incr": 0.3,
    "head-age-incr": 0.0,
}
ASYMMETRY = 0.06
assert set(AREA_AMPLITUDE) == set(LOCAL_AREAS)


@dataclass(frozen=True)
class Head:
    """What makes a person; `age_word` ... `glasses` are what a caption may say."""

    seed: int
    age_word: str
    gender_word: str
    skin_word: str
    hair_word: str
    hair_style: str  # bald, short, long
    eye_word: str
    beard: bool
    glasses: bool
    phenotypes: tuple[tuple[str, float], ...]  # anny's, 0..1
    local: tuple[float, ...]  # anny's local changes, -1..1, in the order of HeadMesh.local_labels
    skin: Colour
    hair: Colour
    brow: Colour
    eye: Colour
    lip: Colour
    hairline: float  # metres above the usual hairline
    peak: float  # widow's peak, metres
    hair_volume: float  # metres
    hair_length: float  # of long hair, metres below the crown
    hair_waves: float  # metres
    brow_thickness: float  # relative to usual
    brow_arch: float
    brow_lift: float  # metres
    beard_length: float  # 0 stubble .. 1 full
    wrinkles: float  # 0..1
    freckles: float  # 0..1


def make_head(seed: int) -> Head:
    rng = np.random.default_rng([11, seed])
    gender_word = "man" if rng.random() < 0.5 else "woman"
    age_word = str(rng.choice(list(AGES), p=[0.45, 0.3, 0.25]))
    skin_word = str(rng.choice(list(SKINS)))
    dark_skin = skin_word in ("brown", "dark")
    hair_odds = {
        "young": [0.3, 0.27, 0.22, 0.19, 0.02],
        "middle-aged": [0.3, 0.25, 0.16, 0.15, 0.14],
        "old": [0.08, 0.06, 0.06, 0.05, 0.75],
    }[age_word]
    hair_word = str(rng.choice(list(HAIRS), p=hair_odds))
    style_odds = [0.2, 0.7, 0.1] if gender_word == "man" else [0.03, 0.27, 0.7]
    hair_style = str(rng.choice(["bald", "short", "long"], p=style_odds))
    eye_word = str(rng.choice(list(EYES), p=[0.85, 0.05, 0.06, 0.04] if dark_skin else [0.4, 0.28, 0.18, 0.14]))
    beard = bool(gender_word == "man" and rng.random() < 0.4)
    glasses = bool(rng.random() < 0.15)

    ancestry = rng.dirichlet([3, 0.4, 0.4] if dark_skin else [0.4, 1.0, 1.5])
    phenotypes = {
        "gender": rng.uniform(0.85, 1.0) if gender_word == "man" else rng.uniform(0.0, 0.1),
        "age": rng.uniform(*AGES[age_word]),
        "weight": rng.beta(1.3, 1.3),
        "muscle": rng.uniform(0.2, 0.8),
        "proportions": rng.uniform(0.1, 0.9),
        "african": ancestry[0],
        "asian": ancestry[1],
        "caucasian": ancestry[2],
    }
    skin = _jitter(SKINS[skin_word], 0.03, rng)
    hair = _jitter(HAIRS[hair_word], 0.03, rng)
    brow = tuple(np.multiply(hair, 0.5 if hair_word in ("blond", "grey", "red") else 0.7))
    if skin_word == "dark":
        brow = tuple(np.minimum(brow, 0.12))
    rosiness = rng.uniform(0.5, 1.0) if gender_word == "woman" else rng.uniform(0.15, 0.4)
    lip = tuple(np.clip(np.multiply(skin, 1 - rosiness * np.array([0.15, 0.55, 0.45])), 0, 1))
    return Head(
        seed=seed,
        age_word=age_word,
        gender_word=gender_word,
        skin_word=skin_word,
        hair_word=hair_word,
        hair_style=hair_style,
        eye_word=eye_word,
        beard=beard,
        glasses=glasses,
        phenotypes=tuple((k, float(v)) for k, v in phenotypes.items()),
        local=_local_changes(rng),
        skin=skin,
        hair=hair,
        brow=brow,
        eye=_jitter(EYES[eye_word], 0.04, rng),
        lip=lip,
        hairline=float(rng.normal(0, 0.006)) + (0.008 if gender_word == "man" and age_word != "young" else 0.0),
        peak=float(rng.uniform(-0.006, 0.008)),
        hair_volume=float(rng.uniform(0.004, 0.012)),
        hair_length=float(rng.uniform(0.20, 0.34)),
        hair_waves=float(rng.uniform(0.0, 0.004)),
        brow_thickness=float(rng.uniform(0.9, 1.5) if gender_word == "man" else rng.uniform(0.6, 1.0)),
        brow_arch=float(rng.uniform(0.3, 1.6)),
        brow_lift=float(rng.normal(0, 0.0012)),
        beard_length=float(rng.uniform(0.35, 1.0)),
        wrinkles={"young": 0.0, "middle-aged": 0.35, "old": 1.0}[age_word] * float(rng.uniform(0.7, 1.0)),
        freckles=float(max(0.0, rng.uniform(-2.0, 1.0))) if skin_word in ("pale", "fair") else 0.0,
    )


def head_vertices(head: Head) -> np.ndarray:
    """[V, 3] the neutral face, metres."""
    mesh = head_mesh()
    local = np.asarray(head.local, np.float32)
    weights = np.stack([local.clip(0), (-local).clip(0)], 1).ravel()
    return phenotype_vertices(dict(head.phenotypes)) + np.tensordot(weights, mesh.local_shapes, 1)


def _local_changes(rng: np.random.Generator) -> tuple[float, ...]:
    """Normal values; left and right of a pair share theirs but for a slight asymmetry."""
    shared: dict[str, float] = {}
    values = []
    for label in head_mesh().local_labels:
        paired = label[:2] in ("l-", "r-")
        name = label[2:] if paired else label
        amplitude = LABEL_AMPLITUDE.get(name, AREA_AMPLITUDE[name.split("-")[0]])
        if name not in shared:
            shared[name] = float(rng.normal(0, amplitude))
        value = shared[name] + (float(rng.normal(0, ASYMMETRY)) if paired else 0.0)
        values.append(float(np.clip(value, -1, 1)))
    return tuple(values)


def _jitter(colour: Colour, amount: float, rng: np.random.Generator) -> Colour:
    brightness = 1 + rng.normal(0, amount)
    red, green, blue = np.clip(np.array(colour) * brightness + rng.normal(0, amount / 3, 3), 0, 1).tolist()
    return red, green, blue
