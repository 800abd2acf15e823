"""What lies behind a head: plain studio walls in eight colours, and eleven places drawn coarsely and thrown out of focus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .identity import Colour, hsv
from .light import Lights
from .maps import noise, smooth

SIDE = 96
TINTS: dict[str, Colour] = {
    "red": (0.62, 0.18, 0.16), "green": (0.25, 0.48, 0.26), "blue": (0.22, 0.36, 0.66), "grey": (0.5, 0.5, 0.5),
    "white": (0.92, 0.92, 0.91), "yellow": (0.85, 0.72, 0.3), "purple": (0.45, 0.26, 0.56), "teal": (0.15, 0.48, 0.5),
}
YY, XX = np.mgrid[0:SIDE, 0:SIDE] / SIDE


class Canvas:
    """sRGB [SIDE, SIDE, 3], painted over in fractions of its sides."""

    def __init__(self, colour: np.ndarray | Colour) -> None:
        self.image = np.ones((SIDE, SIDE, 3)) * np.array(colour)

    def over(self, mask: np.ndarray, colour: np.ndarray | Colour) -> None:
        self.image += (np.array(colour) - self.image) * mask[..., None]

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: np.ndarray | Colour, alpha: float = 1.0) -> None:
        rows, columns = (slice(max(round(low * SIDE), 0), max(round(high * SIDE), 0)) for low, high in ((y0, y1), (x0, x1)))
        self.image[rows, columns] += (np.array(colour) - self.image[rows, columns]) * alpha

    def disc(self, x: float, y: float, radius: float, colour: np.ndarray | Colour, alpha: float = 1.0, soft: float = 0.15) -> None:
        reach = radius * (1 + soft)
        rows, columns = (slice(max(int((at - reach) * SIDE), 0), max(int((at + reach) * SIDE) + 2, 0)) for at in (y, x))
        away = np.hypot(XX[rows, columns] - x, YY[rows, columns] - y)
        mask = smooth(radius - away, -radius * soft, radius * soft) * alpha
        self.image[rows, columns] += (np.array(colour) - self.image[rows, columns]) * mask[..., None]

    def below(self, line: np.ndarray | float, colour: np.ndarray | Colour) -> None:
        """Fills what lies under a line y(x) [SIDE]."""
        self.over(smooth(YY - np.broadcast_to(line, (SIDE,))[None], -0.008, 0.008), colour)

    def grain(self, strength: float, sigma: float, rng: np.random.Generator) -> None:
        self.image *= 1 + strength * noise((SIDE, SIDE), sigma, rng)[..., None]

    def blur(self, sigma: float) -> None:
        self.image = cv2.GaussianBlur(self.image, (0, 0), sigma)


def _ridge(rng: np.random.Generator, height: float, rough: float) -> np.ndarray:
    """[SIDE] a wavering horizon."""
    x = np.linspace(0, 1, SIDE)
    return np.asarray(height + sum(rough / k * np.sin(2 * np.pi * k * x * 0.8 + rng.uniform(0, 6.3)) for k in (1, 2, 3, 5, 8)))


def _jitter(colour: Colour, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Lighter or darker by `amount`, and a third of that in hue."""
    return np.clip(np.array(colour) * (1 + rng.normal(0, amount)) * (1 + rng.normal(0, amount / 3, 3)), 0, 1.2)


def _shelves(c: Canvas, x0: float, x1: float, rng: np.random.Generator, wood: Colour, rows: int = 4) -> None:
    c.box(x0, 0, x1, 1, np.array(wood) * 0.45)
    step = 1 / rows
    offset = rng.uniform(-0.5, 0.2) * step
    for r in range(rows + 1):
        y = offset + r * step
        x = x0 + 0.01
        while x < x1 - 0.01:
            width, height = rng.uniform(0.014, 0.032), rng.uniform(0.62, 0.88) * step
            spine = hsv(rng.uniform(0, 360), rng.uniform(0.25, 0.75), rng.uniform(0.25, 0.85))
            if rng.random() < 0.92:
                c.box(x, y + step - height, min(x + width, x1 - 0.01), y + step, spine)
            x += width + 0.002
        c.box(x0, y + step - 0.006, x1, y + step + 0.022, wood)


def _library(c: Canvas, rng: np.random.Generator) -> float:
    gap = rng.uniform(0.3, 0.7)
    wood = tuple(_jitter((0.50, 0.33, 0.20), 0.1, rng))
    _shelves(c, -0.02, gap - 0.03, rng, wood)
    c.box(gap - 0.03, 0, gap + 0.03, 1, np.array(wood) * 0.9)
    _shelves(c, gap + 0.03, 1.02, rng, wood)
    c.image *= (1.1 - 0.35 * YY)[..., None]
    return 1.0


def _office(c: Canvas, rng: np.random.Generator) -> float:
    c.image *= (1.08 - 0.2 * YY)[..., None]
    side = rng.random() < 0.5
    x0 = rng.uniform(0.0, 0.08) if side else rng.uniform(0.62, 0.70)
    c.box(x0, 0.05, x0 + 0.30, 0.62, (1.2, 1.22, 1.25))
    for y in np.arange(0.05, 0.62, 0.045):
        c.box(x0, y, x0 + 0.30, y + 0.014, (0.72, 0.74, 0.76))
    other = rng.uniform(0.68, 0.74) if side else rng.uniform(0.02, 0.08)
    c.box(other, 0.12, other + 0.26, 0.40, (0.12, 0.13, 0.15))
    c.box(other + 0.015, 0.135, other + 0.245, 0.385, _jitter((0.35, 0.55, 0.8), 0.1, rng))
    for k in range(5):
        c.box(other + 0.02 + 0.048 * k, 0.52, other + 0.06 + 0.048 * k, 0.74, rng.choice([0.2, 0.5, 0.9]) * np.array([0.9, 0.95, 1.0]))
    c.box(other - 0.03, 0.74, other + 0.30, 0.77, (0.45, 0.42, 0.4))
    c.box(0, 0.88, 1, 1, (0.62, 0.5, 0.38))
    return 1.2


def _kitchen(c: Canvas, rng: np.random.Generator) -> float:
    for x in np.arange(0, 1, 0.085):
        c.box(x, 0, x + 0.006, 1, (0.72, 0.74, 0.74))
    for y in np.arange(0, 1, 0.085):
        c.box(0, y, 1, y + 0.006, (0.72, 0.74, 0.74))
    cabinet = _jitter((0.30, 0.46, 0.50) if rng.random() < 0.5 else (0.55, 0.36, 0.2), 0.08, rng)
    for x in (0.0, 0.17, 0.66, 0.83):
        c.box(x, -0.1, x + 0.165, 0.30, cabinet)
        c.box(x + 0.02, -0.1, x + 0.145, 0.27, cabinet * 1.15)
        c.disc(x + 0.13, 0.24, 0.012, (0.9, 0.85, 0.7))
    for _ in range(4):
        x = rng.choice([rng.uniform(0.02, 0.2), rng.uniform(0.75, 0.95)])
        c.box(x, 0.36, x + 0.012, 0.46, (0.2, 0.2, 0.22))
        c.disc(x + 0.006, 0.50, rng.uniform(0.03, 0.05), _jitter((0.55, 0.3, 0.18), 0.2, rng))
    c.box(0, 0.76, 1, 0.82, (0.42, 0.38, 0.36))
    c.box(0, 0.82, 1, 1, cabinet)
    return 1.2


def _living_room(c: Canvas, rng: np.random.Generator) -> float:
    c.image *= (1.05 - 0.25 * YY)[..., None]
    left = rng.random() < 0.5
    lamp, frame = (rng.uniform(0.08, 0.16), 0.70) if left else (rng.uniform(0.84, 0.92), 0.06)
    glow = np.exp(-((XX - lamp) ** 2 + (YY - 0.36) ** 2) / 0.05)
    c.image += glow[..., None] * np.array([0.45, 0.32, 0.14])
    c.over(((np.abs(XX - lamp) < 0.05 + 0.09 * (YY - 0.26)) & (YY > 0.26) & (YY < 0.44)).astype(float), (1.25, 1.08, 0.72))
    c.box(lamp - 0.008, 0.44, lamp + 0.008, 0.9, (0.25, 0.2, 0.15))
    c.box(frame, 0.10, frame + 0.24, 0.40, (0.22, 0.15, 0.10))
    c.box(frame + 0.02, 0.12, frame + 0.22, 0.38, _jitter((0.75, 0.78, 0.70), 0.1, rng))
    c.disc(frame + 0.12, 0.28, 0.06, _jitter((0.3, 0.5, 0.55), 0.3, rng))
    sofa = _jitter((0.35, 0.40, 0.48) if rng.random() < 0.5 else (0.5, 0.28, 0.22), 0.1, rng)
    c.box(0, 0.70, 1, 1, sofa)
    c.box(0, 0.70, 1, 0.73, sofa * 1.25)
    return 1.3


def _cafe(c: Canvas, rng: np.random.Generator) -> float:
    for r, y in enumerate(np.arange(-0.02, 1, 0.055)):
        for x in np.arange(-0.1 + 0.06 * (r % 2), 1.05, 0.12):
            c.box(x, y, x + 0.112, y + 0.047, _jitter((0.50, 0.27, 0.19), 0.12, rng))
    c.image *= 0.8
    board = rng.choice([0.02, 0.68])
    c.box(board, 0.28, board + 0.30, 0.66, (0.42, 0.28, 0.16))
    c.box(board + 0.02, 0.30, board + 0.28, 0.64, (0.10, 0.13, 0.12))
    for y in np.arange(0.35, 0.62, 0.055):
        c.box(board + 0.05, y, board + rng.uniform(0.12, 0.25), y + 0.015, (0.85, 0.85, 0.8), 0.8)
    for _ in range(5):
        x, y = rng.uniform(0, 1), rng.uniform(0.02, 0.25)
        c.box(x - 0.004, 0, x + 0.004, y, (0.08, 0.06, 0.05))
        c.image += (np.exp(-((XX - x) ** 2 + (YY - y) ** 2) / 0.012) * 0.5)[..., None] * np.array([1, 0.65, 0.25])
        c.disc(x, y, 0.022, (1.3, 1.15, 0.7))
    return 1.2


def _park(c: Canvas, rng: np.random.Generator) -> float:
    c.image[:] = np.array([0.62, 0.80, 0.98]) * (1.12 - 0.25 * YY[..., None])
    c.below(_ridge(rng, 0.62, 0.015), (0.36, 0.56, 0.20))
    c.image[YY > 0.66] *= np.array([0.95, 1.0, 0.8])
    for _ in range(int(rng.integers(3, 6))):
        x = rng.choice([rng.uniform(-0.05, 0.28), rng.uniform(0.72, 1.05)])
        base, top = rng.uniform(0.62, 0.72), rng.uniform(0.12, 0.35)
        c.box(x - 0.018, top, x + 0.018, base, _jitter((0.30, 0.20, 0.13), 0.1, rng))
        green = _jitter((0.20, 0.38, 0.12), 0.15, rng)
        for _ in range(26):
            turn, away = rng.uniform(0, 6.3), 0.16 * np.sqrt(rng.random())
            c.disc(x + away * np.cos(turn), top + 0.05 + 0.8 * away * np.sin(turn), rng.uniform(0.02, 0.05),
                   green * rng.uniform(0.6, 1.7), 0.9, 0.3)
    c.grain(0.05, 1.0, rng)
    return 1.3


def _forest(c: Canvas, rng: np.random.Generator) -> float:
    c.image[:] = np.array([0.70, 0.82, 0.55]) * (0.95 - 0.55 * YY[..., None])
    for depth in (0.75, 0.5, 0.25):
        for _ in range(7):
            x, width = rng.uniform(0, 1), (1.15 - depth) * rng.uniform(0.02, 0.045)
            c.box(x, 0, x + width, 0.85, np.array([0.26, 0.20, 0.14]) * (1 - depth) + np.array([0.55, 0.66, 0.42]) * depth)
        for _ in range(30):
            c.disc(rng.uniform(0, 1), rng.uniform(0, 0.5), rng.uniform(0.02, 0.07), np.array([0.20, 0.42, 0.12]) * rng.uniform(0.5, 1.6),
                   0.55, 0.4)
    c.below(_ridge(rng, 0.84, 0.01), (0.30, 0.30, 0.14))
    for _ in range(14):
        c.disc(rng.uniform(0, 1), rng.uniform(0, 0.5), rng.uniform(0.01, 0.03), (1.1, 1.1, 0.8), 0.6, 0.3)
    return 1.2


def _beach(c: Canvas, rng: np.random.Generator) -> float:
    horizon = rng.uniform(0.42, 0.52)
    c.image[:] = (np.array([0.45, 0.70, 0.98]) * (1 - YY[..., None] / horizon) + np.array([0.88, 0.94, 1.0]) * YY[..., None] / horizon)
    for _ in range(5):
        x, y = rng.uniform(0, 1), rng.uniform(0.05, 0.3)
        c.over(np.exp(-(((XX - x) / 0.14) ** 2) - ((YY - y) / 0.025) ** 2) * 0.7, (1.1, 1.1, 1.1))
    c.below(horizon, (0.10, 0.42, 0.58))
    for y in np.arange(horizon + 0.03, 0.74, 0.035):
        c.over(np.exp(-(((YY - y - 0.006 * np.sin(20 * XX + 60 * y)) / 0.006) ** 2)) * 0.45, (0.85, 0.95, 0.98))
    c.below(_ridge(rng, 0.75, 0.01), (0.88, 0.78, 0.58))
    return 0.9


def _mountains(c: Canvas, rng: np.random.Generator) -> float:
    c.image[:] = np.array([0.55, 0.74, 0.96]) * (1.1 - 0.2 * YY[..., None])
    x = np.linspace(0, 1, SIDE)
    for depth, base in ((0.9, 0.42), (0.5, 0.55), (0.15, 0.72)):
        peaks = base - 0.42 * depth * np.max(
            [np.clip(1 - np.abs(x - p) / rng.uniform(0.16, 0.30), 0, 1) * rng.uniform(0.6, 1.0) for p in (0.08, 0.30, 0.62, 0.9)], 0)
        peaks = peaks + 0.01 * np.sin(x * 47 + rng.uniform(0, 6)) + 0.006 * np.sin(x * 113)
        rock = np.array([0.42, 0.50, 0.62]) * depth + np.array([0.22, 0.34, 0.18]) * (1 - depth)
        c.below(peaks, rock)
        if depth > 0.4:
            snow = smooth(peaks[None] + 0.09 * depth - YY + 0.015 * np.sin(60 * XX + 20 * YY), -0.01, 0.01)
            c.over(snow * smooth(YY - peaks[None], -0.008, 0.008), (0.97, 0.98, 1.02))
    return 0.9


def _street(c: Canvas, rng: np.random.Generator) -> float:
    c.image[:] = np.array([0.78, 0.85, 0.93]) * (1.05 - 0.1 * YY[..., None])
    gap = rng.uniform(0.42, 0.58)
    for side in (-1, 1):
        wall = _jitter(((0.62, 0.42, 0.34), (0.70, 0.64, 0.54), (0.52, 0.54, 0.58))[rng.integers(3)], 0.08, rng)
        edge = gap + side * rng.uniform(0.04, 0.10)
        x0, x1 = (-0.05, edge) if side < 0 else (edge, 1.05)
        c.box(x0, -0.1, x1, 0.82, wall)
        for y in np.arange(rng.uniform(-0.05, 0.05), 0.6, 0.17):
            for x in np.arange(x0 + 0.04, x1 - 0.06, 0.115):
                c.box(x - 0.008, y - 0.008, x + 0.068, y + 0.108, wall * 1.25)
                c.box(x, y, x + 0.06, y + 0.10, _jitter((0.22, 0.30, 0.38), 0.25, rng))
        c.box(x0, 0.66, x1, 0.72, _jitter((0.6, 0.2, 0.15), 0.4, rng))
    c.below(0.82, (0.36, 0.36, 0.38))
    for _ in range(2):
        x = rng.uniform(0, 0.9)
        body = np.array(hsv(rng.uniform(0, 360), 0.7, 0.7))
        c.box(x, 0.76, x + 0.22, 0.86, body)
        c.box(x + 0.04, 0.70, x + 0.18, 0.76, body * 0.6)
    return 1.2


def _night(c: Canvas, rng: np.random.Generator) -> float:
    c.image[:] = np.array([0.06, 0.07, 0.14]) * (1.3 - 0.5 * YY[..., None])
    for _ in range(7):
        x = rng.uniform(-0.1, 1)
        c.box(x, rng.uniform(0.0, 0.4), x + rng.uniform(0.1, 0.25), 1, _jitter((0.09, 0.09, 0.13), 0.3, rng))
    for _ in range(60):
        c.box(x := rng.uniform(0, 1), y := rng.uniform(0.1, 0.8), x + 0.016, y + 0.02, (0.9, 0.75, 0.4), rng.uniform(0.2, 0.8))
    c.blur(1.2)
    palette = np.array([[1.0, 0.75, 0.4], [1.0, 0.45, 0.3], [0.5, 0.75, 1.0], [1.0, 0.95, 0.85], [0.9, 0.4, 0.7]])
    for _ in range(int(rng.integers(16, 28))):
        c.disc(rng.uniform(0, 1), rng.uniform(0.05, 0.9), rng.uniform(0.015, 0.045), palette[rng.integers(5)] * rng.uniform(0.8, 1.3),
               rng.uniform(0.35, 0.8), 0.12)
    return 0.8


@dataclass(frozen=True)
class Place:
    """How a place is called in a caption, the base colour it is painted on and the tint of its light."""

    words: str
    base: Colour
    tint: Colour
    paint: Callable[[Canvas, np.random.Generator], float]  # returns the blur, in canvas samples


PLACES: dict[str, Place] = {
    "library": Place("in a library", (0.3, 0.2, 0.13), (0.55, 0.45, 0.35), _library),
    "office": Place("in an office", (0.78, 0.79, 0.80), (0.6, 0.62, 0.66), _office),
    "kitchen": Place("in a kitchen", (0.90, 0.91, 0.90), (0.6, 0.6, 0.58), _kitchen),
    "living room": Place("in a living room", (0.80, 0.70, 0.56), (0.65, 0.52, 0.38), _living_room),
    "cafe": Place("in a cafe", (0.30, 0.20, 0.15), (0.6, 0.45, 0.3), _cafe),
    "park": Place("in a park", (0.6, 0.8, 0.95), (0.5, 0.62, 0.45), _park),
    "forest": Place("in a forest", (0.5, 0.6, 0.4), (0.42, 0.56, 0.35), _forest),
    "beach": Place("on a beach", (0.6, 0.8, 1.0), (0.62, 0.66, 0.66), _beach),
    "mountains": Place("in the mountains", (0.6, 0.75, 0.95), (0.55, 0.6, 0.7), _mountains),
    "street": Place("on a street", (0.8, 0.85, 0.9), (0.55, 0.55, 0.56), _street),
    "city at night": Place("in a city at night", (0.08, 0.08, 0.14), (0.4, 0.36, 0.45), _night),
}


def background(name: str, lights: Lights, seed: int, size: int) -> np.ndarray:
    """float32 [size, size, 3] linear light; a key of TINTS or of PLACES."""
    rng = np.random.default_rng([81, seed])
    if name in TINTS:
        canvas, blur = Canvas(np.clip(np.array(TINTS[name]) * rng.uniform(0.88, 1.1), 0, 1)), 1.0
        away = np.hypot(XX - rng.uniform(0.2, 0.8), YY - rng.uniform(0.2, 0.7))
        canvas.image *= (1.18 - 0.62 * away * rng.uniform(0.4, 1))[..., None]
        canvas.grain(0.02, 8, rng)
    else:
        place = PLACES[name]
        canvas = Canvas(_jitter(place.base, 0.04, rng))
        blur = place.paint(canvas, rng) * rng.uniform(0.8, 1.3)
    image = cv2.GaussianBlur(canvas.image.astype(np.float32), (0, 0), blur)
    if name in PLACES and rng.random() < 0.5:
        image = image[:, ::-1]
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
    warm = np.array([1 + 0.06 * lights.warmth, 1, 1 - 0.08 * lights.warmth], np.float32)
    return np.asarray(np.clip(image, 0, 1.3) ** 2.2 * (0.62 + 0.4 * lights.ambient + 0.15 * lights.key) * warm, np.float32)
