"""Light: a key, a rim and the surroundings' light from eighteen directions, each with its own map of what it reaches."""

# ruff: noqa: UP018
# In a kernel a variable that changes must be made by float() or int(), and `in` does not exist.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from .raster import Surface, fill_depth

wp.set_module_options({"enable_backward": False, "fast_math": True})

DIRECTIONS = 18
MAP_SIDE, MAP_SPAN, MAP_BIAS = 112, 0.62, 0.006
"""Samples, metres and metres of the surroundings' visibility maps."""
KEY_SPAN = 0.46
"""Metres of the key light's shadow map."""


@dataclass(frozen=True)
class Lights:
    """Degrees: azimuth to the right of the picture, elevation upwards. Strengths are relative to a face's exposure."""

    azimuth: float = 35.0
    elevation: float = 35.0
    key: float = 0.8
    ambient: float = 0.35
    warmth: float = 0.0  # -1 cold .. 1 warm
    softness: float = 5.0  # radius of the key's shadow edge, samples of a 320 map
    rim: float = 0.3
    rim_azimuth: float = 140.0
    tint: tuple[float, float, float] = (0.5, 0.5, 0.5)  # sRGB of the surroundings


def direction(azimuth: float, elevation: float) -> np.ndarray:
    """[3] towards a light."""
    a, e = np.radians([azimuth, elevation])
    return np.array([np.sin(a) * np.cos(e), -np.cos(a) * np.cos(e), np.sin(e)])


def view_along(towards: np.ndarray) -> np.ndarray:
    """[3, 3] rows: two axes across a direction and the way away from it."""
    d = towards / np.linalg.norm(towards)
    up = np.array([0.0, 0, 1]) if abs(d[2]) < 0.9 else np.array([1.0, 0, 0])
    across = np.cross(up, d)
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(d, across), -d]).astype(np.float32)


def sphere(count: int = DIRECTIONS) -> np.ndarray:
    """[count, 3] even directions (a Fibonacci spiral)."""
    i = np.arange(count) + 0.5
    height = 1 - 2 * i / count
    turn = np.pi * (1 + 5**0.5) * i
    across = np.sqrt(1 - height**2)
    return np.stack([across * np.cos(turn), across * np.sin(turn), height], 1)


def colours(lights: Lights, directions: np.ndarray) -> dict[str, np.ndarray]:
    """Linear: `radiance` [D, 3] of the surroundings, `ambient`, `key` and `rim` [3]."""
    warm = np.array([1 + 0.10 * lights.warmth, 1, 1 - 0.16 * lights.warmth])
    cool = np.array([1 - 0.05 * lights.warmth, 1, 1 + 0.10 * lights.warmth])
    tint = np.array(lights.tint) ** 2.2
    tint = tint / (tint.mean() + 0.05) * 0.5 + 0.5
    up = directions[:, 2:3]
    radiance = lights.ambient * ((0.62 + 0.38 * up) * cool + 0.25 * np.clip(-up, 0, 1) * np.array([1, 0.93, 0.85])) * (0.6 + 0.4 * tint)
    fill, key = direction(-lights.azimuth * 0.8 - 10, 10), direction(lights.azimuth, lights.elevation)
    radiance = radiance + lights.ambient * 0.9 * np.clip(directions @ fill, 0, 1)[:, None] ** 3 * cool
    radiance = radiance + lights.key * 0.55 * np.clip(directions @ key, 0, 1)[:, None] ** 6 * warm
    behind = np.clip(directions[:, 1:2], 0, 1)
    radiance = radiance * (1 - 0.25 * behind) + lights.ambient * 0.5 * behind * tint
    return {"radiance": radiance, "ambient": lights.ambient * cool, "key": lights.key * warm * 1.15,
            "rim": lights.rim * (0.5 + 0.5 * tint) * 1.6}


@wp.kernel
def gather(points: wp.array(dtype=wp.vec3), normals: wp.array(dtype=wp.vec3), sheets: wp.array(dtype=wp.float32),
           depth: wp.array2d(dtype=wp.float32), to_map: wp.mat33, scale: float, bias: float, towards: wp.vec3, radiance: wp.vec3,
           light: wp.array(dtype=wp.vec3), opened: wp.array(dtype=wp.vec2)):
    """Adds one direction's light where its map sees a point. Sheets (hair) are lit from both sides."""
    i = wp.tid()
    facing = wp.dot(normals[i], towards)
    if sheets[i] > 0.5:
        facing = 0.30 * wp.abs(facing) + 0.30 * wp.max(facing, 0.0) + 0.18
    if facing <= 0.0:
        return
    p = to_map * points[i]
    side = depth.shape[0]
    x = int((p[0] * scale + 0.5) * float(side))
    y = int((p[1] * scale + 0.5) * float(side))
    seen = float(0.0)
    for k in range(4):
        xx = wp.clamp(x + (k & 1), 0, side - 1)
        yy = wp.clamp(y + (k >> 1), 0, side - 1)
        if p[2] - bias < depth[yy, xx]:
            seen += 0.25
    light[i] = light[i] + radiance * (facing * seen)
    opened[i] = opened[i] + wp.vec2(facing * seen, facing)


def vec3(values: np.ndarray) -> wp.vec3:
    return wp.vec3(*(float(v) for v in values))


def mat33(values: np.ndarray) -> wp.mat33:
    return wp.mat33(*(float(v) for v in values.ravel()))


def array(values: np.ndarray, kind: type) -> wp.array:
    """A warp array that shares the memory where it can."""
    return wp.array(np.ascontiguousarray(values), dtype=kind, device="cpu", copy=False)


def depth_map(points: np.ndarray, faces: wp.array, surface: Surface, axes: np.ndarray, span: float, side: int,
              origin: np.ndarray | None = None) -> np.ndarray:
    """float32 [side, side]: how far the first triangle lies along the third of the axes; 1e9 where there is none."""
    turned = (points - origin if origin is not None else points) @ axes.T
    turned[:, :2] = (turned[:, :2] / span + 0.5) * side
    depth = np.full((side, side), 1e9, np.float32)
    wp.launch(fill_depth, len(faces), device="cpu",
              inputs=[array(turned.astype(np.float32), wp.vec3), faces, surface, array(depth, wp.float32)])
    return depth


def surroundings(points: np.ndarray, normals: np.ndarray, sheets: np.ndarray, casters: np.ndarray, faces: wp.array, surface: Surface,
                 lights: Lights) -> tuple[np.ndarray, np.ndarray]:
    """Light [N, 3] that the surroundings give to points, and how open each lies [N] 0..1.

    `casters` are the points that the triangles `faces` of `surface` refer to: they may be coarser than what is lit.
    """
    light, opened = np.zeros_like(points), np.zeros((len(points), 2), np.float32)
    at, facing, sheet = array(points, wp.vec3), array(normals, wp.vec3), array(sheets, wp.float32)
    light_out, open_out = array(light, wp.vec3), array(opened, wp.vec2)
    towards = sphere()
    for d, radiance in zip(towards, colours(lights, towards)["radiance"], strict=True):
        axes = view_along(d)
        depth = depth_map(casters, faces, surface, axes, MAP_SPAN, MAP_SIDE)
        wp.launch(gather, len(points), device="cpu", inputs=[
            at, facing, sheet, array(depth, wp.float32), mat33(axes), 1 / MAP_SPAN, MAP_BIAS, vec3(d),
            vec3(radiance * 4 / len(towards)), light_out, open_out])
    return light, opened[:, 0] / (opened[:, 1] + 1e-6)
