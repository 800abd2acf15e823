"""Where things grow on a head: template places, lips, lids and ears in texture space; hairline, beard, headwear in template space."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import warp as wp

from .light import array
from .mesh import HEAD, head_mesh
from .raster import bake


def smooth(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smoothly between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """float32 [h, w] blurred white noise that repeats, of unit spread."""
    margin = int(4 * sigma) + 1
    padded = np.pad(rng.standard_normal(shape, np.float32), margin, mode="wrap")
    blurred = cv2.GaussianBlur(padded, (0, 0), sigma)[margin:-margin, margin:-margin]
    return np.asarray(blurred / (blurred.std() + 1e-9))


@lru_cache(maxsize=2)
def texture_maps(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [h, w, 6] template place (3), lips, lids, cavity; bool [h, w] where the head is."""
    mesh = head_mesh()
    values = np.concatenate([mesh.canonical, mesh.lips[:, None], mesh.lids[:, None], mesh.cavity[:, None]], 1).astype(np.float32)
    on_head = mesh.island == HEAD
    places = (mesh.uv[on_head] * np.array([width, height], np.float32)).reshape(-1, 6)
    image, hit = np.zeros((height, width, values.shape[1]), np.float32), np.zeros((height, width), np.int32)
    wp.launch(bake, len(places), device="cpu", inputs=[
        array(places, wp.float32), array(values, wp.float32), array(mesh.triangles[on_head], wp.int32), array(image, wp.float32),
        array(hit, wp.int32)])
    return image, hit > 0


def hairline(place: np.ndarray, lift: float, peak: float) -> np.ndarray:
    """Metres above the hairline [...] of template places [..., 3]; negative on the face and the ears."""
    x, y, z = np.abs(place[..., 0]), place[..., 1], place[..., 2]
    line = np.interp(y, [-0.155, -0.125, -0.100, -0.080, -0.055, -0.03, 0.0, 0.04],
                     [0.795, 0.793, 0.780, 0.750, 0.715, 0.70, 0.66, 0.63])
    line = line + smooth(-y, 0.08, 0.12) * (lift - peak * np.exp(-((x / 0.018) ** 2)))
    return np.where((x > 0.0735) & (z < 0.745) & (y < 0.02), -0.01, z - line)


def beard_map(place: np.ndarray, style: str) -> np.ndarray:
    """0..1 [...]: full, goatee or moustache."""
    x, y, z = np.abs(place[..., 0]), place[..., 1], place[..., 2]
    top = np.interp(x, [0.0, 0.012, 0.024, 0.030, 0.040, 0.052, 0.066, 0.08],
                    [0.6795, 0.6795, 0.674, 0.662, 0.655, 0.664, 0.700, 0.715])
    grown = smooth(top - z, -0.001, 0.006) * smooth(z, 0.578, 0.604) * (y < -0.03) * smooth(-y, 0.030, 0.055)
    if style == "goatee":
        grown = grown * smooth(-x, -0.036, -0.026)
    if style == "moustache":
        grown = grown * smooth(z, 0.655, 0.660) * smooth(-x, -0.036, -0.028)
    return np.asarray(grown)


def hat_line(place: np.ndarray, hat: str) -> np.ndarray:
    """Metres above the lower edge of a knit cap, a baseball cap or a brimmed hat, [...]."""
    y, z = place[..., 1], place[..., 2]
    heights = {"knit cap": [0.786, 0.783, 0.757, 0.734, 0.705, 0.69], "baseball cap": [0.792, 0.790, 0.772, 0.757, 0.735, 0.72],
               "brimmed hat": [0.796, 0.794, 0.780, 0.768, 0.752, 0.74]}[hat]
    return np.asarray(z - np.interp(y, [-0.155, -0.120, -0.070, -0.025, 0.03, 0.09], heights))


def scarf_edge(place: np.ndarray) -> np.ndarray:
    """Metres (about) outside the oval of the face that a headscarf leaves free, [...]; beneath the jaw all is outside."""
    x, y, z = np.abs(place[..., 0]), place[..., 1], place[..., 2]
    half = np.where(z > 0.70, 0.086, 0.081)
    edge = (np.sqrt((x / 0.0650) ** 2 + ((z - 0.700) / half) ** 2) - 1) * 0.07
    edge = np.maximum(edge, y + 0.082)
    return np.maximum(edge, 0.8 * (y + 0.116) + 1.5 * (0.628 - z))
