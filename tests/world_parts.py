"""A parts folder of the world's form, made of plain colours and patches of the head itself, so that tests need no asset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lab.world.assets import GEOMETRY, geometry_names, picture_names
from lab.world.mesh import HeadMesh, head_mesh

SIDES = {"skins": (452, 240), "hair": (32, 32), "brows": (32, 32), "lashes": (32, 32), "eyes": (32, 32), "mouth": (16, 16),
         "clothes": (16, 16)}
COLOURS = {"skins": (150, 175, 205), "eyes": (60, 80, 110), "mouth": (200, 210, 220), "clothes": (120, 120, 120)}  # BGR


def make_parts(folder: Path) -> Path:
    """Writes every picture and every part's geometry; returns the folder."""
    for name in picture_names():
        kind = name.split("/")[0]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        height, width = SIDES[kind]
        if kind in COLOURS:
            image = np.full((height, width, 3), COLOURS[kind], np.uint8)
        else:
            opaque = np.full((height, width, 4), (120, 120, 120, 255), np.uint8)
            image = opaque if kind == "hair" else opaque[..., 3]
        assert cv2.imwrite(str(folder / name), image)
    mesh = head_mesh()
    arrays: dict[str, Any] = {f"{part}.{key}": values for part in geometry_names() for key, values in _patch(mesh, part).items()}
    np.savez(folder / GEOMETRY, **arrays)
    return folder


def _patch(mesh: HeadMesh, part: str) -> dict[str, np.ndarray]:
    """Triangles of the head's own skin or eyes, lifted a little where they would lie in it."""
    place = mesh.template[mesh.coarse].mean(1)
    front, z, x = place[:, 1] < -0.12, place[:, 2], np.abs(place[:, 0])
    if part == "eyes":
        triangles = np.array([[eye[k], eye[k + 1], eye[(k + 35) % 70]] for eye in mesh.eyes for k in range(0, 68, 2)])
    else:
        heights = {"hair": (0.82, 0.9), "brow": (0.748, 0.756), "lash": (0.725, 0.731), "teeth": (0.664, 0.672), "tongue": (0.655, 0.665),
                   "cloth": (0.4, 0.5)}
        kind = part.split(".")[0]
        low, high = heights[kind]
        chosen = (z > low) & (z < high)
        if kind not in ("hair", "cloth"):
            chosen &= front & (x < 0.05) & ((x > 0.012) if kind in ("brow", "lash") else (x < 0.015))
        triangles = mesh.coarse[chosen]
    used, corners = np.unique(triangles, return_inverse=True)
    index, count = mesh.ids[used], len(used)
    offsets = np.zeros((count, 3), np.float32)
    if part.startswith("hair"):
        offsets[:, 1] = 0.01
    if part.startswith(("teeth", "tongue")):
        offsets[:, 2] = -0.02
    skin = mesh.template[mesh.skin_base]
    ends = mesh.skin_base[[int(skin.sum(1).argmin()), int(skin.sum(1).argmax())]]
    (a, b), far = mesh.ids[ends], np.abs(mesh.template[ends[0]] - mesh.template[ends[1]])
    return {
        "idx": np.repeat(index[:, None], 3, 1).astype(np.uint16), "w": np.tile(np.array([1, 0, 0], np.float32), (count, 1)), "off": offsets,
        "tri": corners.reshape(-1, 3).astype(np.uint16), "uv": np.full((len(triangles), 3, 2), 20000, np.uint16),
        "scale": np.array([[a, b, far[0]], [a, b, far[2]], [a, b, far[1]]], np.float32),
    }
