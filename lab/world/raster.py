"""Triangles to samples: a z-buffer with a few sorted see-through fragments a sample, in warp on the CPU.

warp runs a kernel's threads one after the other on the CPU, so that no atomics are needed; a GPU would need them.
"""

# ruff: noqa: UP018, RUF046, SIM102
# In a kernel a variable that changes must be made by float() or int(), and `in` does not exist.

from __future__ import annotations

import logging

import warp as wp

wp.config.quiet = True  # which newer ones do not know
wp.config.log_level = logging.WARNING
wp.set_module_options({"enable_backward": False, "fast_math": True})

SKIN, EYE, TEETH, TONGUE, HAIR, BROW, CLOTH, FRAME, LENS, SHELL = (wp.constant(k) for k in range(10))
FRAGMENTS = 10
"""See-through fragments kept a sample; where more lie behind each other the farthest are dropped."""
LAYERS = wp.constant(FRAGMENTS)


@wp.struct
class Surface:
    """Triangles [F]: corners, uv [F, 6], info [F, 5] = kind, texture, see-through?, part number, paint, layer [F] (a shell's 0..1, a
    brow's strength); points' own values [N]: `extra` (fade of hair, wetness of skin, length of a shell), `lips`; textures RGBA one after
    the other with their table [T, 4] = offset, width, height, repeats?
    """

    triangles: wp.array2d(dtype=wp.int32)
    uv: wp.array2d(dtype=wp.float32)
    info: wp.array2d(dtype=wp.int32)
    layer: wp.array(dtype=wp.float32)
    extra: wp.array(dtype=wp.float32)
    lips: wp.array(dtype=wp.float32)
    texels: wp.array(dtype=wp.uint8)
    table: wp.array2d(dtype=wp.int32)


@wp.struct
class Samples:
    """What each sample [h, w] sees: the nearest opaque triangle, and up to FRAGMENTS see-through ones, unsorted."""

    depth: wp.array2d(dtype=wp.float32)
    index: wp.array2d(dtype=wp.int32)
    bary: wp.array2d(dtype=wp.vec2)
    count: wp.array2d(dtype=wp.int32)
    soft_depth: wp.array3d(dtype=wp.float32)
    soft_index: wp.array3d(dtype=wp.int32)
    soft_bary: wp.array3d(dtype=wp.vec2)


@wp.func
def texel(texels: wp.array(dtype=wp.uint8), offset: int, width: int, x: int, y: int):
    at = offset + (y * width + x) * 4
    return wp.vec4(float(texels[at]), float(texels[at + 1]), float(texels[at + 2]), float(texels[at + 3])) * (1.0 / 255.0)


@wp.func
def sample(texels: wp.array(dtype=wp.uint8), table: wp.array2d(dtype=wp.int32), t: int, u: float, v: float):
    """Bilinear RGBA, 0..1."""
    offset = table[t, 0]
    width = table[t, 1]
    height = table[t, 2]
    if table[t, 3] == 1:
        u = u - wp.floor(u)
        v = v - wp.floor(v)
    x = wp.clamp(u * float(width) - 0.5, 0.0, float(width) - 1.001)
    y = wp.clamp(v * float(height) - 0.5, 0.0, float(height) - 1.001)
    x0 = int(x)
    y0 = int(y)
    fx = x - float(x0)
    fy = y - float(y0)
    x1 = wp.min(x0 + 1, width - 1)
    y1 = wp.min(y0 + 1, height - 1)
    above = texel(texels, offset, width, x0, y0) * (1.0 - fx) + texel(texels, offset, width, x1, y0) * fx
    below = texel(texels, offset, width, x0, y1) * (1.0 - fx) + texel(texels, offset, width, x1, y1) * fx
    return above * (1.0 - fy) + below * fy


@wp.func
def opacity(s: Surface, f: int, u: float, v: float):
    """0..1 of see-through kinds at barycentric u, v of triangle f."""
    w = 1.0 - u - v
    kind = s.info[f, 0]
    tu = u * s.uv[f, 0] + v * s.uv[f, 2] + w * s.uv[f, 4]
    tv = u * s.uv[f, 1] + v * s.uv[f, 3] + w * s.uv[f, 5]
    extra = u * s.extra[s.triangles[f, 0]] + v * s.extra[s.triangles[f, 1]] + w * s.extra[s.triangles[f, 2]]
    if kind == HAIR:
        return wp.clamp(sample(s.texels, s.table, s.info[f, 1], tu, tv)[3] * 1.25 - 0.08, 0.0, 1.0) * extra
    if kind == BROW:
        return wp.min(sample(s.texels, s.table, s.info[f, 1], tu, tv)[3] * 1.9, 1.0) * s.layer[f]
    if kind == LENS:
        return 0.08
    if kind == SHELL:
        strand = sample(s.texels, s.table, s.info[f, 1], tu, tv)[0]
        return wp.clamp((strand - 1.0 + wp.clamp(extra, 0.0, 1.0) * (1.05 - 0.75 * s.layer[f])) * 5.0, 0.0, 0.85)
    return 1.0


@wp.func
def inside(a: wp.vec3, b: wp.vec3, c: wp.vec3, inverse: float, x: float, y: float):
    """Barycentric u, v of a sample's middle; u below 0 where it lies outside."""
    u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) * inverse
    v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) * inverse
    if v < 0.0 or u + v > 1.0:
        u = -1.0
    return wp.vec2(u, v)


@wp.kernel
def fill(points: wp.array(dtype=wp.vec3), s: Surface, out: Samples):
    """Points: x, y in samples, depth. Skin that faces away is skipped."""
    f = wp.tid()
    a = points[s.triangles[f, 0]]
    b = points[s.triangles[f, 1]]
    c = points[s.triangles[f, 2]]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    kind = s.info[f, 0]
    if wp.abs(area) < 1.0e-9 or (kind == SKIN and area > 0.0):
        return
    x0 = wp.max(int(wp.ceil(wp.min(a[0], wp.min(b[0], c[0])) - 0.5)), 0)
    x1 = wp.min(int(wp.floor(wp.max(a[0], wp.max(b[0], c[0])) - 0.5)), out.depth.shape[1] - 1)
    y0 = wp.max(int(wp.ceil(wp.min(a[1], wp.min(b[1], c[1])) - 0.5)), 0)
    y1 = wp.min(int(wp.floor(wp.max(a[1], wp.max(b[1], c[1])) - 0.5)), out.depth.shape[0] - 1)
    soft = s.info[f, 2]
    inverse = 1.0 / area
    for j in range(y0, y1 + 1):
        for i in range(x0, x1 + 1):
            at = inside(a, b, c, inverse, float(i) + 0.5, float(j) + 0.5)
            if at[0] >= 0.0:
                z = at[0] * a[2] + at[1] * b[2] + (1.0 - at[0] - at[1]) * c[2]
                if z < out.depth[j, i]:
                    alpha = float(1.0)
                    if soft == 1:
                        alpha = opacity(s, f, at[0], at[1])
                    if alpha > 0.97:
                        out.depth[j, i] = z
                        out.index[j, i] = f
                        out.bary[j, i] = at
                    elif alpha > 0.03:
                        n = out.count[j, i]
                        slot = n
                        if n < LAYERS:
                            out.count[j, i] = n + 1
                        else:
                            slot = int(-1)
                            far = z
                            for k in range(LAYERS):
                                if out.soft_depth[j, i, k] > far:
                                    far = out.soft_depth[j, i, k]
                                    slot = k
                        if slot >= 0:
                            out.soft_depth[j, i, slot] = z
                            out.soft_index[j, i, slot] = f
                            out.soft_bary[j, i, slot] = at


@wp.kernel
def fill_depth(points: wp.array(dtype=wp.vec3), faces: wp.array(dtype=wp.int32), s: Surface, depth: wp.array2d(dtype=wp.float32)):
    """Depth as a light sees it, of the triangles `faces`; half see-through ones count."""
    f = faces[wp.tid()]
    a = points[s.triangles[f, 0]]
    b = points[s.triangles[f, 1]]
    c = points[s.triangles[f, 2]]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if wp.abs(area) < 1.0e-9:
        return
    x0 = wp.max(int(wp.ceil(wp.min(a[0], wp.min(b[0], c[0])) - 0.5)), 0)
    x1 = wp.min(int(wp.floor(wp.max(a[0], wp.max(b[0], c[0])) - 0.5)), depth.shape[1] - 1)
    y0 = wp.max(int(wp.ceil(wp.min(a[1], wp.min(b[1], c[1])) - 0.5)), 0)
    y1 = wp.min(int(wp.floor(wp.max(a[1], wp.max(b[1], c[1])) - 0.5)), depth.shape[0] - 1)
    soft = s.info[f, 2]
    inverse = 1.0 / area
    for j in range(y0, y1 + 1):
        for i in range(x0, x1 + 1):
            at = inside(a, b, c, inverse, float(i) + 0.5, float(j) + 0.5)
            if at[0] >= 0.0:
                z = at[0] * a[2] + at[1] * b[2] + (1.0 - at[0] - at[1]) * c[2]
                if z < depth[j, i]:
                    if soft == 0 or opacity(s, f, at[0], at[1]) > 0.5:
                        depth[j, i] = z


@wp.kernel
def bake(places: wp.array2d(dtype=wp.float32), values: wp.array2d(dtype=wp.float32), triangles: wp.array2d(dtype=wp.int32),
         image: wp.array3d(dtype=wp.float32), hit: wp.array2d(dtype=wp.int32)):
    """Values [V, C] of vertices into texture space; places [F, 6] are the corners' texels."""
    f = wp.tid()
    a = wp.vec3(places[f, 0], places[f, 1], 0.0)
    b = wp.vec3(places[f, 2], places[f, 3], 0.0)
    c = wp.vec3(places[f, 4], places[f, 5], 0.0)
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if wp.abs(area) < 1.0e-9:
        return
    x0 = wp.max(int(wp.min(a[0], wp.min(b[0], c[0])) - 1.0), 0)
    x1 = wp.min(int(wp.max(a[0], wp.max(b[0], c[0])) + 1.0), image.shape[1] - 1)
    y0 = wp.max(int(wp.min(a[1], wp.min(b[1], c[1])) - 1.0), 0)
    y1 = wp.min(int(wp.max(a[1], wp.max(b[1], c[1])) + 1.0), image.shape[0] - 1)
    for j in range(y0, y1 + 1):
        for i in range(x0, x1 + 1):
            x = float(i) + 0.5
            y = float(j) + 0.5
            u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
            v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
            w = 1.0 - u - v
            if u >= -0.02 and v >= -0.02 and w >= -0.02:
                hit[j, i] = 1
                for k in range(image.shape[2]):
                    image[j, i, k] = (u * values[triangles[f, 0], k] + v * values[triangles[f, 1], k] + w * values[triangles[f, 2], k])
