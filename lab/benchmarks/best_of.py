"""Does the best of n help? Unseen people drawn by `faceexpr evaluate`: the first picture against the best by FaceExpr Score.

    python -m lab.benchmarks.best_of --work_dir WORK --output_dir OUT --subjects 200000-200009 --processes 2

Every person has the LoRA of the other benchmarks. What is chosen by a score is better in that score by force: the last lines choose by one
judge and are judged by the other. A run that was stopped goes on where it stopped. Writes what `faceexpr evaluate` writes, and best_of.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.evaluation.records import read_all
from faceexpr_core.evaluation.run import read_picture
from faceexpr_core.evaluation.summary import grouped
from faceexpr_core.files import replace_file
from faceexpr_core.measure.expression import CLASSES
from faceexpr_core.measure.picture_score import NEUTRAL
from faceexpr_core.measure.scores import harmonic_score
from faceexpr_core.measure.statistics import mean_interval

from .subjects import PHOTOS, add_arguments, base_hash, learn, person, seeds, train_settings
from .subjects import prepare as learn_people
from .tools import pipeline
from .workers import each

Record = Mapping[str, Any]
Choice = Callable[[Record], float]


def _with_likeness(key: str) -> Choice:
    """The harmonic mean of a judge's part and the likeness."""
    return lambda one: harmonic_score(one[key] or 0.0, one["likeness"] or 0.0)


CHOICES: Mapping[str, tuple[Choice, Mapping[str, str]]] = {
    "score": (
        lambda one: one["score"],
        {
            "score": "score",
            "expression score": "expression_score",
            "right of 7": "right",
            "right, classifier": "right_classifier",
            "likeness": "likeness",
        },
    ),
    "blendshapes and likeness": (
        _with_likeness("by_blendshapes"),
        {"right, classifier": "right_classifier", "p, classifier": "by_classifier"},
    ),
    "classifier and likeness": (_with_likeness("by_classifier"), {"right of 7": "right", "by blendshapes": "by_blendshapes"}),
}
"""What chooses -> what is looked at, by the record's field. The classifier does not know contempt: it is left out where that has a say."""


@dataclass(frozen=True)
class Evaluating:
    """`faceexpr evaluate` as one of several processes."""

    words: tuple[str, ...]
    processes: int

    def __call__(self, rank: int) -> int:
        from faceexpr_core.commands.cli import main

        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(self.processes)}
        return main(self.words)


def best_of(records: Sequence[Record]) -> str:
    """Markdown: of each choice and measure the first seed's picture, the best, and their difference over people."""
    lines = table_head(["chosen by", "measure", "first", "best", "difference"])
    expressive = [one for one in records if one["expression"] != NEUTRAL]
    for name, (choice, shown) in CHOICES.items():
        for title, field in shown.items():
            firsts, bests = [], []
            for own in grouped(expressive, "person").values():
                sets = [_ordered(alike) for one in grouped(own, "expression").values() for alike in grouped(one, "scene").values()]
                known = [alike for alike in sets if alike[0]["right_classifier"] is not None or "lassifier" not in f"{name} {title}"]
                firsts.append([float(alike[0][field] or 0.0) for alike in known])
                bests.append([float(max(alike, key=choice)[field] or 0.0) for alike in known])
            changes = [[b - a for a, b in zip(first, best, strict=True)] for first, best in zip(firsts, bests, strict=True)]
            cells = [_cell(firsts), _cell(bests), _cell(changes, "+")]
            lines.append(table_line([name, title, *cells]))
    return "\n".join(lines) + "\n"


def asked(records: Sequence[Record], subjects: Sequence[int], n: int, expressions: Sequence[str]) -> list[Record]:
    """Of all that was ever recorded in a folder, what a command asks for."""
    people = {str(seed) for seed in subjects}
    return [one for one in records if one["person"] in people and int(one["seed"]) < n and one["expression"] in (NEUTRAL, *expressions)]


def _ordered(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda one: int(one["seed"]))


def _cell(groups: Sequence[Sequence[float]], sign: str = "") -> str:
    found = mean_interval(groups)
    if found.low == found.high:  # too few people
        return f"{found.mean:{sign}.3f}"
    return f"{found.mean:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def prepare(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Photos and LoRAs where `faceexpr evaluate` finds them; the words of its command."""
    output, settings, class_words = arguments.output_dir, train_settings(arguments.train), []
    learn_people(arguments)
    for seed in seeds(arguments.subjects):
        pipe = pipeline(arguments.model)
        one = person(arguments.work_dir, seed)
        lora = learn(arguments.work_dir, pipe, one, settings, base_hash(pipe))
        for number in range(PHOTOS):
            _copied(one.folder / f"photo_{number}.png", output / "photos" / str(seed) / f"photo_{number}.png")
        _copied(lora, output / "given" / f"{seed}.safetensors")
        class_words.append(f"{seed}={one.gender}")
    words = [
        "evaluate",
        "--model",
        arguments.model,
        "--photos",
        str(output / "photos"),
        "--lora",
        str(output / "given"),
        "--arms",
        "fusion",
    ]
    words += ["--output_dir", str(output), "--class_words", *class_words, "--intensities", "1", "--expressions", *arguments.expressions]
    words += ["--seeds", *map(str, range(arguments.n)), "--steps", str(arguments.steps), "--cfg", str(arguments.cfg)]
    side = len(read_picture(next((output / "photos").rglob("photo_0.png"))))  # as the other benchmarks see the photos
    return (*words, "--train", f"--framing 'whole picture' --resolution {side}")


def _copied(source: Path, target: Path) -> None:
    if not target.exists() or target.read_bytes() != source.read_bytes():  # a folder begun with another one is refused by `evaluate`
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--output_dir", type=Path, required=True, help="pictures, tables and page")
    parser.add_argument("--n", type=int, default=4, help="pictures to choose from")
    parser.add_argument("--expressions", nargs="+", default=list(CLASSES), choices=CLASSES)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=4.0)
    arguments = parser.parse_args()
    try:
        words = prepare(arguments)
        if failed := [
            status for status in each(Evaluating(words, arguments.processes), range(arguments.processes), arguments.processes) if status
        ]:
            sys.exit(failed[0])
        records = asked(read_all(arguments.output_dir / "records"), seeds(arguments.subjects), arguments.n, arguments.expressions)
        table = f"`python -m lab.benchmarks.best_of {shlex.join(sys.argv[1:])}`\n\n{best_of(records)}"
    except FaceExprError as reason:
        sys.exit(f"best_of: {reason}")
    replace_file(arguments.output_dir / "best_of.md", table.encode())
    print(table)


if __name__ == "__main__":
    main()
