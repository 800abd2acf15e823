"""Fit the prototypes of expression and the ends of the identity scale on rendered faces with known truth.

    python -m lab.world.check --parts PARTS --out CHECK
    python -m lab.recipe.fit_prototypes CHECK

Writes the core's prototypes.json from what CHECK/tune.jsonl says of tuning people; CHECK/report.jsonl, of reporting people, is only
measured, with the constants just fitted.
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

from faceexpr_core.measure.expression import CLASSES, Prototypes, measured_as, prototypes_from, read_change
from faceexpr_core.measure.fitted import PROTOTYPES_FILE

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


def as_measured(rows: Sequence[dict[str, Any]]) -> Measured:
    """What `lab.world.check` writes, a row a picture."""
    names = tuple(sorted(next(row["blendshapes"] for row in rows if row["found"])))
    missing = [np.nan] * 128
    return Measured(
        identities=np.array([row["identity"] for row in rows]),
        expressions=tuple(row["expression"] for row in rows),
        intensities=np.array([row["intensity"] for row in rows], np.float64),
        names=names,
        blendshapes=np.array([[row["blendshapes"][n] if row["found"] else np.nan for n in names] for row in rows]),
        embeddings=np.array([row.get("embedding") or missing for row in rows], np.float64),
    )


def changes(data: Measured) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Change of blendshapes [m, K] from the same person's neutral picture, and class [m]."""
    neutral = {i: row for i, name, row in zip(data.identities, data.expressions, data.blendshapes, strict=True) if name == "neutral"}
    rows, classes = [], []
    for i, name in enumerate(data.expressions):
        if name is None or name == "neutral" or data.identities[i] not in neutral:
            continue
        change = data.blendshapes[i] - neutral[data.identities[i]]
        if np.isfinite(change).all():
            rows.append(change)
            classes.append(CLASSES.index(measured_as(name)))
    return np.stack(rows), np.array(classes)


def fit_expression(data: Measured) -> dict[str, Any]:
    """Scale = spread within a class; prototype = mean scaled change of a class; resting = mean of neutral pictures."""
    change, classes = changes(data)
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
    """Accuracy of the nearest prototype over 7 classes."""
    change, classes = changes(data)
    readings = [read_change(row / fitted.scale, fitted) for row in change]
    named = np.array([CLASSES.index(str(reading.expression)) for reading in readings])
    return {"pictures": len(change), "accuracy": round(float((named == classes).mean()), 4)}


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, write, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("check", type=Path, help="the folder of lab.world.check")
    folder = parser.parse_args(argv).check
    data, report = (
        as_measured([json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()])
        for name in ("tune", "report")
    )
    expression = fit_expression(data)
    fitted = prototypes_from(expression)
    stored: dict[str, Any] = {
        "made_by": "python -m lab.recipe.fit_prototypes CHECK",
        "identities": f"{data.identities.min()}..{data.identities.max()}",
        "pictures": len(data.identities),
        "tune": check(data, fitted),
        "expression": expression,
        "identity": fit_identity(data),
        "report": {**check(report, fitted), **{f"identity_{k}": v for k, v in fit_identity(report).items()}},
    }
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
