"""How the LoRAs of an evaluation are learned: what the flags of their training stand for, and what their files say.

With the preset `auto` each may have been learned in another way.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import FaceExprError
from ..files import digest_of_file, name_bytes
from ..lora.given import digest_of_lora
from ..training.settings import background_of


def training_meaning(arguments: argparse.Namespace) -> dict[str, object]:
    """What flags of `faceexpr train` stand for, beside the photos and how they are read: the preset's own values too, which another
    version may change, and what the files hold. Raises FaceExprError for values that cannot be."""
    from .train import settings_of

    settings = settings_of(arguments).used()  # of `auto` what it is without a card: the files say what became of it
    weight = background_of(arguments.preset, arguments.background_weight)
    told: dict[str, object] = {"preset": arguments.preset, **settings, "background_weight": weight}
    if settings["prior"] == "images":
        told["prior_images"] = arguments.prior_images
    return told | {name: digest_of(Path(given)) for name, digest_of in FILES.items() if (given := getattr(arguments, name))}


def _digest_of(path: Path) -> str:
    """Sixteen digits for what a file holds, or the files of a folder and their names. Raises FaceExprError where there is none."""
    _require(path)
    if path.is_file():
        return digest_of_file(path)
    held = [f"{one.relative_to(path).as_posix()} {digest_of_file(one)}" for one in sorted(path.rglob("*")) if one.is_file()]
    return hashlib.sha256(name_bytes("\n".join(held))).hexdigest()[:16]


def _digest_of_start(path: Path) -> str:
    _require(path)
    return digest_of_lora(path)


def _require(path: Path) -> None:
    if not path.exists():
        raise FaceExprError(f"there is no {path}; give a file or folder that is there, or leave it out.")


FILES: Mapping[str, Callable[[Path], str]] = {"start_from": _digest_of_start, "vae": _digest_of}
"""Flags of `faceexpr train` that name what is learned from, with what knows it again. Of a folder of class pictures, into which a run may
draw, the training itself knows what it holds."""


def tell_learned(files: Mapping[tuple[str, str], Path]) -> tuple[dict[str, str], list[str]]:
    """Lines for the page by their heading, and warnings where people's LoRAs are not alike. `files` by person and training, in words."""
    told: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    said = {key: _said(file) for key, file in files.items()}
    for (name, training), own in said.items():
        alike = [other for (_, of), other in said.items() if of == training and _how(other) == _how(own)]
        told[training][", ".join([_how(own), *_differing(own, alike)])].append(name)
    lines, warnings = {}, []
    for training, ways in told.items():
        heading = f"Learned with {training}" if training else "Learned"
        lines[heading] = "; ".join(way if len(ways) == 1 else f"{', '.join(names)}: {way}" for way, names in ways.items())
        if len(ways) > 1:
            warnings.append(
                f"the people were not learned alike: {lines[heading]}. For one way give a preset, as in --train '--preset default'"
            )
    return lines, warnings


def _said(file: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.metadata() or {}


def _differing(said: Mapping[str, str], others: Sequence[Mapping[str, str]]) -> list[str]:
    """A run's settings that others have otherwise."""
    own, *rest = (json.loads(one.get("faceexpr.settings", "{}")) for one in (said, *others))
    names = sorted({*own}.union(*rest))
    return [f"{name} {own.get(name, 'not said')}" for name in names if any(own.get(name) != one.get(name) for one in rest)]


def _how(said: Mapping[str, str]) -> str:
    """`preset low-vram, base nf4, 768x768, 1000 steps`."""
    base = json.loads(said.get("faceexpr.settings", "{}")).get("base", "full")
    preset = f"preset {said['faceexpr.preset']}" if said.get("faceexpr.preset") else "settings of its own"
    parts = [
        preset,
        "" if base == "full" else f"base {base}",
        said.get("modelspec.resolution", ""),
        f"{said.get('faceexpr.steps', '?')} steps",
    ]
    stopped = ["stopped early"] if said.get("faceexpr.interrupted") == "true" else []
    return ", ".join([*filter(None, parts), *stopped])
