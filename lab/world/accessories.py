"""Glasses and earrings, made by code on a neutral head."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .mesh import head_mesh

Mesh = tuple[np.ndarray, np.ndarray]
"""float32 [N, 3] points and int32 [F, 3] triangles."""

SHAPES = {"round": (0.0225, 0.0215, 2.0, 0.0009), "square": (0.0265, 0.018, 4.5, 0.0021), "thin": (0.025, 0.0185, 3.0, 0.0009),
          "wide": (0.0275, 0.021, 3.2, 0.0021)}
"""Half width and height in metres, exponent of the outline, thickness."""
TILT = 0.12
"""How far glasses lean forward at the top, so that brows do not poke through."""
METALS = {"gold": (0.85, 0.60, 0.25), "silver": (0.75, 0.75, 0.78)}


def glasses(vertices: np.ndarray, kind: str) -> tuple[Mesh, Mesh]:
    """Frame and lenses on the neutral head of base vertices [V, 3]."""
    mesh = head_mesh()
    half_width, half_height, power, thickness = SHAPES[kind]
    centres = [vertices[eye].mean(0) for eye in mesh.eyes]
    skin = vertices[mesh.skin_base]
    bridge = skin[:, 1][(np.abs(skin[:, 0]) < 0.02) & (np.abs(skin[:, 2] - centres[0][2]) < 0.006)].min() + 0.002
    front = min(bridge, *(float(c[1]) - 0.019 for c in centres))

    def bent(x: np.ndarray) -> np.ndarray:
        return np.asarray(front + 0.006 * (np.abs(x) / 0.06) ** 2)

    angle = np.linspace(0, 2 * np.pi, 41)[:-1]
    cosine, sine = np.cos(angle), np.sin(angle)
    reach = (np.abs(cosine) ** power + np.abs(sine) ** power) ** (-1 / power)
    paths, rims = [], []
    for c in centres:
        side = float(np.sign(c[0]))
        middle = float(c[0]) + side * 0.0015
        x = middle + half_width * reach * cosine
        rise = half_height * reach * sine * (1 - 0.10 * (sine < 0))
        rim = np.stack([x, bent(x) - TILT * rise, c[2] - 0.002 + rise], 1)
        rims.append(rim)
        paths.append((rim, True))
        outer, height = float(c[0]) + side * half_width, float(c[2])
        paths.append((np.array([[outer, float(bent(np.array(outer))), height + 0.004], [side * 0.0735, front + 0.016, height + 0.0045],
                                [side * 0.0785, front + 0.06, height + 0.0045], [side * 0.0785, front + 0.105, height + 0.003]]), False))
    left, right = centres
    paths.append((np.array([[left[0] + 0.0015 - half_width, front, left[2] + 0.002], [0.004, front - 0.002, left[2] + 0.0055],
                            [-0.004, front - 0.002, left[2] + 0.0055], [right[0] - 0.0015 + half_width, front, right[2] + 0.002]]), False))
    frame = _merged([tube(path, thickness, closed) for path, closed in paths])
    return frame, _merged([_disc(rim) for rim in rims])


def tube(path: np.ndarray, radius: float, closed: bool, sides: int = 6) -> Mesh:
    """A wire along a path [P, 3]."""
    along = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    up = np.where(np.abs(along[:, 1:2]) > 0.7, [[0.0, 0, 1]], [[0.0, 1, 0]])
    first = np.cross(along, up)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(first, along)
    turn = np.arange(sides) * 2 * np.pi / sides
    ring = np.cos(turn)[None, :, None] * first[:, None] + np.sin(turn)[None, :, None] * second[:, None]
    points = (path[:, None] + radius * ring).reshape(-1, 3)
    count = len(path)
    i, m = np.meshgrid(np.arange(count if closed else count - 1), np.arange(sides), indexing="ij")
    a, b = i * sides + m, i * sides + (m + 1) % sides
    c, d = (i + 1) % count * sides + m, (i + 1) % count * sides + (m + 1) % sides
    triangles = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    return points.astype(np.float32), triangles.astype(np.int32)


def earrings(vertices: np.ndarray, kind: str) -> Mesh:
    """Studs or hoops at the lobes of the neutral head."""
    pieces = []
    for lobe, side in zip(_lobes(), (1.0, -1.0), strict=True):
        at = vertices[lobe] + np.array([side * 0.003, -0.003, 0.004])
        if kind == "studs":
            pieces.append(_ball(at, 0.0036))
        else:
            turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
            across = np.array([side * 0.75, -0.66, 0.0])
            radius = 0.0125
            circle = np.cos(turn)[:, None] * across + np.sin(turn)[:, None] * np.array([0, 0, 1.0])
            ring = at + np.array([side * 0.002, -0.001, -radius]) + radius * circle
            pieces.append(tube(ring, 0.0013, closed=True))
    return _merged(pieces)


@lru_cache(maxsize=1)
def _lobes() -> tuple[int, int]:
    """The base vertices at the lowest point of the left and the right ear."""
    mesh = head_mesh()
    rows = len(mesh.skin_base)
    place, ears = mesh.canonical[:rows], mesh.ears[:rows]
    found = []
    for side in (1, -1):
        ear = np.flatnonzero((ears > 0.4) & (side * place[:, 0] > 0.06))
        found.append(int(mesh.skin_base[ear[np.argmin(place[ear, 2])]]))
    return found[0], found[1]


def _ball(at: np.ndarray, radius: float) -> Mesh:
    a, b = np.meshgrid(np.linspace(0, np.pi, 7), np.linspace(0, 2 * np.pi, 11), indexing="ij")
    points = at + radius * np.stack([np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(6), np.arange(10), indexing="ij")
    p = i * 11 + j
    triangles = np.concatenate([np.stack([p, p + 11, p + 1], -1).reshape(-1, 3), np.stack([p + 1, p + 11, p + 12], -1).reshape(-1, 3)])
    return points.astype(np.float32), triangles.astype(np.int32)


def _disc(rim: np.ndarray) -> Mesh:
    count = len(rim)
    points = np.concatenate([[rim.mean(0) - np.array([0, 0.0015, 0])], rim])
    i = np.arange(count)
    return points.astype(np.float32), np.stack([np.zeros(count), 1 + i, 1 + (i + 1) % count], 1).astype(np.int32)


def _merged(pieces: list[Mesh]) -> Mesh:
    starts = np.cumsum([0] + [len(points) for points, _ in pieces[:-1]])
    return (np.concatenate([points for points, _ in pieces]),
            np.concatenate([triangles + start for (_, triangles), start in zip(pieces, starts, strict=True)]).astype(np.int32))
