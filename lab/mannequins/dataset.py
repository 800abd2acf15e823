"""Pictures with their attributes, in shards: `python -m lab.mannequins.dataset --help`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .heads import Head, make_head
from .units import ACTION_UNITS, EXPRESSIONS, combined, scaled

PICTURES_PER_IDENTITY = 5  # neutral, three expressions, one of single or double action units: 20 / 60 / 20 %
EXPRESSIVE = tuple(word for word in EXPRESSIONS if word != "neutral")
WEIGHT_JITTER = (0.88, 1.06)
SHARD_IDENTITIES = 100


class Picture(NamedTuple):
    image: np.ndarray  # uint8 [size, size, 3] RGB
    parts: np.ndarray  # uint8 [size, size], render.PART_...
    attributes: dict[str, Any]


class Shown(NamedTuple):
    """What a face does; `expression` is None where only action units are named."""

    expression: str | None
    intensity: float
    action_units: tuple[int, ...] = ()


def draw(
    head: Head, shown: Shown, rng: np.random.Generator, size: int = 128, resting: Mapping[str, float] = MappingProxyType({})
) -> Picture:
    """One picture in a random scene; `resting` are facial units that the person shows at rest already, added to all that is shown."""
    from .render import BACKGROUNDS, Scene, render

    full = combined(*(ACTION_UNITS[unit] for unit in shown.action_units)) if shown.expression is None else EXPRESSIONS[shown.expression]
    weights = {unit: round(w * float(rng.uniform(*WEIGHT_JITTER)), 4) for unit, w in scaled(full, shown.intensity).items()}
    weights |= {unit: weights.get(unit, 0.0) + weight for unit, weight in resting.items()}
    background = str(rng.choice(list(BACKGROUNDS)))
    azimuth = float(rng.uniform(-50, 50))
    scene = Scene(
        yaw=float(np.clip(rng.normal(0, 6), -12, 12)),
        pitch=float(np.clip(rng.normal(0, 3), -6, 6)),
        roll=float(np.clip(rng.normal(0, 1.5), -4, 4)),
        shift=(float(rng.uniform(-0.02, 0.02)), float(rng.uniform(-0.02, 0.02))),
        scale=float(rng.uniform(0.96, 1.05)),
        gaze=(float(rng.normal(0, 0.12)), float(rng.normal(0, 0.08))),
        light_azimuth=azimuth,
        light_elevation=float(rng.uniform(10, 55)),
        key=float(rng.uniform(0.68, 0.95)),
        ambient=float(rng.uniform(0.35, 0.6)),
        warmth=float(rng.uniform(-1, 1)),
        background=tuple(np.clip(np.array(BACKGROUNDS[background]) * rng.uniform(0.88, 1.1) + rng.normal(0, 0.015, 3), 0, 1)),
        gradient=float(rng.uniform(-0.5, 0.5)) if rng.random() < 0.5 else 0.0,
        clothes=tuple(rng.uniform(0.1, 0.85, 3)),
        glasses_colour=tuple(rng.uniform(0.02, 0.2, 3)),
    )
    image, parts = render(head, weights, scene, size)
    attributes = {
        "identity": head.seed,
        "expression": shown.expression,
        "intensity": round(shown.intensity, 3),
        "action_units": list(shown.action_units),
        "weights": weights,
        "age": head.age_word,
        "gender": head.gender_word,
        "skin": head.skin_word,
        "hair": head.hair_word,
        "hair_style": head.hair_style,
        "eyes": head.eye_word,
        "beard": head.beard,
        "glasses": head.glasses,
        "background": background,
        "light": "right" if azimuth > 25 else "left" if azimuth < -25 else "front",
        "yaw": round(scene.yaw, 2),
        "pitch": round(scene.pitch, 2),
        "roll": round(scene.roll, 2),
        "scale": round(scene.scale, 3),
        "gaze": [round(g, 3) for g in scene.gaze],
    }
    return Picture(image, parts, attributes)


def identity_pictures(seed: int, size: int = 128) -> list[Picture]:
    """The neutral, three different expressions and one picture of action units."""
    head, rng = make_head(seed), np.random.default_rng([21, seed])
    shown = [Shown("neutral", 0.0)]
    shown += [Shown(EXPRESSIVE[i], _intensity(rng)) for i in rng.permutation(len(EXPRESSIVE))[:3]]
    shown.append(Shown(None, _intensity(rng), _action_units(rng)))
    return [draw(head, one, rng, size) for one in shown]


def subject_photos(seed: int, n: int = 6, size: int = 256, expressive: bool = True) -> list[Picture]:
    """Varied photos of one person, as a user would bring them: the first neutral, the others mild expressions."""
    head, rng = make_head(seed), np.random.default_rng([22, seed])
    shown = [Shown("neutral", 0.0)]
    while len(shown) < n:
        mild = rng.random() < 0.6 and expressive
        shown.append(Shown(str(rng.choice(EXPRESSIVE)), float(rng.uniform(0.25, 0.6))) if mild else Shown("neutral", 0.0))
    return [draw(head, one, rng, size) for one in shown]


def expression_sheet(seed: int, size: int = 128, intensity: float = 1.0) -> list[Picture]:
    """Every expression once, neutral first."""
    head, rng = make_head(seed), np.random.default_rng([23, seed])
    return [draw(head, Shown(word, intensity if word != "neutral" else 0.0), rng, size) for word in EXPRESSIONS]


def write_shard(directory: Path, first: int, count: int, size: int) -> Path:
    """`shard_<first>.npz` (images, parts) and, before it, `shard_<first>.jsonl`; a finished shard is left alone."""
    target = directory / f"shard_{first:06d}.npz"
    if target.exists():
        return target
    pictures = [picture for seed in range(first, first + count) for picture in identity_pictures(seed, size)]
    lines = "".join(json.dumps(picture.attributes) + "\n" for picture in pictures)
    _replace(target.with_suffix(".jsonl"), lambda path: path.write_text(lines))
    images, parts = (np.stack([getattr(picture, name) for picture in pictures]) for name in ("image", "parts"))
    _replace(target, lambda path: np.savez(path, images=images, parts=parts))
    return target


def load_shard(path: Path) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Images uint8 [n, size, size, 3], parts uint8 [n, size, size], attributes [n]."""
    with np.load(path) as stored:
        images, parts = stored["images"], stored["parts"]
    return images, parts, [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]


def _intensity(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.6, 1.0) if rng.random() < 0.85 else rng.uniform(0.3, 0.6))


def _action_units(rng: np.random.Generator) -> tuple[int, ...]:
    """One action unit or two that share no facial unit."""
    first, second = (int(unit) for unit in rng.choice(list(ACTION_UNITS), 2, replace=False))
    alone = rng.random() < 0.6 or set(ACTION_UNITS[first]) & set(ACTION_UNITS[second])
    return (first,) if alone else (first, second)


def _replace(path: Path, write: Any) -> None:
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    write(unfinished)
    os.replace(unfinished, path)


def _one_thread() -> None:
    """The workers are the parallelism."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--first_identity", type=int, default=0)
    parser.add_argument("--identities", type=int, default=4000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    end = arguments.first_identity + arguments.identities
    with ProcessPoolExecutor(arguments.workers, initializer=_one_thread) as pool:
        shards = [
            pool.submit(write_shard, arguments.output_dir, first, min(SHARD_IDENTITIES, end - first), arguments.size)
            for first in range(arguments.first_identity, end, SHARD_IDENTITIES)
        ]
        for done in as_completed(shards):
            print(done.result(), flush=True)


if __name__ == "__main__":
    main()
