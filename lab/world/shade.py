"""From samples to light: skin with wrapped, reddening light and two highlight lobes, hair by strands, eyes with catchlights, cloth,
frames and lenses. Colours are linear.
"""

# ruff: noqa: UP018, RUF046, SIM109
# In a kernel a variable that changes must be made by float() or int(), and `in` does not exist.

from __future__ import annotations

import warp as wp

from .raster import BROW, CLOTH, EYE, FRAME, HAIR, LENS, SHELL, SKIN, TEETH, TONGUE, Samples, Surface, opacity, sample

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.struct
class Rig:
    """The lights of a scene as the kernels need them. `to_map` and `origin` lead into the key light's shadow map."""

    key: wp.vec3
    key_colour: wp.vec3
    rim: wp.vec3
    rim_colour: wp.vec3
    ambient: wp.vec3
    camera: wp.vec3
    to_map: wp.mat33
    origin: wp.vec3
    map_scale: float
    radius: float
    oil: float
    gloss: float


@wp.struct
class Lit:
    """Per point [N]: place, normal, strand direction, gathered light, how open it lies; paints [P] and how much they cover."""

    points: wp.array(dtype=wp.vec3)
    normals: wp.array(dtype=wp.vec3)
    tangents: wp.array(dtype=wp.vec3)
    light: wp.array(dtype=wp.vec3)
    openness: wp.array(dtype=wp.float32)
    paints: wp.array(dtype=wp.vec4)


@wp.func
def linear(c: wp.vec4):
    return wp.vec3(wp.pow(c[0], 2.2), wp.pow(c[1], 2.2), wp.pow(c[2], 2.2))


@wp.func
def mul(a: wp.vec3, b: wp.vec3):
    return wp.vec3(a[0] * b[0], a[1] * b[1], a[2] * b[2])


@wp.func
def mix3(values: wp.array(dtype=wp.vec3), triangles: wp.array2d(dtype=wp.int32), f: int, u: float, v: float):
    return values[triangles[f, 0]] * u + values[triangles[f, 1]] * v + values[triangles[f, 2]] * (1.0 - u - v)


@wp.func
def key_seen(shadows: wp.array2d(dtype=wp.float32), rig: Rig, p: wp.vec3, n: wp.vec3, turn: float):
    """0..1 of the key light that reaches a place: nine taps in a turned spiral."""
    q = rig.to_map * (p + n * 0.0012 - rig.origin)
    side = shadows.shape[0]
    x = (q[0] * rig.map_scale + 0.5) * float(side)
    y = (q[1] * rig.map_scale + 0.5) * float(side)
    seen = float(0.0)
    for k in range(9):
        reach = rig.radius * wp.sqrt((float(k) + 0.5) / 9.0)
        angle = 2.399963 * float(k) + turn
        xx = wp.clamp(int(x + reach * wp.cos(angle)), 0, side - 1)
        yy = wp.clamp(int(y + reach * wp.sin(angle)), 0, side - 1)
        if q[2] - 0.0022 - 0.0004 * rig.radius < shadows[yy, xx]:
            seen += 1.0
    return seen / 9.0


@wp.func
def skin(c: wp.vec4, n: wp.vec3, view: wp.vec3, half: wp.vec3, gathered: wp.vec3, ao: float, wet: float, seen: float, rig: Rig):
    colour = linear(c)
    facing = wp.dot(n, rig.key)
    shine = wp.max(wp.dot(n, half), 0.0)
    fresnel = wp.pow(1.0 - wp.max(wp.dot(n, view), 0.02), 5.0)
    red = wp.clamp((facing + 0.32) / 1.32, 0.0, 1.0)
    green = wp.clamp((facing + 0.14) / 1.14, 0.0, 1.0)
    blue = wp.clamp((facing + 0.09) / 1.09, 0.0, 1.0)
    diffuse = wp.vec3(wp.pow(red, 1.15) * wp.pow(seen, 0.62), green * seen, blue * seen)
    bounce = mul(colour, rig.ambient) * (1.0 - ao) * 0.35
    rim = wp.max(wp.dot(n, rig.rim) * 0.9 + 0.1, 0.0) * wp.clamp(ao * 1.4 - 0.2, 0.0, 1.0)
    rim_shine = wp.max(wp.dot(n, wp.normalize(rig.rim + view)), 0.0)
    out = mul(colour, mul(rig.key_colour, diffuse) + gathered + rig.rim_colour * rim * 0.6 + bounce)
    oil = rig.oil * c[3]
    lobes = 0.30 * 8.0 * wp.pow(shine, 14.0) / 6.28 + 0.55 * 40.0 * wp.pow(shine, 60.0) / 6.28
    lobes = lobes * (0.028 + 0.25 * fresnel) * wp.clamp(facing * 3.0, 0.0, 1.5)
    out = out + rig.key_colour * wp.min(lobes * oil * seen * 1.6, 1.0)
    out = out + rig.rim_colour * (oil * 0.10 * wp.pow(rim_shine, 12.0) * ao + 0.12 * fresnel * ao * wp.max(wp.dot(n, rig.rim), 0.0))
    out = out + gathered * (0.018 + 0.11 * fresnel) * oil
    return out * (1.0 - 0.75 * wp.clamp(wet, 0.0, 1.0))


@wp.func
def eye(c: wp.vec4, n: wp.vec3, view: wp.vec3, gathered: wp.vec3, ao: float, seen: float, rig: Rig):
    facing = wp.dot(n, rig.key)
    lid = wp.clamp(ao * 1.25, 0.0, 1.0)
    under = 1.0 - 0.55 * wp.clamp((n[2] - 0.02) / 0.42, 0.0, 1.0)
    fresnel = wp.pow(1.0 - wp.max(wp.dot(n, view), 0.02), 5.0)
    mirrored = n * (2.0 * wp.dot(n, view)) - view
    lit = rig.key_colour * (wp.clamp(facing * 0.75 + 0.25, 0.0, 1.0) * (0.2 + 0.8 * seen)) + gathered * 0.85
    out = mul(linear(c) * 0.80, lit) * (0.30 + 0.70 * lid) * under
    key = wp.clamp((wp.dot(mirrored, rig.key) - 0.955) / 0.02, 0.0, 1.0)
    rim = wp.clamp((wp.dot(mirrored, rig.rim) - 0.97) / 0.015, 0.0, 1.0)
    fill = wp.clamp((wp.dot(mirrored, wp.vec3(0.30, -0.86, 0.42)) - 0.962) / 0.012, 0.0, 1.0)
    out = out + (rig.key_colour * 0.20 + rig.ambient * 0.18) * (fill * lid) + rig.key_colour * (0.70 * key * (0.3 + 0.7 * seen) * lid)
    return out + rig.rim_colour * 0.3 * rim * lid + gathered * (0.04 + 0.25 * fresnel) * wp.max(mirrored[2] * 0.6 + 0.5, 0.0)


@wp.func
def strands(c: wp.vec4, tone: wp.vec3, n: wp.vec3, t: wp.vec3, view: wp.vec3, half: wp.vec3, gathered: wp.vec3, ao: float, seen: float,
            gloss: float, rig: Rig):
    """Hair after Kajiya and Kay (SIGGRAPH 1989): light falls off with the angle to the strand; two shifted highlights are ours."""
    grey = 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]
    facing = wp.dot(n, rig.key)
    along = wp.dot(t, rig.key)
    first = wp.dot(wp.normalize(t + n * (0.10 + 0.25 * (grey - 0.4))), half)
    second = wp.dot(wp.normalize(t - n * 0.12), half)
    diffuse = wp.sqrt(wp.max(1.0 - along * along, 0.0)) * 0.45 + 0.55 * wp.clamp(facing * 0.7 + 0.3, 0.0, 1.0)
    diffuse = diffuse * wp.clamp(facing * 1.5 + 0.9, 0.0, 1.0)
    rim = wp.max(wp.dot(n, rig.rim) * 0.9 + 0.1, 0.0) * wp.clamp(ao * 1.4 - 0.2, 0.0, 1.0)
    rim_shine = wp.max(wp.dot(n, wp.normalize(rig.rim + view)), 0.0)
    out = mul(tone, rig.key_colour * diffuse * (0.08 + 0.92 * seen) * 1.1 + gathered * 1.15 + rig.rim_colour * rim * 1.1)
    shine = wp.pow(wp.max(1.0 - first * first, 0.0), 45.0) * 0.045 * (0.2 + grey)
    sheen = wp.pow(wp.max(1.0 - second * second, 0.0), 12.0) * 0.36
    out = out + (rig.key_colour * shine + mul(rig.key_colour, tone) * sheen) * gloss * wp.clamp(facing * 1.5 + 0.5, 0.0, 1.0) * seen
    return out + mul(rig.rim_colour, tone * 0.6 + wp.vec3(0.03, 0.03, 0.03)) * gloss * wp.pow(rim_shine, 8.0) * ao


@wp.func
def shade_one(f: int, u: float, v: float, s: Surface, lit: Lit, shadows: wp.array2d(dtype=wp.float32), rig: Rig, turn: float):
    w = 1.0 - u - v
    kind = s.info[f, 0]
    p = mix3(lit.points, s.triangles, f, u, v)
    n = wp.normalize(mix3(lit.normals, s.triangles, f, u, v))
    gathered = mix3(lit.light, s.triangles, f, u, v)
    i0 = s.triangles[f, 0]
    i1 = s.triangles[f, 1]
    i2 = s.triangles[f, 2]
    ao = lit.openness[i0] * u + lit.openness[i1] * v + lit.openness[i2] * w
    extra = s.extra[i0] * u + s.extra[i1] * v + s.extra[i2] * w
    view = wp.normalize(rig.camera - p)
    if wp.dot(n, view) < 0.0 and kind != SKIN and kind != EYE:
        n = n * (-1.0)
    c = sample(s.texels, s.table, s.info[f, 1], u * s.uv[f, 0] + v * s.uv[f, 2] + w * s.uv[f, 4],
               u * s.uv[f, 1] + v * s.uv[f, 3] + w * s.uv[f, 5])
    paint4 = lit.paints[s.info[f, 4]]
    paint = wp.vec3(paint4[0], paint4[1], paint4[2])
    seen = key_seen(shadows, rig, p, n, turn)
    facing = wp.dot(n, rig.key)
    half = wp.normalize(rig.key + view)
    shine = wp.max(wp.dot(n, half), 0.0)
    fresnel = wp.pow(1.0 - wp.max(wp.dot(n, view), 0.02), 5.0)
    grey = 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]
    out = wp.vec3(0.0, 0.0, 0.0)
    if kind == SKIN:
        out = skin(c, n, view, half, gathered, ao, extra, seen, rig)
    elif kind == EYE:
        out = eye(c, n, view, gathered, ao, seen, rig)
    elif kind == TEETH or kind == TONGUE:
        deep = wp.clamp(ao * 1.6, 0.0, 1.0)
        lit_teeth = rig.key_colour * wp.max(facing * 0.6 + 0.4, 0.0) * (0.35 + 0.65 * seen) * (0.35 + 0.65 * deep)
        out = mul(mul(linear(c), paint), lit_teeth + gathered * 1.5 + rig.ambient * 0.10)
        out = out + rig.key_colour * 0.22 * wp.pow(shine, 50.0) * seen * deep
    elif kind == HAIR:
        tone = paint * (2.0 * (1.0 - wp.exp(-0.62 * wp.pow(grey * 2.0, 1.7))))
        t = wp.normalize(mix3(lit.tangents, s.triangles, f, u, v))
        out = strands(c, tone, n, t, view, half, gathered, ao, seen, rig.gloss, rig)
    elif kind == BROW:
        out = mul(paint, rig.key_colour * wp.clamp(facing * 0.7 + 0.3, 0.0, 1.0) * (0.2 + 0.8 * seen) + gathered * 1.1)
    elif kind == SHELL:
        tone = paint * (0.45 + 0.9 * s.layer[f]) * (0.6 + 0.8 * c[1])
        t = wp.normalize(mix3(lit.tangents, s.triangles, f, u, v))
        out = strands(c, tone, n, t, view, half, gathered, ao, seen, rig.gloss * 0.3, rig)
    elif kind == CLOTH:
        colour = linear(c) * (1.0 - paint4[3]) + paint * (wp.pow(grey, 2.2) * 1.6 * paint4[3])
        rim = wp.max(wp.dot(n, rig.rim) * 0.9 + 0.1, 0.0) * wp.clamp(ao * 1.4 - 0.2, 0.0, 1.0)
        out = mul(colour, rig.key_colour * wp.max(facing, 0.0) * seen + gathered + rig.rim_colour * rim * 0.6) + gathered * (fresnel * 0.04)
    elif kind == FRAME:
        out = mul(paint, rig.key_colour * wp.max(facing, 0.0) * seen + gathered)
        bright = 0.35 + 1.2 * paint4[3]
        gleam = (wp.vec3(1.0, 1.0, 1.0) * (1.0 - paint4[3]) + paint * paint4[3]) * bright * wp.pow(shine, 60.0 - 35.0 * paint4[3]) * seen
        out = out + mul(rig.key_colour, gleam) + gathered * (0.04 + 0.4 * fresnel)
    elif kind == LENS:
        mirrored = n * (2.0 * wp.dot(n, view)) - view
        glint = wp.clamp((wp.dot(mirrored, rig.key) - 0.93) / 0.05, 0.0, 1.0)
        out = rig.ambient * (0.4 + 0.5 * wp.max(mirrored[2], 0.0)) + rig.key_colour * (1.2 * glint)
    return out


@wp.kernel
def shade(s: Surface, lit: Lit, seen: Samples, shadows: wp.array2d(dtype=wp.float32), rig: Rig,
          picture: wp.array3d(dtype=wp.float32), parts: wp.array2d(dtype=wp.uint8)):
    """Front to back over the background that `picture` [h, w, 3] holds; `parts` [h, w] gets the number of what mostly shows."""
    j, i = wp.tid()
    n = seen.count[j, i]
    f = seen.index[j, i]
    if n == 0 and f < 0:
        return
    turn = 6.2831 * wp.frac(52.9829189 * wp.frac(0.06711056 * float(i) + 0.00583715 * float(j)))
    colour = wp.vec3(0.0, 0.0, 0.0)
    left = float(1.0)
    mostly = int(0)
    last = float(-1.0e9)
    for _k in range(n):
        if left > 0.02:
            best = int(-1)
            nearest = float(1.0e8)
            for m in range(n):
                z = seen.soft_depth[j, i, m]
                if z > last and z < nearest:
                    nearest = z
                    best = m
            if best >= 0:
                last = nearest
                if nearest < seen.depth[j, i]:
                    at = seen.soft_bary[j, i, best]
                    ff = seen.soft_index[j, i, best]
                    alpha = opacity(s, ff, at[0], at[1])
                    colour = colour + shade_one(ff, at[0], at[1], s, lit, shadows, rig, turn) * (left * alpha)
                    if mostly == 0 and alpha * left > 0.35 and s.info[ff, 0] != LENS:
                        mostly = s.info[ff, 3]
                    left = left * (1.0 - alpha)
    if left > 0.02:
        if f >= 0:
            at = seen.bary[j, i]
            colour = colour + shade_one(f, at[0], at[1], s, lit, shadows, rig, turn) * left
            if mostly == 0:
                mostly = s.info[f, 3]
                lips = (s.lips[s.triangles[f, 0]] * at[0] + s.lips[s.triangles[f, 1]] * at[1]
                        + s.lips[s.triangles[f, 2]] * (1.0 - at[0] - at[1]))
                if lips > 0.45:
                    mostly = 5
        else:
            colour = colour + wp.vec3(picture[j, i, 0], picture[j, i, 1], picture[j, i, 2]) * left
    picture[j, i, 0] = colour[0]
    picture[j, i, 1] = colour[1]
    picture[j, i, 2] = colour[2]
    parts[j, i] = wp.uint8(mostly)
