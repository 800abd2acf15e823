"""Hats and headscarves: the skin of the head, smoothed over the ears, pushed outwards, cut along a line; visors and brims beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg

from .maps import hat_line, noise, scarf_edge, smooth
from .mesh import CAVITY, head_mesh, normals_of, skin_incidence

HATS = ("knit cap", "baseball cap", "brimmed hat")
HEADSCARF = "headscarf"
HIDDEN_BEYOND = 0.007
"""Metres inside a cover from which on the skin below is not drawn."""


@dataclass(frozen=True, eq=False)
class Cover:
    """A cover on one head: C vertices over skin vertices `used`, and vertices of a visor or brim after them (static)."""

    points: np.ndarray  # [C + D, 3]
    triangles: np.ndarray
    uv: np.ndarray  # [F, 3, 2]
    used: np.ndarray  # [C] subdivided skin vertices below
    follows: bool  # moves with the skin below
    texture: np.ndarray  # uint8 [h, w, 3], repeats


def edge_of(place: np.ndarray, kind: str) -> np.ndarray:
    """Metres inside a cover of template places [..., 3]; negative outside."""
    if kind != HEADSCARF:
        return hat_line(place, kind)
    return np.asarray(np.where(place[..., 2] > 0.512 + 0.25 * np.maximum(np.abs(place[..., 0]) - 0.085, 0), scarf_edge(place), -0.01))


def hidden_skin(kind: str) -> np.ndarray:
    """bool [F] triangles of the skin that lie well inside a cover."""
    mesh = head_mesh()
    return np.asarray((edge_of(mesh.canonical, kind) > HIDDEN_BEYOND)[mesh.triangles].all(1))


def cover_on(kind: str, skin: np.ndarray, seed: int) -> Cover:
    """A cover on the neutral skin [S, 3] of a head."""
    mesh = head_mesh()
    inside = edge_of(mesh.canonical, kind)
    rounded = _rounded(skin)
    normals = normals_of(rounded, mesh.triangles, skin_incidence())
    chosen = (inside[mesh.triangles] > 0).any(1) & (mesh.island != CAVITY) & (mesh.canonical[mesh.triangles][..., 2] > 0.505).all(1)
    used, triangles = np.unique(mesh.triangles[chosen], return_inverse=True)
    triangles = triangles.reshape(-1, 3).astype(np.int32)
    depth, place = inside[used], mesh.canonical[used]
    points = rounded[used] + normals[used] * _thickness(kind, depth, place, seed)[:, None]
    if kind != HEADSCARF:
        points[:, 2] += np.clip(-depth, 0, 0.012)  # the lower edge runs along the line, not along the mesh
    else:
        points = _draped(points + _towards_edge(place, depth), place, depth)
    uv = _wrapped(place, triangles, kind)
    if kind == "baseball cap":
        points, triangles, uv = _joined(points, triangles, uv, *_visor(points, depth))
    if kind == "brimmed hat":
        points, triangles, uv = _joined(points, triangles, uv, *_brim(points, depth))
    return Cover(points.astype(np.float32), triangles, uv, used, kind == HEADSCARF, _texture(kind))


def _towards_edge(place: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Steps [C, 3] that bring the vertices beyond a scarf's edge onto it, so that the edge is no saw."""
    step = 1e-4
    slope = np.stack([(scarf_edge(place + step * axis) - scarf_edge(place - step * axis)) / (2 * step) for axis in np.eye(3)], 1)
    slope /= np.linalg.norm(slope, axis=1, keepdims=True) ** 2 + 1e-6
    return np.asarray(slope * np.clip(-depth, 0, 0.012)[:, None])


def _draped(points: np.ndarray, place: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Below the ears the cloth hangs as wide as the head instead of following the neck."""
    level = (place[:, 2] > 0.70) & (place[:, 2] < 0.76)
    half_width = float(np.abs(points[level, 0]).max())
    across, along = points[:, 0], points[:, 1] + 0.03
    reach, turn = np.hypot(across, along), np.abs(np.arctan2(across, -along))
    wanted = np.interp(turn, [0.0, 0.5, 1.2, np.pi], [0.80, 0.86, 1.02, 1.0]) * half_width
    wanted = wanted * smooth(-place[:, 2], -0.715, -0.675) * smooth(depth, 0.002, 0.014)
    grown = np.maximum(reach, wanted) / (reach + 1e-9)
    return np.stack([across * grown, along * grown - 0.03, points[:, 2]], 1)


def _thickness(kind: str, depth: np.ndarray, place: np.ndarray, seed: int) -> np.ndarray:
    rise = smooth(depth, -0.002, 0.006)
    if kind == "knit cap":
        return np.asarray(0.002 + 0.008 * rise + 0.0045 * rise * smooth(-depth, -0.034, -0.030) + 0.006 * smooth(depth, 0.05, 0.12))
    if kind == "baseball cap":
        return np.asarray(0.003 + 0.006 * rise + 0.012 * smooth(depth, 0.01, 0.06))
    if kind == "brimmed hat":
        return np.asarray(0.003 + 0.007 * rise + 0.030 * smooth(depth, 0.015, 0.05) - 0.01 * smooth(depth, 0.06, 0.1))
    rng = np.random.default_rng([61, seed])
    y, z = place[:, 1], place[:, 2]
    turn = np.arctan2(place[:, 0], -(y + 0.03))
    folds = sum(np.sin(rng.uniform(90, 190) * z + rng.uniform(-3, 3) * turn + rng.uniform(0, 6.3)) for _ in range(3)) / 3
    across = sum(np.sin(rng.uniform(4, 11) * turn + rng.uniform(-60, 60) * z + rng.uniform(0, 6.3)) for _ in range(3)) / 3
    drape = smooth(-z, -0.655, -0.565)
    return np.asarray(0.004 + 0.009 * smooth(depth, -0.001, 0.012) + (0.032 * drape + 0.005 * folds * drape) * smooth(depth, 0, 0.02)
                      + 0.0022 * across * smooth(depth, 0.004, 0.02) + 0.008 * smooth(z, 0.77, 0.83)
                      + 0.012 * smooth(-z, -0.70, -0.62) * smooth(y, -0.06, 0.02))


@lru_cache(maxsize=1)
def _neighbours() -> sp.csr_matrix:
    """[S, S] 1 between neighbouring skin vertices."""
    mesh = head_mesh()
    t = mesh.triangles
    pairs = np.concatenate([t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 0]]])
    count = len(mesh.canonical)
    joined = sp.csr_matrix((np.ones(len(pairs), np.float32), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    joined = joined + joined.T
    joined.data[:] = 1
    return joined


@lru_cache(maxsize=1)
def _ear_filler():
    """The vertices of the ears, the matrix of their outer neighbours and a solver of Laplace's equation over them."""
    mesh, joined = head_mesh(), _neighbours()
    near = mesh.ears > 0.08
    for _ in range(2):
        near = near | (joined @ near.astype(np.float32) > 0)
    ear = np.flatnonzero(near)
    degree = np.asarray(joined.sum(1)).ravel()
    rows = joined[ear]
    inner = sp.diags(degree[ear]) - rows[:, ear]
    outer = (rows @ sp.diags((~near).astype(np.float32))).tocsr()
    return ear, outer, scipy.sparse.linalg.factorized(inner.tocsc().astype(np.float64))


def _rounded(skin: np.ndarray) -> np.ndarray:
    """[S, 3] the skin with the ears filled flat and all of it smoothed a little."""
    ear, outer, solve = _ear_filler()
    points = skin.astype(np.float64).copy()
    known = outer @ points
    points[ear] = np.stack([solve(np.ascontiguousarray(known[:, k])) for k in range(3)], 1)
    joined = _neighbours()
    degree = np.asarray(joined.sum(1)).ravel()[:, None]
    for _ in range(6):
        points = 0.4 * points + 0.6 * (joined @ points) / degree
    return np.asarray(points, np.float32)


def _wrapped(place: np.ndarray, triangles: np.ndarray, kind: str) -> np.ndarray:
    """[F, 3, 2]: round the head and upwards."""
    turn = np.arctan2(place[:, 0], -(place[:, 1] + 0.03)) / (2 * np.pi)
    u = turn[triangles]
    u = np.where((u.max(1) - u.min(1) > 0.5)[:, None] & (u < 0), u + 1, u)
    v = (0.9 - place[:, 2])[triangles]
    scale = {"knit cap": (44.0, 70.0), "baseball cap": (6.0, 12.0), "brimmed hat": (8.0, 16.0), HEADSCARF: (5.0, 8.0)}[kind]
    return np.stack([u * scale[0], v * scale[1]], -1).astype(np.float32)


def _joined(points, triangles, uv, more_points, more_triangles, more_uv):
    return (np.concatenate([points, more_points]), np.concatenate([triangles, more_triangles + len(points)]).astype(np.int32),
            np.concatenate([uv, more_uv]).astype(np.float32))


def _grid(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """Triangles of a grid of points in rows."""
    last = columns if closed else columns - 1
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(last), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])


def _visor(points: np.ndarray, depth: np.ndarray):
    edge = points[(depth < 0.004) & (points[:, 1] < -0.06)]
    edge = edge[np.argsort(edge[:, 0])]
    t = np.linspace(-1, 1, 25)
    across = 0.068 * t
    base = np.stack([across, np.interp(across, edge[:, 0], edge[:, 1]), np.interp(across, edge[:, 0], edge[:, 2])], 1)
    base[:, 1] = np.minimum(np.polyval(np.polyfit(across, base[:, 1], 4), across), base[:, 1]) + 0.003
    base[:, 2] = np.polyval(np.polyfit(across, base[:, 2], 2), across) + 0.004
    rows = []
    for s in np.linspace(0, 1, 8):
        row = base.copy()
        row[:, 1] -= s * 0.066 * (1 - 0.55 * np.abs(t) ** 3)
        row[:, 0] *= 1 - 0.10 * s
        row[:, 2] -= s * (0.010 + 0.012 * t**2) - 0.004 * np.sin(np.pi * s)
        rows.append(row)
    triangles = _grid(len(rows), len(t))
    return np.concatenate(rows), triangles, np.full((len(triangles), 3, 2), 0.3)


def _brim(points: np.ndarray, depth: np.ndarray):
    centre = np.array([0.0, -0.03])
    edge = points[depth < 0.004]
    angle = np.arctan2(edge[:, 0] - centre[0], -(edge[:, 1] - centre[1]))
    order = np.argsort(angle)
    t = np.linspace(-np.pi, np.pi, 72, endpoint=False)
    reach = np.hypot(edge[order, 0] - centre[0], edge[order, 1] - centre[1])
    radius = np.interp(t, angle[order], reach, period=2 * np.pi)
    height = np.interp(t, angle[order], edge[order, 2], period=2 * np.pi)
    kernel = np.ones(9) / 9
    radius, height = (np.convolve(np.tile(v, 3), kernel, "same")[72:144] for v in (radius, height))
    rows = []
    for s in np.linspace(0, 1, 8):
        r = radius - 0.003 + s * 0.062
        lift = 0.012 * s**2 * np.abs(np.sin(t)) - 0.006 * s
        rows.append(np.stack([centre[0] + r * np.sin(t), centre[1] - r * np.cos(t), height + 0.004 + lift], 1))
    triangles = _grid(len(rows), len(t), closed=True)
    return np.concatenate(rows), triangles, np.full((len(triangles), 3, 2), 0.3)


@lru_cache(maxsize=4)
def _texture(kind: str) -> np.ndarray:
    """uint8 [64, 64, 3] grey relief of the cloth, about 200."""
    rng = np.random.default_rng([62, len(kind)])
    y, x = np.mgrid[0:64, 0:64] / 64.0
    if kind == "knit cap":
        relief = 175 + 45 * np.abs(np.sin(np.pi * x)) + 16 * np.sin(2 * np.pi * (2 * y + np.abs(x - 0.5)))
    else:
        relief = 195 + 7 * noise((64, 64), 0.7, rng) + 5 * noise((64, 64), 6, rng)
    return np.asarray(np.clip(np.dstack([relief] * 3), 0, 255), np.uint8)
