"""Hair: MakeHuman's sheets as grey relief with opacity, and shells of strands for buzz cuts, curls and beards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .assets import Parts
from .attach import Part, placed
from .covers import HEADSCARF, edge_of
from .identity import Person
from .maps import beard_map, hairline, noise, smooth
from .mesh import HEAD, head_mesh

STRAND_REPEATS = (4.67, 8.83)
"""How often the strand texture repeats over the head's island."""
LIGHTER = {"long01": 0.80, "bob02": 0.86, "braid01": 0.92, "ponytail01": 0.95}
"""Sheets are drawn to the head by this much of their distance: MakeHuman's stand off like helmets."""


@dataclass(frozen=True, eq=False)
class Shell:
    """Layers of see-through skin pushed outwards: strands are a noise that thins with the layer."""

    used: np.ndarray  # [M] subdivided skin vertices
    triangles: np.ndarray  # [F, 3] of them
    uv: np.ndarray  # [F, 3, 2]
    density: np.ndarray  # [M] 0..1
    length: float  # metres
    droop: float  # metres downwards at the tips
    layers: int
    frizz: float
    beard: bool


@lru_cache(maxsize=16)
def sheet_texture(parts: Parts, style: str, detail: float) -> np.ndarray:
    """uint8 [h, w, 4]: relief about its median 118, and opacity."""
    image = parts.picture(f"hair/{style}.png")
    grey, alpha = image[..., 0].astype(np.float32), image[..., 3] if image.shape[2] == 4 else image[..., 1]
    if detail < 1:
        grey, alpha = (cv2.resize(channel, None, fx=detail, fy=detail, interpolation=cv2.INTER_AREA) for channel in (grey, alpha))
    solid = alpha > 60
    median = np.median(grey[solid])
    _, high = np.log((np.percentile(grey[solid], [10, 95]) + 8) / (median + 8))
    grey = 118 * np.exp(np.clip(np.log((grey + 8) / (median + 8)) * min(1.0, 0.62 / (high + 1e-3)), -0.95, 0.7))
    grey = grey * np.clip(grey / (cv2.GaussianBlur(grey, (0, 0), 5 * grey.shape[0] / 1024) + 4), 0.6, 1.6) ** 1.3
    grey = np.clip(grey, 14, 255).astype(np.uint8)
    return np.dstack([grey, grey, grey, alpha])


def sheet_points(part: Part, person: Person, vertices: np.ndarray) -> np.ndarray:
    """float32 [N, 3] the sheets on the neutral head."""
    keep = LIGHTER.get(person.hair_style, 1.0)
    drawn = Part(part.weights, part.offsets * keep, part.scale, part.triangles, part.uv, part.deleted)
    points = placed(drawn, vertices)
    return points * np.array([-1, 1, 1], np.float32) if person.hair_flipped else points


def sheet_fade(part: Part, person: Person, cover: str) -> np.ndarray:
    """float32 [N] 0..1: hair in front of the face ends above the brows, and under a hat."""
    mesh = head_mesh()
    place = placed(part, mesh.template)
    x, y, z = np.abs(place[:, 0]), place[:, 1], place[:, 2]
    line = 0.768 + 0.020 * smooth(x, 0.035, 0.065)
    fade = 1 - smooth(line - z, -0.004, 0.008) * smooth(-y, 0.100, 0.118) * smooth(-x, -0.072, -0.060)
    if cover != "none":
        fade = fade * smooth(-edge_of(place, cover), -0.002, 0.008) * smooth(-z, -0.80, -0.79)
    return np.asarray(fade, np.float32)


def tangents_of(points: np.ndarray, triangles: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """[N, 3] the way of growing v over the triangles: strands run along it."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    area = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    area = np.where(np.abs(area) < 1e-9, 1e-9, area)
    along = (-d2[:, :1] * (b - a) + d1[:, :1] * (c - a)) / area[:, None]
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    summed = np.zeros_like(points)
    np.add.at(summed, triangles.ravel(), np.repeat(along, 3, 0))
    return np.asarray(summed / (np.linalg.norm(summed, axis=1, keepdims=True) + 1e-9), np.float32)


def shells_of(person: Person, cover: str) -> list[Shell]:
    """The shells that a person's hair and beard need under a cover."""
    mesh = head_mesh()
    place, found = mesh.canonical, []
    above = hairline(place, person.hairline, person.peak)
    under = smooth(-edge_of(place, cover), -0.001, 0.004) if cover != "none" else 1.0
    if cover != HEADSCARF and person.hair_style == "afro":
        found.append(_shell(smooth(above, -0.001, 0.014) * 0.97 * under, 0.012 + 0.022 * person.hair_length, 0.0, 12, 0.012, False))
    if cover != HEADSCARF and person.hair_style == "buzz":
        found.append(_shell(smooth(above, -0.002, 0.012) * 0.95 * under, 0.005 + 0.004 * person.hair_length, 0.0, 6, 0.0, False))
    if person.beard in ("full", "goatee", "moustache"):
        grown = beard_map(place, person.beard) * (1 - np.clip(mesh.lips * 1.6, 0, 1)) * (1 - mesh.cavity)
        grown = grown * (1 - np.clip(2 * mesh.ears, 0, 1)) * smooth(-place[:, 1], 0.052, 0.07)
        found.append(_shell(grown, person.beard_length, person.beard_length * 0.5, 6, 0.0, True))
    return [shell for shell in found if len(shell.triangles)]


@lru_cache(maxsize=1)
def strand_texture() -> np.ndarray:
    """uint8 [256, 256, 3] that repeats: ranks of fine noise (where strands stand) and of coarser noise (their tone)."""
    rng = np.random.default_rng(5)
    fine, coarse = noise((256, 256), 0.7, rng), noise((256, 256), 1.5, rng)
    ranks = [np.argsort(np.argsort(n.ravel())).reshape(n.shape) / n.size for n in (fine, coarse, coarse)]
    return np.asarray(np.dstack(ranks) * 255, np.uint8)


def _shell(density: np.ndarray, length: float, droop: float, layers: int, frizz: float, beard: bool) -> Shell:
    mesh = head_mesh()
    chosen = (density[mesh.triangles] > 0.03).any(1) & (mesh.island == HEAD)
    used, triangles = np.unique(mesh.triangles[chosen], return_inverse=True)
    uv = mesh.uv[chosen] * np.array(STRAND_REPEATS, np.float32)
    return Shell(used, triangles.reshape(-1, 3).astype(np.int32), uv, density[used].astype(np.float32), length, droop, layers, frizz, beard)
