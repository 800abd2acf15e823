"""The world's acceptance figures, resumable: `python -m lab.world.check --parts DIR --out DIR [--people 40] [--faces 1000] [--side 192]`.

Three sets are rendered and measured, a line a picture in OUT/<set>.jsonl: `tune` (every expression of people from 100,000 on, by which
the prototypes of our meter are fitted anew), `report` (the same of people from 200,000 on) and `found` (training-like pictures of more
people). Measured: faces found; expressions by our meter (change from the own neutral picture) and by the reader that learned on
photographs (absolute, and by change); SFace AUC of pairs of one person against pairs of two; CPU seconds a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.measure.expression import prototypes, prototypes_from
from faceexpr_core.measure.identity import IdentityMeter
from faceexpr_core.measure.reader import READER_CLASSES, judge_faces
from lab.recipe.fit_prototypes import as_measured, check, fit_expression, fit_identity

from .assets import load_parts, parts_folder
from .dataset import expression_sheet, identity_pictures
from .identity import REPORTING_IDENTITIES, TUNING_IDENTITIES
from .picture import Picture

TUNING_FROM, REPORTING_FROM = TUNING_IDENTITIES.start, REPORTING_IDENTITIES.start
FOUND_FROM = REPORTING_FROM + 10_000
PICTURES_TO_FIND = 5


@dataclass(frozen=True)
class Judged:
    """Shares 0..1 by the reader: `absolute` over its seven classes, `changed` over six; `by_class` holds both for each."""

    absolute: float
    changed: float
    by_class: dict[str, tuple[float, float]]


def measured_rows(path: Path, people: range, pictures: int | None, size: int) -> list[dict[str, Any]]:
    """The lines of a set, rendering and measuring the people that are not there yet. `pictures` None: an expression sheet."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    done = {row["identity"] for row in rows}
    waiting = [seed for seed in people if seed not in done]
    if waiting:
        with FaceDetector() as detector, IdentityMeter(detector=detector) as meter, path.open("a", encoding="utf-8") as out:
            for seed in waiting:
                began = time.process_time()
                made = expression_sheet(seed, size) if pictures is None else identity_pictures(seed, pictures, size)
                seconds = (time.process_time() - began) / len(made)
                new = [_measured(one, detector, meter, seconds) for one in made]
                out.write("".join(json.dumps(row) + "\n" for row in new))
                out.flush()
                rows += new
                print(f"{path.stem} {seed}  {seconds:.2f} s a picture", file=sys.stderr, flush=True)
    return [row for row in rows if row["identity"] in people]


def _measured(one: Picture, detector: FaceDetector, meter: IdentityMeter, seconds: float) -> dict[str, Any]:
    faces = detector.detect(one.image)
    row = {"identity": one.attributes["identity"], "expression": one.attributes["expression"], "intensity": one.attributes["intensity"],
           "found": bool(faces), "seconds": round(seconds, 4)}
    if faces:
        vector = meter.embed(one.image)
        row["blendshapes"] = {name: round(value, 4) for name, value in faces[0].blendshapes.items() if name != "_neutral"}
        row["reader"] = [round(p, 4) for p in judge_faces([one.image], [faces[0]])[0].probabilities]
        row["embedding"] = None if vector is None else [round(float(v), 5) for v in vector]
    return row


def judged(rows: Sequence[dict[str, Any]]) -> Judged:
    """What the reader agrees with. Changed: of the six expressions the one whose probability grew most from the own neutral picture."""
    neutral = {row["identity"]: np.array(row["reader"]) for row in rows if row["expression"] == "neutral" and row["found"]}
    hits: dict[str, list[tuple[bool, bool]]] = {name: [] for name in READER_CLASSES}
    for row in rows:
        name = row["expression"]
        if name not in hits:
            continue
        if not row["found"] or row["identity"] not in neutral:
            hits[name].append((False, False))
            continue
        probabilities = np.array(row["reader"])
        change = (probabilities - neutral[row["identity"]])[1:]
        hits[name].append((READER_CLASSES[probabilities.argmax()] == name, READER_CLASSES[1 + change.argmax()] == name))
    by_class = {name: (float(np.mean([a for a, _ in found])), float(np.mean([c for _, c in found]))) for name, found in hits.items()}
    absolute = float(np.mean([a for a, _ in by_class.values()]))
    return Judged(absolute, float(np.mean([c for name, (_, c) in by_class.items() if name != "neutral"])), by_class)


def figures(tune: list[dict[str, Any]], report: list[dict[str, Any]], found: list[dict[str, Any]]) -> Iterator[str]:
    """The figures as lines of text."""
    everything = [*tune, *report, *found]
    yield f"face found in {np.mean([r['found'] for r in found]):.2%} of {len(found)} pictures"
    fitted = prototypes_from(fit_expression(as_measured(tune)))
    own, shipped = (check(as_measured(report), one) for one in (fitted, prototypes()))
    yield f"our meter, of 7 by change: {own['accuracy']:.1%} (prototypes as shipped: {shipped['accuracy']:.1%}), {own['pictures']} pictures"
    for name, rows in (("report", report), ("tune", tune)):
        reader = judged(rows)
        detail = ", ".join(f"{c} {a:.0%}/{d:.0%}" for c, (a, d) in reader.by_class.items())
        yield f"reader on {name}: {reader.absolute:.1%} of seven, {reader.changed:.1%} of six by change ({detail})"
    yield from identity_figures(report, found)
    yield f"CPU seconds a picture: {np.mean([r['seconds'] for r in everything]):.3f}"


def identity_figures(report: list[dict[str, Any]], found: list[dict[str, Any]]) -> Iterator[str]:
    """SFace AUC, and what lowers it: the sheet without each expression, the one whose absence raises it most first."""

    def auc(rows: list[dict[str, Any]]) -> float:
        return fit_identity(as_measured(rows))["auc"]

    shown = dict.fromkeys(row["expression"] for row in report)
    without = {name: auc([row for row in report if row["expression"] != name]) for name in shown}
    told = ", ".join(f"{name} {value:.4f}" for name, value in sorted(without.items(), key=lambda one: -one[1]))
    yield f"SFace AUC, every expression at full strength: {auc(report):.4f}; without {told}"
    yield f"SFace AUC, training-like pictures of {len({row['identity'] for row in found})} people: {auc(found):.4f}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, help="folder of parts; default: the environment variable FACEEXPR_PARTS")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=40, help="in each of tune and report")
    parser.add_argument("--faces", type=int, default=1000, help="pictures in found")
    parser.add_argument("--side", type=int, default=192)
    arguments = parser.parse_args(argv)
    folder = parts_folder(arguments.parts)
    os.environ["FACEEXPR_PARTS"] = str(folder)
    load_parts(folder)
    arguments.out.mkdir(parents=True, exist_ok=True)
    sets = [measured_rows(arguments.out / f"{name}.jsonl", range(first, first + count), pictures, arguments.side)
            for name, first, count, pictures in (("tune", TUNING_FROM, arguments.people, None),
                                                 ("report", REPORTING_FROM, arguments.people, None),
                                                 ("found", FOUND_FROM, arguments.faces // PICTURES_TO_FIND, PICTURES_TO_FIND))]
    for line in figures(*sets):
        print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
