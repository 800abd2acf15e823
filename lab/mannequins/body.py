"""A head without expression, ready to be moved by facial units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from .heads import Head, head_vertices
from .mesh import HeadMesh, head_mesh

BROW_POINT, CHIN_POINT = (0.030, -0.147, 0.750), (0.0, -0.1403, 0.6177)
"""Metres in the template."""


@dataclass(frozen=True, eq=False)
class Body:
    """V vertices and F triangles, with attributes of the vertices."""

    vertices: np.ndarray  # [V, 3] metres
    unit_shapes: np.ndarray  # [52, V, 3]
    triangles: np.ndarray  # [F, 3]
    material: np.ndarray  # [F]
    canonical: np.ndarray  # [V, 3] place in the template, for painting; eyeballs: direction from their centre
    masks: np.ndarray  # [V, 3] lips, cavity, lids
    centre: np.ndarray  # [3] pivot of the head


def body_of(head: Head) -> Body:
    """The head's skin is lifted by its hair where that grows."""
    mesh = head_mesh()
    vertices = head_vertices(head)
    normals = _incidence(mesh.triangles, len(vertices)) @ _cross(vertices, mesh.triangles)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    on_scalp = np.zeros(len(vertices), bool)
    on_scalp[mesh.skin_vertices] = True
    vertices = vertices + (head.hair_volume * _smooth(hair(mesh.template, head), 0.0, 0.03) * on_scalp)[:, None] * normals

    canonical = mesh.template.copy()
    for eye in mesh.eye_vertices:
        offset = mesh.template[eye] - mesh.template[eye].mean(0)
        canonical[eye] = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    brow, chin = (vertices[_nearest(mesh, point)] for point in (BROW_POINT, CHIN_POINT))
    centre = np.array([0.0, np.mean([vertices[eye, 1].mean() for eye in mesh.eye_vertices]) + 0.06, (brow[2] + chin[2]) / 2])
    return Body(
        vertices=vertices.astype(np.float32),
        unit_shapes=mesh.unit_shapes,
        triangles=mesh.triangles,
        material=mesh.material,
        canonical=canonical,
        masks=np.stack([mesh.lips, mesh.cavity, mesh.lids], 1),
        centre=centre.astype(np.float32),
    )


def hair(place: np.ndarray, head: Head) -> np.ndarray:
    """Metres above the hairline at a place [..., 3] of the template; negative on bare skin."""
    x, y, z = np.abs(place[..., 0]), place[..., 1], place[..., 2]
    line = np.interp(y, [-0.155, -0.125, -0.100, -0.080, -0.055, -0.03, 0.0, 0.04], [0.795, 0.793, 0.780, 0.750, 0.715, 0.70, 0.66, 0.63])
    front = _smooth(-y, 0.08, 0.12)
    line = line + front * (head.hairline - head.peak * np.exp(-((x / 0.018) ** 2)))
    ear = (x > 0.0735) & (z < 0.745) & (y < 0.02)
    return np.where(ear, -0.01, z - line)


def _cross(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = vertices[triangles[:, 0]], vertices[triangles[:, 1]], vertices[triangles[:, 2]]
    return np.cross(b - a, c - a)


def _incidence(triangles: np.ndarray, vertex_count: int) -> scipy.sparse.csr_matrix:
    faces = np.repeat(np.arange(len(triangles)), 3)
    ones = np.ones(len(faces), np.float32)
    return scipy.sparse.csr_matrix((ones, (triangles.ravel(), faces)), shape=(vertex_count, len(triangles)))


def _nearest(mesh: HeadMesh, point: tuple[float, float, float]) -> int:
    return int(np.argmin(np.linalg.norm(mesh.template - np.array(point), axis=1)))


def _smooth(value: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
