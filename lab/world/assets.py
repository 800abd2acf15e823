"""The parts folder: pictures and geometry cut from MakeHuman's CC0 assets. It is given, never committed; parts.py makes one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from faceexpr_core.errors import FaceExprError

from .attach import Part, part_of
from .mesh import head_mesh

ENVIRONMENT = "FACEEXPR_PARTS"
SKINS: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("man", "light"): {"young": ("young_lightskinned_male_diffuse", "young_lightskinned_male_diffuse2", "young_lightskinned_male_diffuse3"),
                       "middle-aged": ("middleage_lightskinned_male_diffuse", "middleage_lightskinned_male_diffuse2"),
                       "old": ("old_mix_male_1", "old_mix_male_2")},
    ("woman", "light"): {"young": ("young_lightskinned_female_diffuse2", "young_lightskinned_female_diffuse3"),
                         "middle-aged": ("middleage_lightskinned_female_diffuse2",), "old": ("old_mix_female_1",)},
    ("man", "dark"): {"young": ("young_darkskinned_male_diffuse",), "middle-aged": ("middleage_darkskinned_male_diffuse",),
                      "old": ("old_darkskinned_male_diffuse",)},
    ("woman", "dark"): {"young": ("young_mix_dark_female",), "middle-aged": ("middleage_mix_dark_female",),
                        "old": ("old_mix_dark_female",)},
}
HAIRS = ("bob02", "braid01", "long01", "ponytail01", "short01", "short02", "short03", "short04")
BROWS, LASHES = tuple(f"{k:03d}" for k in range(1, 13)), tuple(f"{k:02d}" for k in range(1, 5))
EYES = ("blue", "bluegreen", "brown", "brownlight", "deepblue", "green", "grey", "ice", "lightblue")
GARMENTS = {
    "man": ("male_casualsuit01", "male_casualsuit02", "male_casualsuit03", "male_casualsuit04", "male_casualsuit05", "male_casualsuit06",
            "male_elegantsuit01", "male_worksuit01"),
    "woman": ("female_casualsuit01", "female_casualsuit02", "female_elegantsuit01", "female_sportsuit01"),
}
PLAIN_GARMENTS = ("male_casualsuit01", "female_casualsuit02")
"""Garments that come without a picture: their fabric is made by code."""
GEOMETRY = "proxies.npz"


def picture_names() -> tuple[str, ...]:
    """Every picture of a parts folder, relative to it."""
    skins = sorted({name for by_age in SKINS.values() for names in by_age.values() for name in names})
    garments = [name for names in GARMENTS.values() for name in names if name not in PLAIN_GARMENTS]
    return (*(f"skins/{n}.jpg" for n in skins), *(f"hair/{n}.png" for n in HAIRS), *(f"brows/{n}.png" for n in BROWS),
            *(f"lashes/{n}.png" for n in LASHES), *(f"eyes/{n}.jpg" for n in EYES), "mouth/teeth.jpg", "mouth/tongue.jpg",
            *(f"clothes/{n}.jpg" for n in garments))


def geometry_names() -> tuple[str, ...]:
    """Every part of `proxies.npz`."""
    garments = [name for names in GARMENTS.values() for name in names]
    return (*(f"hair.{n}" for n in HAIRS), *(f"brow.{n}" for n in BROWS), *(f"lash.{n}" for n in LASHES), "eyes", "teeth", "tongue",
            *(f"cloth.{n}" for n in garments))


@dataclass(frozen=True, eq=False)
class Parts:
    """A parts folder that has been checked."""

    folder: Path
    geometry: dict[str, Part]

    def picture(self, name: str, side: int | None = None) -> np.ndarray:
        """uint8 [h, w, 3] RGB, [h, w, 4] RGBA or [h, w] as stored, squeezed to `side` squared where given."""
        return _picture(self.folder / name, side)

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()


def parts_folder(given: Path | None = None) -> Path:
    """The folder given, else that of the environment variable FACEEXPR_PARTS. Raises FaceExprError where neither is set."""
    if given is None and not os.environ.get(ENVIRONMENT):
        raise FaceExprError(
            f"The world needs a folder of parts. Give it with --parts or {ENVIRONMENT}; make one with "
            "`python -m lab.world.parts --makehuman DIR --out DIR`."
        )
    return Path(given if given is not None else os.environ[ENVIRONMENT])


@lru_cache(maxsize=2)
def load_parts(folder: Path) -> Parts:
    """Checks that every part is there and hangs on the head. Raises FaceExprError that names what is missing."""
    missing = [name for name in (*picture_names(), GEOMETRY) if not (folder / name).exists()]
    if missing:
        raise FaceExprError(
            f"The parts folder {folder} lacks {len(missing)} files, first {missing[0]}. "
            "Make it again with `python -m lab.world.parts --makehuman DIR --out DIR`."
        )
    with np.load(folder / GEOMETRY) as stored:
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for key in stored.files:
            name, _, field = key.rpartition(".")
            arrays.setdefault(name, {})[field] = stored[key]
    lacking = [name for name in geometry_names() if name not in arrays]
    if lacking:
        raise FaceExprError(f"{folder / GEOMETRY} lacks the part {lacking[0]}. Make the folder again with lab.world.parts.")
    mesh = head_mesh()
    return Parts(folder, {name: part_of(arrays[name], mesh) for name in geometry_names()})


@lru_cache(maxsize=96)
def _picture(path: Path, side: int | None) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise FaceExprError(f"{path} is not a picture that can be read.")
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return image if side is None else cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
