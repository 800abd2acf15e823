"""How the LoRAs of an evaluation were learned, as their files say: with the preset `auto` each may have been learned in another way."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path


def tell_learned(files: Mapping[tuple[str, str], Path]) -> tuple[dict[str, str], list[str]]:
    """Lines for the page by their heading, and warnings where people's LoRAs are not alike. `files` by person and training, in words."""
    told: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (name, training), file in files.items():
        told[training][_how(file)].append(name)
    lines, warnings = {}, []
    for training, ways in told.items():
        heading = f"Learned with {training}" if training else "Learned"
        lines[heading] = "; ".join(way if len(ways) == 1 else f"{', '.join(names)}: {way}" for way, names in ways.items())
        if len(ways) > 1:
            warnings.append(
                f"the people were not learned alike: {lines[heading]}. For one way give a preset, as in --train '--preset default'"
            )
    return lines, warnings


def _how(file: Path) -> str:
    """`preset low-vram, base nf4, 768x768, 1000 steps`."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        said = opened.metadata() or {}
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
