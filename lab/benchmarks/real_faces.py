"""The yardstick: how far real expressions, rendered of the people themselves, take a face from its own photos.

    python -m lab.benchmarks.real_faces --work_dir WORK --subjects 200000-200009

The renders go through the same meters as drawn pictures: no model draws them, so that no method need come nearer.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.measure.expression import CLASSES, intensity_of
from faceexpr_core.measure.identity import normalised

from .subjects import expressive_photo, person, seeds
from .summary import cell, over_subjects
from .tools import close, meters

NEUTRAL = "neutral"
COLUMNS = ("right", "intensity", "likeness", "SFace", "SFace of neutral", "SFace drop")


def measure(work: Path, seed: int) -> list[dict[str, Any]]:
    """A record for every expression of one subject."""
    one, rest = person(work, seed), expressive_photo(work, seed, NEUTRAL)
    resting, at_rest = meters().expression.face(rest), meters().identity.similarity(rest, one.reference)
    records = []
    for name in CLASSES:
        picture = expressive_photo(work, seed, name)
        face, similarity = meters().expression.face(picture), meters().identity.similarity(picture, one.reference)
        records.append(
            {
                "subject": seed,
                "right": float(meters().expression.measure(face, resting).hits(name)),
                "intensity": intensity_of(face, resting, name) if face is not None and resting is not None else 0.0,
                "likeness": normalised(similarity),
                "SFace": similarity,
                "SFace of neutral": at_rest,
                "SFace drop": None if similarity is None or at_rest is None else at_rest - similarity,
            }
        )
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, required=True, help="photos are kept here, for all benchmarks")
    parser.add_argument("--subjects", nargs="+", default=["200000-200009"], help="seeds: 100000 and up tuning, 200000 and up reporting")
    arguments = parser.parse_args()
    try:
        records = [record for seed in seeds(arguments.subjects) for record in measure(arguments.work_dir, seed)]
    finally:
        close()
    print(f"`python -m lab.benchmarks.real_faces {shlex.join(sys.argv[1:])}`\n")
    print("\n".join(table_head(["pictures", *COLUMNS])))
    cells = [cell(over_subjects(records, itemgetter(name)), name) for name in COLUMNS]
    print(table_line([f"{len(records)}", *cells]))


if __name__ == "__main__":
    main()
