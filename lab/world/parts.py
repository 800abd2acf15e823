"""Makes the parts folder from MakeHuman's own assets: `python -m lab.world.parts --makehuman DIR --out DIR`.

DIR is MakeHuman's `data` folder (with `skins`, `hair`, `eyebrows` ...), whose files carry a CC0 notice since September 2020. Each file is
checked against `makehuman.sha256` before it is read. Skins are cut to head and neck; skins of kinds that are missing there (old people,
dark-skinned women) are mixed from the colours of one and the detail of another.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from faceexpr_core.errors import FaceExprError

from .assets import BROWS, EYES, GARMENTS, GEOMETRY, HAIRS, LASHES, PLAIN_GARMENTS
from .makehuman import cut_part
from .mesh import HEAD_ISLAND

CHECKSUMS = Path(__file__).with_name("makehuman.sha256")
SKIN_FOLDERS = {
    "middleage_darkskinned_male_diffuse": "middleage_african_male", "middleage_lightskinned_female_diffuse2": "middleage_asian_female",
    "middleage_lightskinned_male_diffuse": "middleage_caucasian_male", "middleage_lightskinned_male_diffuse2": "middleage_asian_male",
    "old_darkskinned_male_diffuse": "old_african_male", "young_darkskinned_male_diffuse": "young_african_male",
    "young_lightskinned_female_diffuse2": "young_caucasian_female2", "young_lightskinned_female_diffuse3": "young_asian_female",
    "young_lightskinned_male_diffuse": "young_caucasian_male", "young_lightskinned_male_diffuse2": "young_caucasian_male2",
    "young_lightskinned_male_diffuse3": "young_asian_male",
}
MIXED_SKINS = {  # colours of the first, detail of the second; the lined ones keep their own detail too
    "old_mix_male_1": ("middleage_lightskinned_male_diffuse", "old_darkskinned_male_diffuse", True),
    "old_mix_male_2": ("middleage_lightskinned_male_diffuse2", "old_darkskinned_male_diffuse", True),
    "old_mix_female_1": ("middleage_lightskinned_female_diffuse2", "old_darkskinned_male_diffuse", True),
    "young_mix_dark_female": ("young_darkskinned_male_diffuse", "young_lightskinned_female_diffuse2", False),
    "middleage_mix_dark_female": ("middleage_darkskinned_male_diffuse", "middleage_lightskinned_female_diffuse2", False),
    "old_mix_dark_female": ("old_darkskinned_male_diffuse", "middleage_lightskinned_female_diffuse2", False),
}
DETAIL_SIGMA, LINES = 10.0, 0.8
"""Texels of the blur that detail does not survive, and how strongly lines are laid over a skin that keeps its own detail."""


def sources() -> dict[str, str]:
    """Every file of MakeHuman that is read, relative to its `data` folder, with its sha256."""
    lines = CHECKSUMS.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def check_sources(folder: Path, wanted: dict[str, str]) -> None:
    """Raises FaceExprError where a file is missing or is another one."""
    for name, digest in wanted.items():
        path = folder / name
        if not path.is_file():
            raise FaceExprError(f"{path} is missing. --makehuman wants MakeHuman's data folder, with skins, hair, eyebrows and the rest.")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise FaceExprError(f"{path} is not the file that the world was made with (its sha256 differs from {CHECKSUMS.name}).")


def build(makehuman: Path, out: Path) -> None:
    """Writes the parts folder. Raises FaceExprError where a source is missing, unreadable or another one."""
    wanted = sources()
    check_sources(makehuman, wanted)
    for name in ("skins", "hair", "brows", "lashes", "eyes", "mouth", "clothes"):
        (out / name).mkdir(parents=True, exist_ok=True)
    skins = {name: _head_of(_read(makehuman / f"skins/{folder}/{name}.png")) for name, folder in SKIN_FOLDERS.items()}
    for name, (colours, detail, own) in MIXED_SKINS.items():
        skins[name] = mixed(skins[colours], skins[detail], own)
    for name, image in skins.items():
        _write(out / f"skins/{name}.jpg", image, 93)
    for name in HAIRS:
        _write(out / f"hair/{name}.png", _grey_with_opacity(_read(makehuman / f"hair/{name}/{name}_diffuse.png"), 1024))
    for kind, folder, names in (("brows", "eyebrows/eyebrow", BROWS), ("lashes", "eyelashes/eyelashes", LASHES)):
        for name in names:
            alpha = _read(makehuman / f"{folder}{name}/{Path(folder).name}{name}.png")[..., 3]
            _write(out / f"{kind}/{name}.png", cv2.resize(alpha, (512, 512), interpolation=cv2.INTER_AREA))
    plain = [("eyes", f"eyes/materials/{name}_eye.png", name, 512) for name in EYES]
    plain += [("mouth", "teeth/teeth_base/teeth.png", "teeth", 512), ("mouth", "tongue/tongue01/tongue01_diffuse.png", "tongue", 256)]
    plain += [("clothes", f"clothes/{name}/{name}_diffuse.png", name, 768) for names in GARMENTS.values() for name in names
              if name not in PLAIN_GARMENTS]
    for kind, path, name, side in plain:
        image = cv2.resize(_read(makehuman / path)[..., :3], (side, side), interpolation=cv2.INTER_AREA)
        _write(out / f"{kind}/{name}.jpg", image, 90 if kind == "clothes" else 92)
    np.savez_compressed(out / GEOMETRY, **{  # type: ignore[arg-type]
        f"{part}.{key}": values for part, folder in part_folders().items() for key, values in cut_part(makehuman / folder).items()})
    (out / "LICENCES.md").write_text(_licences(wanted), encoding="utf-8")


def part_folders() -> dict[str, str]:
    """Part of `proxies.npz` -> its folder in MakeHuman's data."""
    folders = {"eyes": "eyes/high-poly", "teeth": "teeth/teeth_base", "tongue": "tongue/tongue01"}
    folders |= {f"hair.{name}": f"hair/{name}" for name in HAIRS} | {f"brow.{name}": f"eyebrows/eyebrow{name}" for name in BROWS}
    folders |= {f"lash.{name}": f"eyelashes/eyelashes{name}" for name in LASHES}
    return folders | {f"cloth.{name}": f"clothes/{name}" for names in GARMENTS.values() for name in names}


def mixed(colours: np.ndarray, detail: np.ndarray, keep_own: bool) -> np.ndarray:
    """uint8 [h, w, 3]: one skin with the fine relief of another, instead of its own or on top of it."""
    detail, colours = detail.astype(np.float32), colours.astype(np.float32)
    relief = np.clip((detail + 6) / (cv2.GaussianBlur(detail, (0, 0), DETAIL_SIGMA) + 6), 0.3, 2.5)
    if keep_own:
        return np.asarray(np.clip(colours * relief**LINES, 0, 255), np.uint8)
    return np.asarray(np.clip(cv2.GaussianBlur(colours, (0, 0), DETAIL_SIGMA) * relief, 0, 255), np.uint8)


def _head_of(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    u0, u1, v0, v1 = HEAD_ISLAND
    return image[round(v0 * height) : round(v1 * height), round(u0 * width) : round(u1 * width), :3]


def _grey_with_opacity(image: np.ndarray, side: int) -> np.ndarray:
    """BGRA at most `side` high; grey bleeds outwards, so that bilinear sampling meets no black fringe."""
    alpha = image[..., 3:].astype(np.float32) / 255 if image.shape[2] == 4 else np.ones((*image.shape[:2], 1), np.float32)
    grey = cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2GRAY).astype(np.float32)[..., None]
    share = min(1.0, side / image.shape[0])
    size = int(image.shape[1] * share), int(image.shape[0] * share)
    weighted, alpha = (cv2.resize(values, size, interpolation=cv2.INTER_AREA) for values in (grey * alpha, alpha))
    spread = cv2.GaussianBlur(weighted, (0, 0), 8) / (cv2.GaussianBlur(alpha, (0, 0), 8) + 1e-4)
    grey = np.clip(np.where(alpha > 0.05, weighted / (alpha + 1e-6), spread), 0, 255)
    return np.dstack([grey, grey, grey, alpha * 255]).astype(np.uint8)


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise FaceExprError(f"{path} is not a picture that can be read.")
    return image


def _write(path: Path, image: np.ndarray, quality: int | None = None) -> None:
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    if not cv2.imwrite(str(path), image, options):
        raise FaceExprError(f"{path} could not be written.")


def _licences(wanted: dict[str, str]) -> str:
    rows = "".join(f"| {name} | {digest} |\n" for name, digest in wanted.items())
    return (
        "# Licences of the parts\n\nCut and resized from MakeHuman's core assets, which their copyright holders (Data Collection AB, Joel "
        "Palmius, Jonas Hauquier) released as CC0 1.0 in September 2020; each `.mhclo` and `.mhmat` beside them carries the notice.\n\n"
        f"| file of MakeHuman's data folder | sha256 |\n|---|---|\n{rows}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--makehuman", type=Path, required=True, help="MakeHuman's data folder")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    build(arguments.makehuman, arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
