"""How often a photo's caption names the right expression: albums of rendered people, read by both judges and by each alone.

    python -m lab.benchmarks.caption_precision --work_dir WORK --parts PARTS --subjects 200000-200029

Every person has three albums: `each` shows every expression at 0.55 to 1 of its strength and the resting face once; `mixed` three resting
faces and three expressions of 0.3 to 0.8; `smiling` one resting face and five smiles of 0.4 to 1. People have hats, glasses and turned
heads. Seeds from 100,000 are for tuning (the thresholds of `measure/reading.py` were chosen on 25 people and on 60 heads of an older world,
without photographic skins), from 200,000 for reporting. What was read is kept in WORK.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.expressions import EXPRESSIONS
from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.measure.expression import blendshape_vector, measured_as, prototypes, read_change
from faceexpr_core.measure.judges import Picture
from faceexpr_core.measure.reader import Judgement, judge_faces
from faceexpr_core.measure.reading import READ_CLASSES, read_album

from .store import measures_name, write_json
from .subjects import seeds
from .workers import each

NEUTRAL = "neutral"
FIRST_NUMBER = 30_000
"""The world of people draws other pictures of a person under lower numbers."""


Record = Mapping[str, Any]
Names = Callable[[Sequence[Record]], list[str | None]]


@dataclass(frozen=True)
class Counts:
    """Photos of an expression (`shown`), captions that name one (`named`), right ones (`right`), expressions called neutral (`missed`);
    resting faces, how many were called neutral, and how many were called an expression."""

    shown: int
    named: int
    right: int
    missed: int
    resting: int
    neutral: int
    accused: int

    @property
    def precision(self) -> float:
        """Of the captions that name an expression, the share that name the right one."""
        return self.right / max(1, self.named)

    @property
    def recall(self) -> float:
        """Of the photos that show an expression, the share whose caption names it."""
        return self.right / max(1, self.shown)


@dataclass(frozen=True)
class World:
    """Where what was read is kept, and the folder of the parts of people."""

    work: Path
    parts: Path | None = None

    def __call__(self, seed: int) -> list[dict[str, Any]]:
        """A record a photo: what it shows, and what both judges make of it. Photos without a face have none."""
        kept = self.work / "captions" / measures_name() / f"{seed}.json"
        if not kept.exists():
            write_json(kept, self._read(seed))
        records: list[dict[str, Any]] = json.loads(kept.read_text())
        return records

    def _read(self, seed: int) -> list[dict[str, Any]]:
        records = []
        with FaceDetector() as detector:
            for (album, name, intensity), picture in self._photos(seed):
                faces = detector.detect(picture)[:1]
                for face, judgement in zip(faces, judge_faces([picture] * len(faces), faces), strict=True):
                    about = {"subject": seed, "album": album, "intensity": intensity}
                    about["expression"] = name if name == NEUTRAL else measured_as(name)
                    records.append({**about, "blendshapes": face.blendshapes, "probabilities": judgement.probabilities})
        return records

    def _photos(self, seed: int) -> Iterator[tuple[tuple[str, str, float], Picture]]:
        """(album, expression, intensity) and the picture."""
        rng = np.random.default_rng([31, seed])
        planned = [(album, *shown) for album, photos in _albums(rng).items() for shown in photos]
        from lab.world.assets import load_parts, parts_folder
        from lab.world.expressions import Shown
        from lab.world.picture import picture

        parts = load_parts(parts_folder(self.parts))
        for number, (album, name, intensity) in enumerate(planned):
            shown = Shown(EXPRESSIONS[name].word, intensity)
            yield (album, name, intensity), picture(seed, FIRST_NUMBER + number, shown, 256, parts).image


def _albums(rng: np.random.Generator) -> dict[str, list[tuple[str, float]]]:
    """Expression and intensity of each photo of the three albums."""
    rest, names = (NEUTRAL, 0.0), [name for name in EXPRESSIONS if name != NEUTRAL]
    return {
        "each": [rest, *((name, float(rng.uniform(0.55, 1.0))) for name in names)],
        "mixed": [rest, rest, rest, *((str(rng.choice(names)), float(rng.uniform(0.3, 0.8))) for _ in range(3))],
        "smiling": [rest, *(("happy", float(rng.uniform(0.4, 1.0))) for _ in range(5))],
    }


def by_both(album: Sequence[Record]) -> list[str | None]:
    """As captions are written."""
    readings = read_album([one["blendshapes"] for one in album], [Judgement(tuple(one["probabilities"])) for one in album])
    return [reading.expression for reading in readings]


def by_classifier(album: Sequence[Record]) -> list[str | None]:
    """The likeliest class."""
    return [Judgement(tuple(one["probabilities"])).expression for one in album]


def by_blendshapes(album: Sequence[Record]) -> list[str | None]:
    """The nearest prototype, from the average person's resting face."""
    fitted = prototypes()
    resting = fitted.resting / fitted.scale
    readings = [read_change(blendshape_vector(one["blendshapes"]) - resting) for one in album]
    return [NEUTRAL if reading.is_neutral() else reading.expression for reading in readings]


JUDGES: Mapping[str, Names] = {"both": by_both, "classifier alone": by_classifier, "blendshapes alone": by_blendshapes}


def count(albums: Iterable[Sequence[Record]], names: Names, only: str | None = None) -> Counts:
    """What captions say of albums; with `only`, of photos that show this expression and captions that name it."""
    pairs = [(str(one["expression"]), name) for album in albums for one, name in zip(album, names(album), strict=True)]
    chosen = [name for name in READ_CLASSES if name != NEUTRAL and only in (None, name)]
    resting = [name for true, name in pairs if true == NEUTRAL]
    return Counts(
        shown=sum(true in chosen for true, _ in pairs),
        named=sum(name in chosen for _, name in pairs),
        right=sum(true == name and name in chosen for true, name in pairs),
        missed=sum(true in chosen and name == NEUTRAL for true, name in pairs),
        resting=len(resting),
        neutral=resting.count(NEUTRAL),
        accused=sum(name in chosen for name in resting),
    )


def tables(records: Sequence[Record]) -> str:
    """Markdown: each judge over all albums; then both judges by expression and by album."""
    albums: dict[tuple[Any, ...], list[Record]] = {}
    for one in records:
        albums.setdefault((one["subject"], one["album"]), []).append(one)
    heading = ["photos", "precision", "recall", "called neutral", "resting faces", "called neutral", "called an expression"]
    lines = table_head(["read by", *heading])
    lines += [_line(judge, count(albums.values(), names)) for judge, names in JUDGES.items()]
    lines += ["", *table_head(["both judges", *heading])]
    for expression in READ_CLASSES[1:]:
        lines.append(_line(expression, count(albums.values(), by_both, expression)))
    for kind in dict.fromkeys(key[1] for key in albums):
        lines.append(_line(kind, count([album for key, album in albums.items() if key[1] == kind], by_both)))
    return "\n".join(lines) + "\n"


def _line(name: str, found: Counts) -> str:
    of_resting = [f"{share / max(1, found.resting):.1%}" for share in (found.neutral, found.accused)]
    shares = [f"{share:.1%}" for share in (found.precision, found.recall, found.missed / max(1, found.shown))]
    return table_line([name, f"{found.shown}", *shares, f"{found.resting}", *of_resting])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, required=True, help="what was read is kept here")
    parser.add_argument("--parts", type=Path, help="the parts of the world's people (else $FACEEXPR_PARTS)")
    parser.add_argument("--subjects", nargs="+", default=["200000-200029"], help="seeds: 100000 and up tuning, 200000 and up reporting")
    parser.add_argument("--processes", type=int, default=2, help="people are shared out among these, one thread each")
    arguments = parser.parse_args()
    found = each(World(arguments.work_dir, arguments.parts), seeds(arguments.subjects), arguments.processes)
    records = [record for person in found for record in person]
    print(f"`python -m lab.benchmarks.caption_precision {shlex.join(sys.argv[1:])}`\n")
    print(tables(records))


if __name__ == "__main__":
    main()
