"""MakeHuman's parts on a head: every vertex of a part hangs on three base vertices, as its `.mhclo` says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from .mesh import HeadMesh

AXES = (0, 2, 1)
"""MakeHuman's x, y (up), z (to the front) are our x, z, -y."""


@dataclass(frozen=True, eq=False)
class Part:
    """N vertices, F triangles."""

    weights: sp.csr_matrix  # [N, V]
    offsets: np.ndarray  # [N, 3] MakeHuman's axes, before scaling
    scale: np.ndarray  # [3, 3] for x, y, z: two base vertices and their distance on the part's own head
    triangles: np.ndarray  # [F, 3]
    uv: np.ndarray  # [F, 3, 2], v from the top
    deleted: np.ndarray  # base vertices that the part hides

    @property
    def count(self) -> int:
        return int(self.weights.shape[0])


def part_of(stored: dict[str, np.ndarray], mesh: HeadMesh) -> Part:
    """A part from its arrays in `proxies.npz`; vertex numbers are hm08's."""
    index = mesh.index(stored["idx"].astype(np.int64))
    count = len(index)
    weights = sp.csr_matrix((stored["w"].ravel().astype(np.float32), (np.repeat(np.arange(count), 3), index.ravel())),
                            shape=(count, len(mesh.template)))
    scale = stored["scale"].astype(np.float64)
    scale[:, :2] = mesh.index(scale[:, :2].astype(np.int64))
    hidden = stored.get("delete", np.zeros(0, np.int64)).astype(np.int64)
    return Part(weights, stored["off"], scale, stored["tri"].astype(np.int32), stored["uv"].astype(np.float32) / 65535,
                mesh.index(hidden[np.isin(hidden, mesh.ids)]))


def placed(part: Part, vertices: np.ndarray) -> np.ndarray:
    """float32 [N, 3] the part on a head of base vertices [V, 3]."""
    x, up, front = (abs(vertices[int(a), axis] - vertices[int(b), axis]) / distance
                    for (a, b, distance), axis in zip(part.scale, AXES, strict=True))
    offsets = part.offsets * np.array([x, up, front], np.float32)
    return np.asarray(part.weights @ vertices + np.stack([offsets[:, 0], -offsets[:, 2], offsets[:, 1]], 1), np.float32)
