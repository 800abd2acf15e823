"""A picture for the documents of what an ablation drew: rows of some of its arms.

    python -m lab.benchmarks.ablation_picture --output_dir OUT --people 200005 --arms "the person" base recipe whole --save ablation.jpg
    python -m lab.benchmarks.ablation_picture --output_dir OUT --people 200005 200006 --arms crafting whole --called "in words" fused ...

The first noise of each person: neutral and every expression at full strength. JPEG, of quality 88.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.records import read_all

from .ablation_table import sheet
from .ablation_truth import TRUTH, TRUTH_FOLDER, in_folder


def records_of(output: Path, people: Sequence[str], arms: Sequence[str]) -> list[dict[str, Any]]:
    """What was drawn of these people, in their order, with the paths of pictures from `output`. Raises FaceExprError where an arm of a
    person is not there."""
    known = sorted([*in_folder(read_all(output / TRUTH_FOLDER / "records")), *read_all(output / "records")], key=lambda one: one["seed"])
    drawn = {person: {one["arm"]: None for one in known if one["person"] == person} for person in people}
    for person, there in drawn.items():
        if missing := [arm for arm in arms if arm not in there]:
            told = ", ".join(there) or "none"
            raise FaceExprError(f"{output} has no pictures of person {person} by the arm '{missing[0]}'; its arms are: {told}.")
    return [one for person in people for one in known if one["person"] == person and one["arm"] in arms]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="where the ablation wrote its pictures")
    parser.add_argument("--people", nargs="+", required=True, help="their seeds")
    parser.add_argument("--arms", nargs="+", required=True, help=f"from above; '{TRUTH}' are renders")
    parser.add_argument("--called", nargs="+", help="what the rows of the arms are called in the picture (as the arms are)")
    parser.add_argument("--save", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        records = records_of(arguments.output_dir, arguments.people, arguments.arms)
    except FaceExprError as reason:
        sys.exit(f"ablation_picture: {reason}")
    called = arguments.called or arguments.arms
    if len(called) != len(arguments.arms):
        sys.exit(f"ablation_picture: {len(called)} names were given for {len(arguments.arms)} arms; give one each.")
    names = dict(zip(arguments.arms, called, strict=True))
    records = [{**one, "arm": names[one["arm"]]} for one in records]
    sheet(arguments.output_dir, records, called, len(arguments.people)).save(arguments.save, quality=88)


if __name__ == "__main__":
    main()
