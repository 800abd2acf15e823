"""Fit the prototypes of expression and the ends of the identity scale on rendered faces with known truth.

    python -m lab.mannequins.dataset --output_dir TUNE --first_identity 100000 --identities 60
    python -m lab.mannequins.dataset --output_dir REPORT --first_identity 200000 --identities 60
    python -m lab.recipe.fit_prototypes TUNE --check REPORT

TUNE and REPORT are folders of shards (pictures in .npz, one line of truth a picture in .jsonl) with identities kept apart. Writes
faceexpr_core/prototypes.json from TUNE; REPORT is only measured, with the constants just fitted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.measure.expression import CLASSES, Prototypes, measured_as, prototypes_from, read_change
from faceexpr_core.measure.fitted import PROTOTYPES_FILE
from faceexpr_core.measure.identity import IdentityMeter
from faceexpr_core.measure.statistics import spearman

SCALE_FLOOR = 0.03
"""Added to each blendshape's spread, so that one that never moves cannot decide."""

OUTPUT = PROTOTYPES_FILE


@dataclass(frozen=True, eq=False)
class Measured:
    """What is known of a folder's pictures, and what was measured: NaN rows where no face was found."""

    identities: NDArray[np.int64]
    expressions: tuple[str | None, ...]
    intensities: NDArray[np.float64]
    names: tuple[str, ...]
    blendshapes: NDArray[np.float64]  # [n, K], unscaled
    embeddings: NDArray[np.float64]  # [n, 128]


def measure(folder: Path, limit: int | None = None) -> Measured:
    """Blendshapes and SFace vectors of every picture of a folder."""
    names: tuple[str, ...] = ()
    rows: list[dict[str, Any]] = []
    shapes: list[dict[str, float] | None] = []
    embeddings: list[NDArray[np.float64]] = []
    with FaceDetector() as detector, IdentityMeter(detector=detector) as meter:
        for shard in sorted(folder.glob("*.npz")):
            lines = shard.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
            for picture, line in zip(np.load(shard)["images"], lines, strict=True):
                if limit is not None and len(rows) >= limit:
                    break
                rows.append(json.loads(line))
                faces = detector.detect(picture)
                shapes.append(faces[0].blendshapes if faces else None)
                vector = meter.embed(picture)
                embeddings.append(np.full(128, np.nan) if vector is None else vector.astype(np.float64))
                names = names or (tuple(sorted(faces[0].blendshapes)) if faces else ())
    names = tuple(name for name in names if name != "_neutral")
    return Measured(
        identities=np.array([row["identity"] for row in rows]),
        expressions=tuple(row["expression"] for row in rows),
        intensities=np.array([row["intensity"] for row in rows], np.float64),
        names=names,
        blendshapes=np.array([[np.nan if s is None else s[name] for name in names] for s in shapes]),
        embeddings=np.stack(embeddings),
    )


def changes(data: Measured) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Change of blendshapes [m, K] from the same person's neutral picture, class [m], and index of the picture [m]."""
    neutral = {i: row for i, name, row in zip(data.identities, data.expressions, data.blendshapes, strict=True) if name == "neutral"}
    rows, classes, index = [], [], []
    for i, name in enumerate(data.expressions):
        if name is None or name == "neutral" or data.identities[i] not in neutral:
            continue
        change = data.blendshapes[i] - neutral[data.identities[i]]
        if np.isfinite(change).all():
            rows.append(change)
            classes.append(CLASSES.index(measured_as(name)))
            index.append(i)
    return np.stack(rows), np.array(classes), np.array(index)


def fit_expression(data: Measured) -> dict[str, Any]:
    """Scale = spread within a class; prototype = mean scaled change of a class; resting = mean of neutral pictures."""
    change, classes, _ = changes(data)
    kinds = range(len(CLASSES))
    within = np.concatenate([change[classes == k] - change[classes == k].mean(axis=0) for k in kinds])
    scale = within.std(axis=0) + SCALE_FLOOR
    resting = np.nanmean(data.blendshapes[[name == "neutral" for name in data.expressions]], axis=0)
    return {
        "blendshapes": list(data.names),
        "scale": _rounded(scale),
        "resting": _rounded(resting),
        "prototypes": {name: _rounded((change[classes == k] / scale).mean(axis=0)) for k, name in enumerate(CLASSES)},
    }


def fit_identity(data: Measured) -> dict[str, float]:
    """Similarity of a picture to the mean of all other pictures of its person (`mu_same`) and of each other person (`mu_diff`).

    The `pair_` figures compare picture with picture; `auc` is how often a pair of one person is more alike than one of two.
    """
    known = np.isfinite(data.embeddings[:, 0])
    vectors, identities = data.embeddings[known], data.identities[known]
    people = np.unique(identities)
    means = {person: _unit(vectors[identities == person].mean(axis=0)) for person in people}
    same, different = [], []
    for i, vector in enumerate(vectors):
        others = (identities == identities[i]) & (np.arange(len(vectors)) != i)
        if others.any():
            same.append(_unit(vectors[others].mean(axis=0)) @ vector)
        different += [means[person] @ vector for person in people if person != identities[i]]
    pairs = [(identities[i] == identities[j], vectors[i] @ vectors[j]) for i, j in combinations(range(len(vectors)), 2)]
    alike = np.array([s for is_same, s in pairs if is_same])
    unlike = np.sort([s for is_same, s in pairs if not is_same])
    return {
        "mu_same": round(float(np.mean(same)), 4),
        "mu_diff": round(float(np.mean(different)), 4),
        "pair_same": round(float(alike.mean()), 4),
        "pair_diff": round(float(unlike.mean()), 4),
        "auc": round(float(np.searchsorted(unlike, alike).mean() / len(unlike)), 4),
    }


def check(data: Measured, fitted: Prototypes) -> dict[str, float]:
    """Accuracy of the nearest prototype over 7 classes, and rank correlation of true with measured intensity (mean over classes)."""
    change, classes, index = changes(data)
    readings = [read_change(row / fitted.scale, fitted) for row in change]
    named = np.array([CLASSES.index(str(reading.expression)) for reading in readings])
    lengths = np.linalg.norm(fitted.vectors, axis=1)
    along = np.array([r.scores[CLASSES[k]] * r.moved / lengths[k] for r, k in zip(readings, classes, strict=True)])
    rho = [spearman(data.intensities[index[classes == k]].tolist(), along[classes == k].tolist()) for k in np.unique(classes)]
    return {
        "pictures": len(change),
        "accuracy": round(float((named == classes).mean()), 4),
        "intensity_rho": round(float(np.mean(rho)), 4),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, write, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tune", type=Path)
    parser.add_argument("--check", type=Path, metavar="REPORT")
    parser.add_argument("--limit", type=int, help="use at most this many pictures of each folder")
    args = parser.parse_args(argv)

    data = measure(args.tune, args.limit)
    expression = fit_expression(data)
    fitted = prototypes_from(expression)
    stored: dict[str, Any] = {
        "made_by": "python -m lab.recipe.fit_prototypes TUNE --check REPORT",
        "identities": f"{data.identities.min()}..{data.identities.max()}",
        "pictures": len(data.identities),
        "tune": check(data, fitted),
        "expression": expression,
        "identity": fit_identity(data),
    }
    if args.check:
        report = measure(args.check, args.limit)
        stored["report"] = {**check(report, fitted), **{f"identity_{k}": v for k, v in fit_identity(report).items()}}
    OUTPUT.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    json.dump({key: stored[key] for key in stored if key != "expression"}, sys.stdout, indent=1)
    print()
    return 0


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 5) for value in values]


if __name__ == "__main__":
    raise SystemExit(main())
