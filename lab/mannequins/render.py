"""A picture of a head: z-buffer in warp on the CPU, then shading in numpy at two samples a pixel side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
import scipy.sparse
import scipy.spatial
import warp as wp

from .heads import Colour, Head, head_vertices
from .mesh import EYE, LASH, SKIN, TEETH, TONGUE, HeadMesh, head_mesh

SUPERSAMPLING = 2
BACKGROUNDS: dict[str, Colour] = {
    "red": (0.75, 0.15, 0.14),
    "green": (0.20, 0.58, 0.24),
    "blue": (0.16, 0.32, 0.78),
    "grey": (0.50, 0.50, 0.50),
    "white": (0.94, 0.94, 0.94),
    "yellow": (0.93, 0.80, 0.20),
    "purple": (0.50, 0.22, 0.65),
    "teal": (0.10, 0.58, 0.60),
}
PART_BACKGROUND, PART_SKIN, PART_HAIR, PART_EYE, PART_BROW, PART_MOUTH, PART_OTHER = range(7)

# Framing, in fractions of the picture's height, for scale 1.
BROW_TO_CHIN = 0.58
BROW_FROM_TOP = 0.29
BROW_POINT, CHIN_POINT = (0.030, -0.147, 0.750), (0.0, -0.1403, 0.6177)  # metres in the template


@dataclass(frozen=True)
class Scene:
    """Everything about a picture that is neither the person nor the expression. Degrees; shifts in picture heights."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    gaze: tuple[float, float] = (0.0, 0.0)  # to the person's left, up: -1..1
    light_azimuth: float = 30.0  # degrees to the right of the picture
    light_elevation: float = 35.0
    key: float = 0.8
    ambient: float = 0.35
    warmth: float = 0.0  # -1 cold .. 1 warm
    background: Colour = BACKGROUNDS["grey"]
    gradient: float = 0.0  # brightness change from top to bottom
    clothes: Colour = (0.25, 0.28, 0.34)
    glasses_colour: Colour = (0.06, 0.05, 0.05)


@dataclass(frozen=True)
class _Body:
    """A neutral head ready to be deformed: vertices [V, 3], triangles [F, 3], vertex attributes."""

    vertices: np.ndarray
    unit_shapes: np.ndarray  # [52, V, 3]
    triangles: np.ndarray
    material: np.ndarray  # [F]
    incidence: scipy.sparse.csr_matrix  # [V, F]
    canonical: np.ndarray  # [V, 3] place in the template, for painting; eyeballs: direction from their centre
    masks: np.ndarray  # [V, 3] lips, cavity, lids
    centre: np.ndarray  # [3] pivot of the head
    brow_height: float
    face_height: float


GLASSES, LONG_HAIR = 10, 11  # materials beside those of the mesh


def render(head: Head, weights: Mapping[str, float], scene: Scene, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [size, size, 3] RGB and uint8 [size, size] of the PART_ numbers."""
    body = _body(head)
    samples = size * SUPERSAMPLING
    vertices = _deformed(body, weights, scene)
    vertices = (vertices - body.centre) @ _rotation(scene).T
    face_normals = _cross(vertices, body.triangles)
    normals = body.incidence @ face_normals
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12

    unit = BROW_TO_CHIN * samples * scene.scale / body.face_height
    x = samples * (0.5 + scene.shift[0]) + vertices[:, 0] * unit
    y = samples * (BROW_FROM_TOP + scene.shift[1]) + (body.brow_height - body.centre[2] - vertices[:, 2]) * unit
    points = np.stack([x, y, vertices[:, 1]], 1).astype(np.float32)

    attributes = np.concatenate([normals, body.canonical, body.masks], 1).astype(np.float32)
    depth, triangle, values = _rasterise(points, body.triangles, attributes, samples)
    rows, columns = np.nonzero(triangle >= 0)
    hit = values[rows, columns]
    occlusion = _occlusion(depth, triangle >= 0, unit)[rows, columns]
    colours, parts = _paint(head, scene, hit, body.material[triangle[rows, columns]], occlusion)

    picture = _backdrop(scene, samples)
    picture[rows, columns] = colours
    part_map = np.zeros((samples, samples), np.uint8)
    part_map[rows, columns] = parts
    picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    picture = np.sqrt(np.clip(picture, 0, 1))
    return (picture * 255 + 0.5).astype(np.uint8), part_map[1::SUPERSAMPLING, 1::SUPERSAMPLING].copy()


@lru_cache(maxsize=8)
def _body(head: Head) -> _Body:
    mesh = head_mesh()
    vertices = head_vertices(head)
    triangles, material = mesh.triangles, mesh.material
    normals = _incidence(triangles, len(vertices)) @ _cross(vertices, triangles)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    on_scalp = np.zeros(len(vertices), bool)
    on_scalp[mesh.skin_vertices] = True
    if head.hair_style != "bald":
        volume = head.hair_volume * (1.0 if head.hair_style == "short" else 0.6)
        vertices = vertices + (volume * _smooth(_hair(mesh.template, head), 0.0, 0.03) * on_scalp)[:, None] * normals

    canonical = mesh.template.copy()
    for eye in mesh.eye_vertices:
        offset = mesh.template[eye] - mesh.template[eye].mean(0)
        canonical[eye] = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    unit_shapes = mesh.unit_shapes
    masks = np.stack([mesh.lips, mesh.cavity, mesh.lids], 1)
    brow, chin = (vertices[_nearest(mesh, point)] for point in (BROW_POINT, CHIN_POINT))

    extras = []
    if head.glasses:
        extras.append((GLASSES, *_glasses([vertices[eye].mean(0) for eye in mesh.eye_vertices], head)))
    if head.hair_style == "long":
        extras.append((LONG_HAIR, *_curtain(head, vertices - mesh.template)))
    for code, points, corners in extras:
        triangles = np.concatenate([triangles, corners + len(vertices)]).astype(np.int32)
        material = np.concatenate([material, np.full(len(corners), code, np.int32)])
        vertices = np.concatenate([vertices, points])
        canonical = np.concatenate([canonical, points])
        masks = np.concatenate([masks, np.zeros((len(points), 3), np.float32)])
        unit_shapes = np.concatenate([unit_shapes, np.zeros((52, len(points), 3), np.float32)], 1)
    centre = np.array([0.0, np.mean([vertices[eye, 1].mean() for eye in mesh.eye_vertices]) + 0.06, (brow[2] + chin[2]) / 2])
    return _Body(
        vertices=vertices.astype(np.float32),
        unit_shapes=unit_shapes,
        triangles=triangles,
        material=material,
        incidence=_incidence(triangles, len(vertices)),
        canonical=canonical,
        masks=masks,
        centre=centre.astype(np.float32),
        brow_height=float(brow[2]),
        face_height=float(brow[2] - chin[2]),
    )


def _deformed(body: _Body, weights: Mapping[str, float], scene: Scene) -> np.ndarray:
    labels = head_mesh().unit_labels
    units = np.zeros(len(labels), np.float32)
    left, up = scene.gaze
    gaze = {
        "eyeLookOutLeft": max(left, 0),
        "eyeLookInRight": max(left, 0),
        "eyeLookInLeft": max(-left, 0),
        "eyeLookOutRight": max(-left, 0),
        "eyeLookUpLeft": max(up, 0),
        "eyeLookUpRight": max(up, 0),
        "eyeLookDownLeft": max(-up, 0),
        "eyeLookDownRight": max(-up, 0),
    }
    for name, weight in {**gaze, **weights}.items():
        units[labels.index(name)] = weight
    active = np.flatnonzero(units)
    return body.vertices + np.tensordot(units[active], body.unit_shapes[active], 1)


def _rotation(scene: Scene) -> np.ndarray:
    yaw, pitch, roll = np.radians([scene.yaw, scene.pitch, scene.roll])
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    return (tilt @ nod @ turn).astype(np.float32)


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


def _hair(place: np.ndarray, head: Head) -> np.ndarray:
    """Metres above the hairline at a place [..., 3] of the template; negative on bare skin."""
    x, y, z = np.abs(place[..., 0]), place[..., 1], place[..., 2]
    line = np.interp(y, [-0.155, -0.125, -0.100, -0.080, -0.055, -0.03, 0.0, 0.04], [0.795, 0.793, 0.780, 0.750, 0.715, 0.70, 0.66, 0.63])
    front = _smooth(-y, 0.08, 0.12)
    line = line + front * (head.hairline - head.peak * np.exp(-((x / 0.018) ** 2)))
    ear = (x > 0.0735) & (z < 0.745) & (y < 0.02)
    return np.where(ear, -0.01, z - line)


def _curtain(head: Head, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Long hair around the sides and the back, in template space [N, 3], and its triangles.

    `moved` [V, 3] is how far the person's skin lies from the template's; the hair follows the skin nearest to it.
    """
    mesh = head_mesh()
    around, down = 41, 14
    angle = np.linspace(np.radians(-38), np.radians(218), around)  # 0 = left ear, 90 = back of the head
    height = np.linspace(0.0, 1.0, down)[:, None]
    fall = np.sqrt(np.clip(height * head.hair_length / 0.075, 0.0, 1.0)) * (1 + 0.10 * height)
    waves = head.hair_waves * np.sin(9 * angle + 14 * height) + 0.5 * head.hair_waves * np.sin(31 * angle)
    x = (0.093 * fall + waves) * np.cos(angle)
    y = -0.045 + (0.105 * fall + waves) * np.sin(angle)
    z = np.broadcast_to(0.852 - head.hair_length * height, x.shape)
    place = np.stack([x, y, z], -1).reshape(-1, 3)
    distance, nearest = scipy.spatial.cKDTree(mesh.template[mesh.skin_vertices]).query(place, 40)
    weight = 1 / (distance + 0.02)
    weight /= weight.sum(1, keepdims=True)
    place = place + (moved[mesh.skin_vertices][nearest] * weight[:, :, None]).sum(1)
    corner = (np.arange(down - 1)[:, None] * around + np.arange(around - 1)).ravel()
    triangles = np.concatenate(
        [
            np.stack([corner, corner + around, corner + 1], 1),
            np.stack([corner + 1, corner + around, corner + around + 1], 1),
        ]
    )
    return place.astype(np.float32), triangles


def _glasses(centres: list[np.ndarray], head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Two rims, a bridge and two arms as thin tubes: vertices [N, 3], triangles [M, 3]."""
    rng = np.random.default_rng([12, head.seed])
    width, height = rng.uniform(0.021, 0.026), rng.uniform(0.016, 0.022)
    squareness, thickness = rng.uniform(2.0, 4.0), rng.uniform(0.0012, 0.0022)
    front = min(c[1] for c in centres) - 0.026
    angle = np.linspace(0, 2 * np.pi, 33)
    paths = []
    for centre in centres:
        cos, sin = np.cos(angle), np.sin(angle)
        radius = (np.abs(cos) ** squareness + np.abs(sin) ** squareness) ** (-1 / squareness)
        paths.append(np.stack([centre[0] + width * radius * cos, np.full(33, front), centre[2] - 0.002 + height * radius * sin], 1))
        side = np.sign(centre[0])
        outer = centre[0] + side * width
        paths.append(
            np.array(
                [
                    [outer, front, centre[2] + 0.004],
                    [side * 0.078, front + 0.02, centre[2] + 0.004],
                    [side * 0.084, front + 0.11, centre[2] + 0.004],
                ]
            )
        )
    inner = centres[0][0] - width, centres[1][0] + width
    paths.append(
        np.array(
            [[inner[0], front, centres[0][2] + 0.003], [0, front - 0.002, centres[0][2] + 0.006], [inner[1], front, centres[1][2] + 0.003]]
        )
    )
    vertices, triangles = [], []
    start = 0
    for path in paths:
        for a, b in pairwise(path):
            along = b - a
            up = np.array([0.0, 0, 1]) if abs(along[2]) < 0.7 * np.linalg.norm(along) else np.array([1.0, 0, 0])
            side = np.cross(along, up)
            side *= thickness / (np.linalg.norm(side) + 1e-9)
            up = np.cross(side, along)
            up *= thickness / (np.linalg.norm(up) + 1e-9)
            vertices += [end + s * side + u * up for end in (a, b) for s, u in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            for i in range(4):
                j = (i + 1) % 4
                triangles += [[start + i, start + j, start + 4 + j], [start + i, start + 4 + j, start + 4 + i]]
            start += 8
    return np.array(vertices, np.float32), np.array(triangles, np.int32)


@wp.kernel
def _fill(
    points: wp.array(dtype=wp.vec3),
    triangles: wp.array2d(dtype=wp.int32),
    depth: wp.array2d(dtype=wp.float32),
    index: wp.array2d(dtype=wp.int32),
    bary: wp.array2d(dtype=wp.vec3),
):
    """One thread a triangle. Safe only on the CPU, where warp runs the threads one after the other."""
    f = wp.tid()
    a = points[triangles[f, 0]]
    b = points[triangles[f, 1]]
    c = points[triangles[f, 2]]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if wp.abs(area) > 1.0e-9:
        size = depth.shape[0]
        x0 = wp.max(int(wp.ceil(wp.min(a[0], wp.min(b[0], c[0])) - 0.5)), 0)
        x1 = wp.min(int(wp.floor(wp.max(a[0], wp.max(b[0], c[0])) - 0.5)), size - 1)
        y0 = wp.max(int(wp.ceil(wp.min(a[1], wp.min(b[1], c[1])) - 0.5)), 0)
        y1 = wp.min(int(wp.floor(wp.max(a[1], wp.max(b[1], c[1])) - 0.5)), size - 1)
        for j in range(y0, y1 + 1):
            for i in range(x0, x1 + 1):
                x = float(i) + 0.5
                y = float(j) + 0.5
                u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
                v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
                w = 1.0 - u - v
                if u >= 0.0 and v >= 0.0 and w >= 0.0:
                    z = u * a[2] + v * b[2] + w * c[2]
                    if z < depth[j, i]:
                        depth[j, i] = z
                        index[j, i] = f
                        bary[j, i] = wp.vec3(u, v, w)


@wp.kernel
def _resolve(
    triangles: wp.array2d(dtype=wp.int32),
    attributes: wp.array2d(dtype=wp.float32),
    index: wp.array2d(dtype=wp.int32),
    bary: wp.array2d(dtype=wp.vec3),
    values: wp.array3d(dtype=wp.float32),
):
    j, i = wp.tid()
    f = index[j, i]
    if f >= 0:
        weight = bary[j, i]
        for k in range(attributes.shape[1]):
            values[j, i, k] = (
                weight[0] * attributes[triangles[f, 0], k]
                + weight[1] * attributes[triangles[f, 1], k]
                + weight[2] * attributes[triangles[f, 2], k]
            )


def _rasterise(points: np.ndarray, triangles: np.ndarray, attributes: np.ndarray, samples: int):
    """Depth [S, S], triangle or -1 [S, S], interpolated attributes [S, S, A]. Points: x, y in samples, depth away."""
    depth = np.full((samples, samples), 1e9, np.float32)
    index = np.full((samples, samples), -1, np.int32)
    bary = np.zeros((samples, samples, 3), np.float32)
    values = np.zeros((samples, samples, attributes.shape[1]), np.float32)
    on_cpu = {"device": "cpu", "copy": False}
    faces = wp.array(np.ascontiguousarray(triangles), dtype=wp.int32, **on_cpu)
    hits = wp.array(index, dtype=wp.int32, **on_cpu)
    weights = wp.array(bary, dtype=wp.vec3, **on_cpu)
    wp.launch(
        _fill,
        len(triangles),
        device="cpu",
        inputs=[wp.array(points, dtype=wp.vec3, **on_cpu), faces, wp.array(depth, dtype=wp.float32, **on_cpu), hits, weights],
    )
    wp.launch(
        _resolve,
        (samples, samples),
        device="cpu",
        inputs=[faces, wp.array(attributes, dtype=wp.float32, **on_cpu), hits, weights, wp.array(values, dtype=wp.float32, **on_cpu)],
    )
    return depth, index, values


def _occlusion(depth: np.ndarray, solid: np.ndarray, unit: float) -> np.ndarray:
    """0.35 (deep hollow) .. 1.08 (ridge): how far each sample lies behind its surroundings, at two scales."""
    mask = solid.astype(np.float32)
    filled = np.where(solid, depth, 0).astype(np.float32)
    shade = np.ones_like(mask)
    for metres, strength in ((0.0022, 95.0), (0.007, 38.0)):
        sigma = metres * unit
        behind = filled - cv2.GaussianBlur(filled, (0, 0), sigma) / (cv2.GaussianBlur(mask, (0, 0), sigma) + 1e-6)
        shade -= strength * np.clip(behind, -0.002, 0.01)
    return np.clip(shade, 0.35, 1.12)


def _backdrop(scene: Scene, samples: int) -> np.ndarray:
    """[S, S, 3] linear light."""
    ramp = 1 + scene.gradient * np.linspace(0.5, -0.5, samples, dtype=np.float32)[:, None, None]
    base = np.asarray(scene.background, np.float32) ** 2
    return np.broadcast_to(np.clip(base * ramp, 0, 1), (samples, samples, 3)).copy()


def _paint(head: Head, scene: Scene, hit: np.ndarray, material: np.ndarray, occlusion: np.ndarray):
    """Linear light [P, 3] and part numbers [P] of hits [P, 9] = normal, place in the template, lips, cavity, lids."""
    normal = hit[:, :3] / (np.linalg.norm(hit[:, :3], axis=1, keepdims=True) + 1e-9)
    normal = np.where(normal[:, 1:2] > 0, -normal, normal)
    place, lips, cavity, lids = hit[:, 3:6], hit[:, 6], hit[:, 7], hit[:, 8]
    x, y, z = np.abs(place[:, 0]), place[:, 1], place[:, 2]
    linear = {name: np.asarray(getattr(head, name), np.float32) ** 2 for name in ("skin", "hair", "brow", "eye", "lip")}
    on_skin = material == SKIN
    front = on_skin & (y < -0.06)

    albedo = np.broadcast_to(linear["skin"], hit[:, :3].shape).copy()
    parts = np.full(len(hit), PART_SKIN, np.uint8)
    gloss = np.full(len(hit), 0.10, np.float32)

    def over(colour: np.ndarray, alpha: np.ndarray) -> None:
        albedo[:] = albedo + (colour - albedo) * alpha[:, None]

    cheeks = np.exp(-(((x - 0.042) / 0.018) ** 2) - ((z - 0.690) / 0.016) ** 2) * front
    over(linear["skin"] * np.array([1.0, 0.72, 0.70]), 0.5 * cheeks)
    over(linear["skin"] * 0.75, 0.6 * lids * on_skin)
    if head.freckles > 0:
        spots = _noise(place[:, 0] * 420, z * 420) > 0.78
        over(linear["skin"] * 0.6, head.freckles * 0.6 * spots * cheeks)
    if head.wrinkles > 0:
        lines = np.sin((z + 0.0015 * np.sin(place[:, 0] * 90)) * 2 * np.pi / 0.0085) ** 8
        lines = lines * np.exp(-(((z - 0.773) / 0.011) ** 2)) * np.exp(-((x / 0.036) ** 4))
        crow = np.sin((z - 0.727) / (x - 0.030 + 1e-3) * 9) ** 6 * np.exp(-(((x - 0.058) / 0.007) ** 2) - ((z - 0.727) / 0.012) ** 2)
        fold = np.exp(-(((x - 0.021 - 0.25 * (0.690 - z)) / 0.0014) ** 2)) * _smooth(z, 0.655, 0.668) * _smooth(-z, -0.697, -0.687)
        bags = np.exp(-(((z - 0.7125 - 0.0 * x) / 0.0016) ** 2) - ((x - 0.030) / 0.012) ** 2)
        over(linear["skin"] * 0.35, head.wrinkles * np.clip(0.45 * (lines + crow + bags) + 0.5 * fold, 0, 0.8) * front)

    beard = _beard(x, y, z, head) * front * (1 - np.clip(lips * 1.5, 0, 1)) if head.beard else np.zeros(len(hit))
    strands = 0.75 + 0.5 * _noise(place[:, 0] * 900, z * 250)
    over(linear["brow"] * strands[:, None], beard)
    parts[beard > 0.5] = PART_HAIR

    lip = _smooth(lips, 0.30, 0.65) * on_skin
    over(linear["lip"], lip)
    gloss += 0.18 * lip
    inside = _smooth(cavity, 0.25, 0.6) * on_skin
    over(np.array([0.030, 0.006, 0.006]), inside)
    gloss *= 1 - inside
    parts[(lip > 0.5) | (inside > 0.5)] = PART_MOUTH

    brow = _brow(x, z, head) * front
    over(linear["brow"], 0.92 * brow)
    parts[brow > 0.5] = PART_BROW

    if head.hair_style != "bald":
        hair = _smooth(_hair(place, head) + 0.003 * (_noise(place[:, 0] * 500, y * 200) - 0.5), -0.0015, 0.0015) * on_skin
        hair = np.maximum(hair, material == LONG_HAIR)
        angle = np.arctan2(place[:, 0], 0.80 - z + 0.10 * (material == LONG_HAIR))
        strands = 0.65 + 0.7 * _noise(angle * 55 + 3 * _noise(y * 60, z * 60), y * 25)
        over(linear["hair"] * strands[:, None], hair)
        parts[hair > 0.5] = PART_HAIR
        gloss = np.where(hair > 0.5, 0.06, gloss)

    clothed = on_skin & (z < 0.578 + 0.35 * np.clip(y + 0.06, -0.1, 0.1))
    albedo[clothed] = np.asarray(scene.clothes) ** 2
    parts[clothed] = PART_OTHER

    eye = material == EYE
    if eye.any():
        radius = np.hypot(hit[eye, 3], hit[eye, 5])
        iris = _smooth(-radius, -0.47, -0.43)
        colour = np.array([0.80, 0.77, 0.75]) * (1 - iris[:, None])
        rim = 1 - 0.65 * _smooth(radius, 0.34, 0.44)
        colour = colour + (linear["eye"] * rim[:, None]) * iris[:, None]
        albedo[eye] = colour * (1 - 0.97 * _smooth(-radius, -0.20, -0.16))[:, None]
        parts[eye] = PART_EYE
        gloss[eye] = 0.0
    for code, colour in ((TEETH, (0.72, 0.68, 0.58)), (TONGUE, (0.30, 0.07, 0.07)), (LASH, (0.01, 0.01, 0.01))):
        albedo[material == code] = colour
        parts[material == code] = PART_EYE if code == LASH else PART_MOUTH
    frame = material == GLASSES
    albedo[frame] = np.asarray(scene.glasses_colour) ** 2
    parts[frame] = PART_OTHER
    gloss[frame] = 0.3

    azimuth, elevation = np.radians([scene.light_azimuth, scene.light_elevation])
    light = np.array([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    half = light + np.array([0, -1, 0])
    half /= np.linalg.norm(half)
    diffuse = np.clip((normal @ light + 0.25) / 1.25, 0, 1)
    fill = np.clip(-0.7 * normal[:, 1] + 0.3 * normal[:, 2], 0, 1)
    tint = 1 + scene.warmth * np.array([0.07, 0.0, -0.10])
    energy = (scene.ambient * (0.45 + 0.55 * fill) + scene.key * diffuse) * occlusion
    energy = np.where((material == TEETH) | (material == TONGUE), 0.75 * energy, energy)
    highlight = gloss * scene.key * np.clip(normal @ half, 0, 1) ** 18 * occlusion
    catch = 0.8 * eye * (np.clip(normal @ half, 0, 1) > 0.985)
    return (albedo * energy[:, None] + (highlight + catch)[:, None]) * tint, parts


def _brow(x: np.ndarray, z: np.ndarray, head: Head) -> np.ndarray:
    """0..1; x is the distance from the middle, both in metres of the template."""
    t = (x - 0.0115) / (0.0505 - 0.0115)
    middle = 0.7435 + head.brow_lift + 0.0060 * head.brow_arch * np.sin(np.pi * np.clip(t, 0, 1) ** 1.3) - 0.0015 * t
    half = 0.0031 * head.brow_thickness * np.clip(1.15 - 0.75 * t, 0, 1)
    ends = _smooth(t, -0.05, 0.06) * _smooth(-t, -1.02, -0.9)
    return _smooth(half - np.abs(z - middle), -0.0006, 0.0006) * ends


def _beard(x: np.ndarray, y: np.ndarray, z: np.ndarray, head: Head) -> np.ndarray:
    """0..1 over chin, jaw and upper lip."""
    top = np.interp(x, [0.0, 0.014, 0.026, 0.034, 0.050, 0.066, 0.08], [0.677, 0.6775, 0.672, 0.655, 0.668, 0.700, 0.715])
    patch = _smooth(top - z, -0.001, 0.004) * _smooth(z, 0.585, 0.61)
    return np.clip(patch * (0.35 + 0.62 * head.beard_length), 0, 1)


def _noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Smooth value noise 0..1 on the unit lattice."""
    table = _noise_table()
    u0, v0 = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    fu, fv = u - u0, v - v0
    fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
    u0, u1, v0, v1 = u0 & 255, (u0 + 1) & 255, v0 & 255, (v0 + 1) & 255
    return (table[u0, v0] * (1 - fu) + table[u1, v0] * fu) * (1 - fv) + (table[u0, v1] * (1 - fu) + table[u1, v1] * fu) * fv


@lru_cache(maxsize=1)
def _noise_table() -> np.ndarray:
    return np.random.default_rng(13).random((256, 256)).astype(np.float32)
