"""A picture of a dressed head: pose, light, samples, shading, camera."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import warp as wp

from .assets import Parts, load_parts, parts_folder
from .attach import placed
from .backgrounds import background
from .body import Body, body_of, skin_normals
from .identity import Person
from .light import KEY_SPAN, array, colours, depth_map, direction, mat33, sphere, surroundings, vec3, view_along
from .mesh import head_mesh, normals_of
from .raster import FRAGMENTS, Samples, fill
from .scene import Outfit, Scene
from .shade import Lit, Rig, shade

SUPERSAMPLING = 2
BROW_TO_CHIN, BROW_FROM_TOP = 0.57, 0.335
"""Framing at scale 1, fractions of the picture's height."""
DISTANCE = 1.25
"""Metres from the camera to the middle of the face."""
TEETH_BACK, TEETH_NARROWER = 0.0032, 0.93
"""Metres and share: MakeHuman's teeth would show through opened lips."""
BROW_FORWARD, LASH_FORWARD = 0.003, 0.0001


def draw(person: Person, outfit: Outfit, weights: Mapping[str, float], scene: Scene, size: int = 192,
         parts: Parts | None = None) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [size, size, 3] RGB and uint8 [size, size] of the PART_ numbers (body.py).

    `weights` are facial units by ARKit's names; `parts` defaults to the folder of FACEEXPR_PARTS.
    """
    body = body_of(person, outfit, parts or default_parts(), 1.0 if size > 288 else 0.5)
    samples = size * SUPERSAMPLING
    points, normals, tangents = _posed(body, _with_gaze(weights, scene))
    turn = _rotation(scene)
    pivot = np.array([0, body.eyes[1] + 0.06, (body.brow[2] + body.chin[2]) / 2], np.float32)
    points = np.asarray((points - pivot) @ turn.T, np.float32)
    normals, tangents = np.asarray(normals @ turn.T, np.float32), np.asarray(tangents @ turn.T, np.float32)

    count = body.groups["base"].start
    lights, key_side = scene.lights, int(320 * max(1, samples / 512))
    light, openness = surroundings(points[:count], normals[:count], body.sheets, points, body.casters, body.surface, lights)
    axes, origin = view_along(direction(lights.azimuth, lights.elevation)), np.array([0, 0, 0.02], np.float32)
    shadows = depth_map(points, body.shadowers, body.surface, axes, KEY_SPAN, key_side, origin)

    seen = _samples(_projected(body, points, pivot, turn, scene, samples), body, samples)
    picture = background(scene.background, lights, scene.seed, size)
    picture = np.ascontiguousarray(cv2.resize(picture, (samples, samples), interpolation=cv2.INTER_LINEAR))
    found = np.zeros((samples, samples), np.uint8)
    lit = Lit()
    lit.points, lit.normals, lit.tangents = array(points, wp.vec3), array(normals, wp.vec3), array(tangents, wp.vec3)
    lit.light, lit.openness, lit.paints = array(light, wp.vec3), array(openness.astype(np.float32), wp.float32), body.paints
    wp.launch(shade, (samples, samples), device="cpu", inputs=[
        body.surface, lit, seen, array(shadows, wp.float32), _rig(person, scene, axes, origin, key_side), array(picture, wp.float32),
        array(found, wp.uint8)])
    return _developed(picture, size, scene.seed), found[SUPERSAMPLING // 2 :: SUPERSAMPLING, SUPERSAMPLING // 2 :: SUPERSAMPLING].copy()


def default_parts(folder: Path | None = None) -> Parts:
    return load_parts(parts_folder(folder))


def _with_gaze(weights: Mapping[str, float], scene: Scene) -> dict[str, float]:
    left, up = scene.gaze
    looks = {"eyeLookOutLeft": left, "eyeLookInRight": left, "eyeLookInLeft": -left, "eyeLookOutRight": -left,
             "eyeLookUpLeft": up, "eyeLookUpRight": up, "eyeLookDownLeft": -up, "eyeLookDownRight": -up}
    return {**{unit: max(weight, 0.0) for unit, weight in looks.items()}, **weights}


def _posed(body: Body, weights: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, normals and strand tangents of the deformed head, before it is turned."""
    mesh = head_mesh()
    vertices = body.vertices.copy()
    for unit, weight in weights.items():
        if weight:
            vertices += np.float32(weight) * mesh.unit_shapes[mesh.unit_labels.index(unit)]
    skin = np.asarray(mesh.subdivision @ vertices, np.float32)
    smoothed = vertices.copy()
    smoothed[mesh.skin_base] = skin[: len(mesh.skin_base)]
    points, normals, tangents = body.points.copy(), body.normals.copy(), body.tangents.copy()
    groups = body.groups
    points[groups["base"]], points[groups["skin"]] = vertices, skin
    normals[groups["skin"]] = outward = skin_normals(skin)
    for name, (part, triangles, incidence) in body.followers.items():
        at = groups[name]
        points[at] = placed(part, smoothed if name in ("brow", "lash") else vertices)
        normals[at] = normals_of(points[at], triangles, incidence)
    points[groups["teeth"]] *= np.array([TEETH_NARROWER, 1, 1], np.float32)
    points[groups["teeth"], 1] += TEETH_BACK
    normals[groups["eyes"]] = _ball_normals(points[groups["eyes"]])
    if body.cover is not None and body.cover.follows:
        at = groups["cover"]
        points[at] += (skin - body.points[groups["skin"]])[body.cover.used]
    for name, shell, layer in body.shells:
        at, share = groups[name], layer / shell.layers
        out = outward[shell.used]
        place = skin[shell.used] + out * (shell.length * share * (0.4 + 0.6 * shell.density))[:, None]
        place[:, 2] -= shell.droop * share * shell.density
        points[at], normals[at], tangents[at] = place, out, out * 0.6 + np.array([0, 0, -0.6], np.float32)
    return points, normals, tangents


def _ball_normals(points: np.ndarray) -> np.ndarray:
    """Normals of two eyeballs from the middles of their boxes."""
    left = points[:, 0] > points[:, 0].mean()
    normals = np.empty_like(points)
    for side in (left, ~left):
        out = points[side] - (points[side].max(0) + points[side].min(0)) / 2
        normals[side] = out / (np.linalg.norm(out, axis=1, keepdims=True) + 1e-9)
    return normals


def _rotation(scene: Scene) -> np.ndarray:
    yaw, pitch, roll = np.radians([scene.yaw, scene.pitch, scene.roll])
    cy, sy, cp, sp_, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    rolled, nodded = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]]), np.array([[1, 0, 0], [0, cp, -sp_], [0, sp_, cp]])
    turned = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return np.asarray(rolled @ nodded @ turned, np.float32)


def _projected(body: Body, points: np.ndarray, pivot: np.ndarray, turn: np.ndarray, scene: Scene, samples: int) -> np.ndarray:
    """float32 [N + V, 3]: x, y in samples, depth in metres."""
    height = float(body.brow[2] - body.chin[2])
    between = (np.array([0, body.eyes[1], body.eyes[2]]) - pivot) @ turn.T
    focal = BROW_TO_CHIN * samples * scene.scale / height * (DISTANCE + float(between[1]))
    depth = points[:, 1] + DISTANCE
    x = samples * (0.5 + scene.shift[0]) + points[:, 0] * focal / depth
    y = samples * (BROW_FROM_TOP + scene.shift[1]) - (points[:, 2] - height / 2) * focal / depth
    projected = np.stack([x, y, depth], 1).astype(np.float32)
    projected[body.groups["brow"], 2] -= BROW_FORWARD
    projected[body.groups["lash"], 2] -= LASH_FORWARD
    return projected


def _samples(projected: np.ndarray, body: Body, side: int) -> Samples:
    seen = Samples()
    for name, values, kind in (
        ("depth", np.full((side, side), 1e9, np.float32), wp.float32), ("index", np.full((side, side), -1, np.int32), wp.int32),
        ("bary", np.zeros((side, side, 2), np.float32), wp.vec2), ("count", np.zeros((side, side), np.int32), wp.int32),
        ("soft_depth", np.empty((side, side, FRAGMENTS), np.float32), wp.float32),
        ("soft_index", np.empty((side, side, FRAGMENTS), np.int32), wp.int32),
        ("soft_bary", np.empty((side, side, FRAGMENTS, 2), np.float32), wp.vec2),
    ):
        setattr(seen, name, array(values, kind))
    wp.launch(fill, body.drawn, device="cpu", inputs=[array(projected, wp.vec3), body.surface, seen])
    return seen


def _rig(person: Person, scene: Scene, axes: np.ndarray, origin: np.ndarray, key_side: int) -> Rig:
    lights, rig = scene.lights, Rig()
    colour = colours(lights, sphere())
    rig.key, rig.key_colour = vec3(direction(lights.azimuth, lights.elevation)), vec3(colour["key"])
    rig.rim, rig.rim_colour = vec3(direction(lights.rim_azimuth, 30)), vec3(colour["rim"])
    rig.ambient, rig.camera = vec3(colour["ambient"]), wp.vec3(0.0, -DISTANCE, 0.0)
    rig.to_map, rig.origin, rig.map_scale = mat33(axes), vec3(origin), 1 / KEY_SPAN
    rig.radius, rig.oil, rig.gloss = float(lights.softness) * key_side / 320, person.oil, person.hair_gloss
    return rig


def _developed(picture: np.ndarray, size: int, seed: int) -> np.ndarray:
    """uint8 [size, size, 3]: samples averaged, a film's curve, a camera's noise."""
    rng = np.random.default_rng([91, seed])
    image = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) * 1.14
    image = np.clip(image * (1 + image / 4.0) / (1 + image * 0.72), 0, 1) ** (1 / 2.2)
    image += rng.normal(0, 0.004, image.shape[:2])[..., None] + rng.normal(0, 0.002, image.shape)
    return np.asarray(np.clip(image, 0, 1) * 255 + 0.5, np.uint8)
