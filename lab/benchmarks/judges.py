"""What the judges themselves get right: renders of known truth, read as drawn pictures are. The ceiling of every score of drawn pictures.

    python -m lab.benchmarks.judges --work_dir WORK --subjects 200000-200009 --processes 2

Every person is drawn at rest, with the twelve expressions of Acc-12, and with the six at a quarter, a half and three quarters. What was
read is kept in WORK.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.expressions import EXPRESSIONS
from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.measure.action_units import unit_errors
from faceexpr_core.measure.expression import blendshape_vector, intensity_of, nearest_of
from faceexpr_core.measure.judges import Picture
from faceexpr_core.measure.pose import pose_change
from faceexpr_core.measure.reader import judge_faces
from faceexpr_core.measure.scores import BASIC_SIX, TWELVE, accuracy, blendshape_distance, control_linearity, structural_confusion

from .albums import PHOTO_SIDE
from .store import measures_name, write_json
from .subjects import seeds
from .workers import each

STEPS = (0.25, 0.5, 0.75, 1.0)
NUMBER = 42_000
"""The world draws other pictures of a person under other numbers."""


def read_person(work: Path, seed: int) -> list[dict[str, Any]]:
    """A record a picture: what it shows and what was read, against the person's own neutral picture."""
    kept = work / "judges" / measures_name() / f"{seed}.json"
    if not kept.exists():
        write_json(kept, _draw_and_read(seed))
    records: list[dict[str, Any]] = json.loads(kept.read_text())
    return records


def _draw_and_read(seed: int) -> list[dict[str, Any]]:
    from lab.world.expressions import Shown
    from lab.world.picture import picture as render

    rng = np.random.default_rng([33, seed])
    pose: dict[str, Any] = {"yaw": float(rng.uniform(-8, 8)), "pitch": float(rng.uniform(-4, 4))}

    def drawn(name: str, intensity: float) -> Picture:
        """Always in the same scene."""
        word = EXPRESSIONS[name].word if name in EXPRESSIONS else name
        return render(seed, NUMBER, Shown(word, intensity), PHOTO_SIDE, **pose).image

    asked = [(name, 1.0) for name in TWELVE] + [(name, step) for name in BASIC_SIX for step in STEPS[:-1]]
    records = []
    with FaceDetector() as detector:
        neutral = detector.detect(drawn("neutral", 0.0))[0]
        for name, intensity in asked:
            picture = drawn(name, intensity)
            record: dict[str, Any] = {"subject": seed, "expression": name, "intensity": intensity, "blendshapes": None, "classifier": None}
            for face in detector.detect(picture)[:1]:
                change = blendshape_vector(face.blendshapes) - blendshape_vector(neutral.blendshapes)
                (judgement,) = judge_faces([picture], [face])
                units = EXPRESSIONS[name].action_units if name in EXPRESSIONS else ()
                record |= {
                    "blendshapes": nearest_of(change, BASIC_SIX),
                    "of twelve": nearest_of(change, TWELVE),
                    "classifier": judgement.expression,
                    "strength": intensity_of(face, neutral, name) if name in BASIC_SIX else None,
                    "probability": judgement.of(name) if name in BASIC_SIX else None,
                    "units": float(np.mean(list(unit_errors(units, intensity, face.blendshapes, neutral.blendshapes).values()))),
                    "L1": blendshape_distance(face.blendshapes, neutral.blendshapes),
                    "pose": pose_change(face, neutral),
                }
            records.append(record)
    return records


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line a judge, then what does not depend on one."""
    full = [one for one in records if one["intensity"] == 1.0]
    six = [one for one in full if one["expression"] in BASIC_SIX]
    asked = [one["expression"] for one in six]
    lines = table_head(["judge", "pictures", "Acc-6", "Acc-12", "mSCR", "CLS"])
    for judge, strength in (("blendshapes", "strength"), ("classifier", "probability")):
        read = [one[judge] for one in six]
        twelve = "-"
        if judge == "blendshapes":
            twelve = f"{accuracy([one['expression'] for one in full], [one.get('of twelve') for one in full], TWELVE):.1%}"
        linear = control_linearity(_series(records, strength))
        confused = structural_confusion(asked, read)
        lines.append(table_line([judge, f"{len(six)}", f"{accuracy(asked, read):.1%}", twelve, f"{confused:.1%}", f"{linear:.2f}"]))
    seen = [one for one in six if one["blendshapes"] is not None]
    means = {name: float(np.mean([one[name] for one in seen])) for name in ("units", "L1", "pose")}
    lines += [
        "",
        "AU-wise error {units:.3f}, L1 of the blendshapes from the neutral picture {L1:.3f}, pose {pose:.1f} degrees.".format(**means),
    ]
    return "\n".join(lines) + "\n"


def _series(records: Sequence[dict[str, Any]], strength: str) -> list[tuple[list[float], list[float]]]:
    """(asked, read) of each person and expression of the six that has a face at every intensity."""
    found: dict[tuple[int, str], dict[float, float]] = {}
    for one in records:
        if one["expression"] in BASIC_SIX and one["blendshapes"] is not None:
            found.setdefault((one["subject"], one["expression"]), {})[one["intensity"]] = one[strength]
    return [(list(STEPS), [read[step] for step in STEPS]) for read in found.values() if len(read) == len(STEPS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, required=True, help="what was read is kept here")
    parser.add_argument("--subjects", nargs="+", default=["200000-200009"], help="seeds: 100000 and up tuning, 200000 and up reporting")
    parser.add_argument("--processes", type=int, default=2, help="people are shared out among these, one thread each")
    arguments = parser.parse_args()
    found = each(partial(read_person, arguments.work_dir), seeds(arguments.subjects), arguments.processes)
    records = [record for person in found for record in person]
    print(f"`python -m lab.benchmarks.judges {shlex.join(sys.argv[1:])}`\n")
    print(table(records))


if __name__ == "__main__":
    main()
