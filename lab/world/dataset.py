"""A training set on disk, in shards that resume: `python -m lab.world.dataset --parts DIR --out DIR --people N --pictures M`."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from faceexpr_core.errors import FaceExprError
from faceexpr_core.expressions import COMPOUNDS

from .assets import load_parts, parts_folder
from .expressions import ACTION_UNITS, EXPRESSIONS, ONE_SIDED, Shown
from .picture import Picture, picture

EXPRESSIVE = tuple(word for word in EXPRESSIONS if word != "neutral")
PEOPLE_IN_A_SHARD = 10
SETTINGS = "world.json"
NEVER = 900_000
"""Identities from here on are kept for others to test with."""


def shown_by(seed: int, count: int) -> list[Shown]:
    """What a person shows in `count` pictures: first neutral, then of the rest 12 % neutral, 56 % expressions (none twice before all were
    there), 7 % compounds, 25 % action units, alone, in pairs or on one side.
    """
    rng = np.random.default_rng([22, seed])
    found, waiting = [Shown("neutral", 0.0)], list[str]()
    for kind in rng.choice(["neutral", "expression", "compound", "units"], count - 1, p=[0.12, 0.56, 0.07, 0.25]):
        if not waiting:
            waiting = [EXPRESSIVE[i] for i in rng.permutation(len(EXPRESSIVE))]
        if kind == "neutral":
            found.append(Shown("neutral", 0.0))
        elif kind == "expression":
            found.append(Shown(waiting.pop(), _intensity(rng)))
        elif kind == "compound":
            found.append(Shown(str(rng.choice(list(COMPOUNDS))), float(rng.uniform(0.7, 1.0))))
        else:
            found.append(Shown(None, _intensity(rng), _action_units(rng)))
    return found


def identity_pictures(seed: int, count: int, size: int = 192) -> list[Picture]:
    """The pictures of one person in a training set."""
    return [picture(seed, number, shown, size) for number, shown in enumerate(shown_by(seed, count))]


def subject_photos(seed: int, n: int = 6, size: int = 192, expressive: bool = True) -> list[Picture]:
    """Varied photos of one person, as a user would bring them: the first neutral, the others mild expressions."""
    rng = np.random.default_rng([23, seed])
    shown = [Shown("neutral", 0.0)]
    while len(shown) < n:
        mild = rng.random() < 0.6 and expressive
        shown.append(Shown(str(rng.choice(EXPRESSIVE)), float(rng.uniform(0.25, 0.6))) if mild else Shown("neutral", 0.0))
    return [picture(seed, 10_000 + number, one, size) for number, one in enumerate(shown)]


def expression_sheet(seed: int, size: int = 192, intensity: float = 1.0) -> list[Picture]:
    """Every expression once, neutral first."""
    return [picture(seed, 20_000 + k, Shown(word, intensity), size) for k, word in enumerate(EXPRESSIONS)]


def write_shard(directory: Path, first: int, people: int, pictures: int, size: int) -> Path:
    """`shard_<first>.npz` (images, parts) and, before it, `shard_<first>.jsonl` (attributes and a caption a line); a finished shard is
    left alone.
    """
    target = directory / f"shard_{first:06d}.npz"
    if target.exists():
        return target
    made = [one for seed in range(first, first + people) for one in identity_pictures(seed, pictures, size)]
    lines = "".join(json.dumps({**one.attributes, "caption": one.caption}) + "\n" for one in made)
    _replace(target.with_suffix(".jsonl"), lambda path: path.write_text(lines, encoding="utf-8"))
    images, parts = np.stack([one.image for one in made]), np.stack([one.parts for one in made])
    _replace(target, lambda path: np.savez(path, images=images, parts=parts))
    return target


def load_shard(path: Path) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Images uint8 [n, size, size, 3], parts uint8 [n, size, size], attributes [n]."""
    with np.load(path) as stored:
        images, parts = stored["images"], stored["parts"]
    return images, parts, [json.loads(line) for line in path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()]


def check_settings(directory: Path, pictures: int, size: int) -> None:
    """Notes what a folder is made with. Raises FaceExprError where it was begun with something else."""
    wanted = {"side": size, "pictures": pictures, "expressions": EXPRESSIONS}
    path = directory / SETTINGS
    if path.exists():
        begun = json.loads(path.read_text(encoding="utf-8"))
        for key, value in wanted.items():
            if begun[key] != value:
                raise FaceExprError(
                    f"{directory} was begun with another {key} than asked for now. Give a new folder, "
                    f"or what it was begun with: {begun[key]}."
                )
    else:
        directory.mkdir(parents=True, exist_ok=True)
        _replace(path, lambda unfinished: unfinished.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8"))


def _intensity(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.6, 1.0) if rng.random() < 0.85 else rng.uniform(0.3, 0.6))


def _action_units(rng: np.random.Generator) -> tuple[str, ...]:
    """One action unit, on one side in a quarter of those that can be, or two that share no facial unit."""
    first, second = (int(unit) for unit in rng.choice(list(ACTION_UNITS), 2, replace=False))
    if rng.random() < 0.6 or set(ACTION_UNITS[first]) & set(ACTION_UNITS[second]):
        side = str(rng.choice(["L", "R"])) if first in ONE_SIDED and rng.random() < 0.25 else ""
        return (f"{side}{first}",)
    return (str(first), str(second))


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    write(unfinished)
    os.replace(unfinished, path)


def _one_thread() -> None:
    """The workers are the parallelism."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, help="folder of parts; default: the environment variable FACEEXPR_PARTS")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, required=True)
    parser.add_argument("--pictures", type=int, default=5, help="of each person")
    parser.add_argument("--side", type=int, default=192, help="pixels")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args(argv)
    end = arguments.first_seed + arguments.people
    if end > NEVER:
        raise FaceExprError(f"Identities from {NEVER} on are never rendered here; the last asked for is {end - 1}.")
    folder = parts_folder(arguments.parts)
    os.environ["FACEEXPR_PARTS"] = str(folder)
    load_parts(folder)
    check_settings(arguments.out, arguments.pictures, arguments.side)
    starts, began, done = range(arguments.first_seed, end, PEOPLE_IN_A_SHARD), time.monotonic(), 0
    with ProcessPoolExecutor(arguments.workers, initializer=_one_thread) as pool:
        shards = [pool.submit(write_shard, arguments.out, first, min(PEOPLE_IN_A_SHARD, end - first), arguments.pictures, arguments.side)
                  for first in starts]
        for shard in as_completed(shards):
            done += 1
            print(f"{shard.result().name}  {done} of {len(starts)} shards, {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
