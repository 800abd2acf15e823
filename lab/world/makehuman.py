"""MakeHuman's files: `.obj` meshes and `.mhclo` fittings, cut to head and shoulders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceexpr_core.errors import FaceExprError

from .attach import AXES
from .mesh import SKIN_ABOVE, SKIN_WITHIN, head_mesh

HEADER_WORDS = {"material", "name", "obj_file", "uuid", "tag", "basemesh", "z_depth", "max_pole"}


@dataclass(frozen=True, eq=False)
class Fitting:
    """How N vertices of a part hang on the base mesh; numbers are hm08's."""

    index: np.ndarray  # [N, 3]
    weights: np.ndarray  # [N, 3]
    offsets: np.ndarray  # [N, 3]
    scale: dict[str, tuple[int, int, float]]
    deleted: np.ndarray


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [N, 3], texture places [M, 2], triangles of both [F, 3]; polygons become fans."""
    vertices: list[list[float]] = []
    places: list[list[float]] = []
    faces: list[list[int]] = []
    corners: list[list[int]] = []
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(word) for word in words[1:4]])
        elif words[0] == "vt":
            places.append([float(word) for word in words[1:3]])
        elif words[0] == "f":
            ends = [[int(number) - 1 for number in word.split("/")[:2]] for word in words[1:]]
            for k in range(1, len(ends) - 1):
                fan = (ends[0], ends[k], ends[k + 1])
                faces.append([end[0] for end in fan])
                corners.append([end[1] for end in fan])
    return np.array(vertices), np.array(places), np.array(faces), np.array(corners)


def read_fitting(path: Path) -> Fitting:
    """A `.mhclo`; some have a `material` line after `verts 0`."""
    index: list[list[int]] = []
    weights: list[list[float]] = []
    offsets: list[list[float]] = []
    deleted: list[int] = []
    scale: dict[str, tuple[int, int, float]] = {}
    mode = ""
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#") or words[0] in HEADER_WORDS:
            continue
        if words[0] in ("x_scale", "y_scale", "z_scale"):
            scale[words[0][0]] = (int(words[1]), int(words[2]), float(words[3]))
        elif words[0] in ("verts", "delete_verts"):
            mode = words[0]
        elif mode == "verts":
            try:
                numbers = [float(word) for word in words]
            except ValueError:
                mode = ""
                continue
            exact = len(numbers) == 1
            index.append([int(numbers[0])] * 3 if exact else [int(n) for n in numbers[:3]])
            weights.append([1, 0, 0] if exact else numbers[3:6])
            offsets.append([0, 0, 0] if exact else numbers[6:9])
        elif mode == "delete_verts":
            for first, last in re.findall(r"(\d+)(?:\s*-\s*(\d+))?", line):
                deleted += range(int(first), int(last or first) + 1)
    if set(scale) != {"x", "y", "z"}:
        raise FaceExprError(f"{path} names no scale for x, y and z: it is not a fitting that MakeHuman wrote.")
    return Fitting(np.array(index), np.array(weights), np.array(offsets), scale, np.array(deleted, int))


def cut_part(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a part as `attach.part_of` reads them: what lies above the shoulders of the one `.obj` and `.mhclo` in a folder."""
    meshes, fittings = sorted(folder.glob("*.obj")), sorted(folder.glob("*.mhclo"))
    if len(meshes) != 1 or len(fittings) != 1:
        raise FaceExprError(f"{folder} must hold one .obj and one .mhclo; it holds {len(meshes)} and {len(fittings)}.")
    _, places, faces, corners = read_mesh(meshes[0])
    fitting, head = read_fitting(fittings[0]), head_mesh()
    template = np.full((int(max(head.ids.max(), fitting.index.max())) + 1, 3), -1.0, np.float32)
    template[head.ids] = head.template  # what was cut off lies below everything
    at = (template[fitting.index] * fitting.weights[:, :, None]).sum(1)
    x, up, front = (abs(template[a, axis] - template[b, axis]) / distance
                    for (a, b, distance), axis in zip((fitting.scale[k] for k in "xyz"), AXES, strict=True))
    at = at + np.stack([fitting.offsets[:, 0] * x, -fitting.offsets[:, 2] * front, fitting.offsets[:, 1] * up], 1)
    whole = (np.isin(fitting.index, head.ids) | (fitting.weights == 0)).all(1)
    kept = (at[faces][:, :, 2] > SKIN_ABOVE).all(1) & (np.abs(at[faces][:, :, 0]) < SKIN_WITHIN).all(1) & whole[faces].all(1)
    used, triangles = np.unique(faces[kept], return_inverse=True)
    uv = np.stack([places[corners[kept]][..., 0], 1 - places[corners[kept]][..., 1]], -1)
    return {
        "idx": fitting.index[used].astype(np.uint16), "w": fitting.weights[used].astype(np.float32),
        "off": fitting.offsets[used].astype(np.float32), "tri": triangles.reshape(-1, 3).astype(np.uint16),
        "uv": (uv.clip(0, 1) * 65535).round().astype(np.uint16),
        "scale": np.array([fitting.scale[k] for k in "xyz"], np.float32), "delete": fitting.deleted.astype(np.uint16),
    }
