"""The skin of a person as a texture: two photographic skins mixed, moved to a tone; lips, freckles, stubble, scalp and oil painted."""

from __future__ import annotations

import cv2
import numpy as np

from .assets import Parts
from .identity import Person
from .maps import beard_map, hairline, noise, smooth, texture_maps

OIL_SCALE = 2.4
PATCH = (slice(0, 7), slice(0, 20))
"""Texels of half-size skins that the mouth's inside and the eye sockets show; TORSO_PATCH below them."""
TORSO_PATCH = (slice(8, 20), slice(0, 20))
MOUTH_COLOUR = (0.42, 0.16, 0.15, 0.3)


def skin_texture(person: Person, parts: Parts, detail: float) -> np.ndarray:
    """uint8 [h, w, 4]: sRGB and, in the alpha, oil / OIL_SCALE."""
    first, second = (_resized(parts.picture(f"skins/{name}.jpg"), detail) for name in person.skins)
    height, width = first.shape[:2]
    if second.shape != first.shape:
        second = cv2.resize(second, (width, height), interpolation=cv2.INTER_AREA)
    maps, on_head = texture_maps(height, width)
    place, lips, lids = maps[..., :3], maps[..., 3], maps[..., 4]
    rng = np.random.default_rng([52, person.seed])
    x, y, z = np.abs(place[..., 0]), place[..., 1], place[..., 2]

    logs = [np.log(image.astype(np.float32) / 255 + 0.01) for image in (first, second)]
    mixed = np.exp(logs[0] * np.float32(person.skin_blend) + logs[1] * np.float32(1 - person.skin_blend))
    face = on_head & (x < 0.06) & (z > 0.63) & (z < 0.78) & (y < -0.08) & (lips < 0.2) & (lids < 0.3)
    lip = smooth(lips, 0.3, 0.65)[..., None].astype(np.float32)
    gain = np.array(person.tone, np.float32) / mixed[face].mean(0)
    mixed = mixed * (1 + (gain - 1) * (1 - 0.35 * lip))
    colour = np.clip(mixed, 0, 1.2).astype(np.float32) ** 2.2

    def multiply(strength: np.ndarray, by: tuple[float, float, float]) -> None:
        """Takes `by` of each channel away, as strongly as told."""
        colour[:] = colour * (1 - strength[..., None] * np.array(by, np.float32))

    blotches = cv2.resize(noise((height // 8 + 1, width // 8 + 1), 6, rng), (width, height), interpolation=cv2.INTER_CUBIC)
    multiply(-blotches, (0.006, 0.02, 0.02))
    cheeks = np.exp(-(((x - 0.042) / 0.018) ** 2) - ((z - 0.692) / 0.016) ** 2) * (y < -0.05)
    nose = np.exp(-((x / 0.014) ** 2) - ((z - 0.695) / 0.012) ** 2) * (y < -0.13)
    multiply(person.blush * (cheeks + 0.6 * nose) * 0.5, (0, 0.30, 0.28))
    if person.freckles > 0:
        zone = np.exp(-((x / 0.055) ** 4) - ((z - 0.705) / 0.022) ** 2) * (y < -0.06)
        multiply(person.freckles * 0.5 * zone * smooth(noise((height, width), max(1.6 * detail, 0.9), rng), 1.0, 1.8), (0.45, 0.6, 0.65))
    for _ in range(int(rng.integers(0, 4))):
        at_x, at_z, radius = rng.uniform(-0.055, 0.055), rng.uniform(0.63, 0.78), rng.uniform(0.0007, 0.0013)
        mole = np.exp(-((place[..., 0] - at_x) ** 2 + (z - at_z) ** 2) / radius**2) * (y < -0.09)
        multiply(0.75 * mole, (0.7, 0.85, 0.9))
    if person.gender == "woman":
        multiply(lip[..., 0], (0.06, 0.26, 0.22))
    if person.lipstick:
        strength = person.lipstick * (0.8 if person.skin not in ("dark", "brown") else 0.35)
        relief = 0.4 + 0.6 * colour.mean(-1, keepdims=True) / colour[face].mean()
        colour += (np.array(person.lip_colour, np.float32) ** 2.2 * relief - colour) * lip * strength
    if person.eye_shadow:
        multiply(person.eye_shadow * 0.55 * smooth(lids, 0.3, 0.8), (1, 1, 1))

    oil = 0.55 + 0.9 * np.exp(-((x / 0.03) ** 2) - ((z - 0.775) / 0.02) ** 2) + 0.8 * np.exp(-((x / 0.012) ** 2) - ((z - 0.70) / 0.03) ** 2)
    oil = oil + 0.45 * cheeks + 1.1 * lip[..., 0] * (1 + person.lipstick)
    oil = oil * _stubble(colour, person, place, lips, rng)
    oil = oil * _scalp(colour, person, place, face, rng)
    grey = colour.mean(-1)
    fine = grey / (cv2.GaussianBlur(grey, (0, 0), 3 * detail) + 1e-4)
    oil = oil * np.clip(fine, 0.6, 1.4) ** 2
    colour *= (np.clip(fine, 0.7, 1.35) ** 0.7)[..., None]

    texture = np.dstack([np.clip(colour, 0, 1) ** (1 / 2.2), np.clip(oil / OIL_SCALE, 0, 1)])
    front = on_head & (y < 0)
    neck = front & (z < z[front].min() + 0.012)
    texture[PATCH] = MOUTH_COLOUR
    texture[TORSO_PATCH] = np.append(np.median(texture[neck][:, :3], 0), 0.2)
    return (texture * 255).astype(np.uint8)


def _resized(image: np.ndarray, detail: float) -> np.ndarray:
    if detail == 1.0:
        return image
    return cv2.resize(image, None, fx=detail, fy=detail, interpolation=cv2.INTER_AREA)


def _stubble(colour: np.ndarray, person: Person, place: np.ndarray, lips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darkens the beard's skin in place; what is left of the oil, [h, w]."""
    if person.beard == "none":
        return np.ones(colour.shape[:2], np.float32)
    grown = beard_map(place, person.beard if person.beard in ("goatee", "moustache") else "full") * (1 - np.clip(lips * 1.6, 0, 1))
    strength = {"shadow": 0.11, "stubble": 0.42, "full": 0.72, "goatee": 0.66, "moustache": 0.6}[person.beard]
    grain = smooth(noise(colour.shape[:2], 0.8, rng), -0.9, 1.2)
    colour += (np.array(person.beard_colour, np.float32) * 0.8 - colour) * (grown * strength * (0.55 + 0.45 * grain))[..., None]
    return np.asarray(1 - 0.7 * grown) if person.beard != "shadow" else np.ones(colour.shape[:2], np.float32)


def _scalp(colour: np.ndarray, person: Person, place: np.ndarray, face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paints roots or bare skin on the scalp in place; what is left of the oil, [h, w]."""
    above = hairline(place, person.hairline, person.peak)
    shape = colour.shape[:2]
    roots = np.array(person.hair_colour, np.float32) * 0.6
    if person.hair_style == "bald":
        bare = smooth(above, -0.01, 0.02)
        scalp = colour[face].mean(0) * 0.93 * (1 + 0.05 * noise(shape, 1.0, rng) + 0.04 * noise(shape, 9, rng))[..., None]
        colour += (scalp - colour) * (0.92 * bare)[..., None]
        if rng.random() < 0.7:
            ring = smooth(above, 0, 0.01) * smooth(-place[..., 2], -0.80, -0.77)
            colour += (roots - colour) * (ring * 0.45 * smooth(noise(shape, 0.8, rng), -1, 1))[..., None]
        return np.ones(shape, np.float32)
    short = person.hair_style == "buzz"
    edge = -0.002 if person.hair_style in ("buzz", "afro") else 0.001
    grown = smooth(above + 0.001 * noise(shape, 1.2, rng), edge, 0.016 if short else 0.014) * (0.7 if short else 0.85)
    grain = smooth(noise(shape, 0.9, rng), -1.8, 1.2)
    colour += (roots - colour) * (grown * (0.68 + 0.32 * grain))[..., None]
    return np.asarray(1 - 0.7 * grown)
