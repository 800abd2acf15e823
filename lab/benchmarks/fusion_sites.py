"""Where to fuse: arms x unseen subjects x seeds x expressions on Mini, measured.

    python -m lab.benchmarks.fusion_sites --work_dir WORK --output_dir OUT --subjects 100000-100005 --seeds 0-1 \\
        --arms cross_attention:strength=0.5/1/2 skip paper text:intensity=1.25

Every arm draws the same subjects from the same noise with the same text. A run that was stopped goes on where it stopped; arms,
subjects and seeds may be added later. Writes OUT/records/<subject>.jsonl, the pictures, table.md and sheet.png.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from faceexpr_core import mini, text
from faceexpr_core.diffusers_host.fusion import Fusion
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.records import Lines, keep_meaning
from faceexpr_core.evaluation.run import read_picture, write_picture
from faceexpr_core.faces.detector import Face
from faceexpr_core.files import replace_file
from faceexpr_core.fusion.donor_faces import location_of
from faceexpr_core.measure.expression import CLASSES, intensity_of
from faceexpr_core.measure.identity import donor_leak
from faceexpr_core.measure.judges import Picture, measured_by
from faceexpr_core.measure.pictures import locality
from faceexpr_core.training.settings import TrainSettings

from . import arms as arms_module
from . import summary
from .arms import BASELINE, Arm, parse_arms
from .donor_banks import Kept, Wanted, expression_prompt, wanted_by
from .drawing import Schedule, draw
from .store import file_name
from .subjects import Person, add_arguments, base_hash, chosen_settings, learn, person, personalised, prepare, seeds, train_settings
from .tools import close, meters, pipeline
from .workers import each

NEUTRAL = "neutral"
"""The name under which a subject's neutral picture is recorded: no expression, no fusion."""

DEFAULT_ARMS = (
    "skip",
    "cross_attention",
    "cross_attention_difference",
    "paper",
    "text:intensity=1.25",
    "text:scale=1.5",
)


@dataclass(frozen=True)
class Comparison:
    """A run; called with a subject's seed it draws and measures what is missing of that subject."""

    output: Path
    kept: Kept
    arms: tuple[Arm, ...]
    noises: tuple[int, ...]
    expressions: tuple[str, ...]
    prompt: str
    settings: TrainSettings
    base: str

    def __call__(self, seed: int) -> str:
        lines = Lines(self.output / "records" / f"{seed}.jsonl")
        before = len(lines.values)
        known = {(value["arm"], value["noise"], value["expression"]): value for value in lines.values}
        one = person(self.kept.work, seed)
        base = pipeline(self.kept.model)
        personal = personalised(base, learn(self.kept.work, base, one, self.settings, self.base))
        for noise in self.noises:
            drawer = _Drawer(self, lines, known, personal, one, noise)
            for arm in self.arms:
                drawer.arm(arm)
        over_words = [value for arm in self.arms for value in self._over_words(arm, one, known)]
        replace_file(summary.over_words(self.output) / f"{seed}.jsonl", "".join(f"{json.dumps(value)}\n" for value in over_words).encode())
        return f"{seed}: {len(lines.values) - before} pictures drawn, {before} were there"

    def _over_words(self, arm: Arm, one: Person, known: Mapping[tuple[str, int, str], Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """How much nearer to its donor an arm's pictures are than the same expression by words, which has no donor."""
        for noise, name in product(self.noises, self.expressions):
            donor = wanted_by(arm, one, noise, name)
            fused, words = (known.get((drawn, noise, name)) for drawn in (arm.name, BASELINE.name))
            looks = None if donor is None else self.kept.looks(donor)
            if looks is not None and fused is not None and words is not None:
                where = {"arm": arm.name, "subject": one.seed, "noise": noise, "expression": name}
                yield where | {"over_words": donor_leak(_vector(fused), _vector(words), looks)}


class _Drawer:
    """Draws and measures one subject from one noise."""

    def __init__(
        self, run: Comparison, lines: Lines, known: dict[tuple[str, int, str], dict[str, Any]], pipe: Any, one: Any, noise: int
    ) -> None:
        self.run, self.lines, self.known, self.pipe, self.one, self.noise = run, lines, known, pipe, one, noise
        self.rest = self._neutral()
        self.resting: Face | None = meters().expression.face(self.rest)

    def arm(self, arm: Arm) -> None:
        """Every expression of an arm that is not recorded yet."""
        missing = [name for name in self.run.expressions if (arm.name, self.noise, name) not in self.known]
        if not missing:
            return
        wanted = [wanted_by(arm, self.one, self.noise, name) for name in missing]
        fusions = [self._fusion(arm, one, name) for one, name in zip(wanted, missing, strict=True)]
        prompts = [self._prompt(arm, name) for name in missing]
        started = time.process_time()
        pictures = draw(self.pipe, prompts, self.noise, self.run.kept.how, fusions, arm.scale)
        seconds = (time.process_time() - started) / len(missing)
        for name, picture, donor in zip(missing, pictures, wanted, strict=True):
            self._record(arm.name, name, picture, {"seconds": seconds, **self._measure(arm, name, picture, donor)})

    def _neutral(self) -> Picture:
        prompt = expression_prompt(self.run.kept.model, self.run.prompt, self.one.gender, NEUTRAL)
        if (NEUTRAL, self.noise, NEUTRAL) in self.known:
            return read_picture(self._path(NEUTRAL, NEUTRAL))
        picture = draw(self.pipe, [prompt], self.noise, self.run.kept.how)[0]
        self._record(NEUTRAL, NEUTRAL, picture, {"face": meters().expression.face(picture) is not None, **self._likeness(picture)})
        return picture

    def _prompt(self, arm: Arm, name: str) -> text.ExpressionPrompt:
        prompt = expression_prompt(self.run.kept.model, self.run.prompt, self.one.gender, name, arm.intensity)
        return prompt if arm.target == "expression" else prompt.at_rest()

    def _fusion(self, arm: Arm, wanted: Wanted | None, name: str) -> Fusion | None:
        if wanted is None or arm.fusion is None:
            return None
        bank = self.run.kept.bank(wanted)
        if arm.mask == "look":
            return Fusion(bank, arm.fusion, moved=())
        mask, regions = {"twin": (bank.mask, bank.regions), "own": self._place(), "none": (None, None)}[arm.mask]
        return Fusion(bank, arm.fusion, mask, regions)

    def _place(self) -> tuple[Tensor | None, Tensor | None]:
        """Where the expression acts on the subject's own face."""
        if self.resting is None:
            return None, None
        height, width = self.rest.shape[:2]
        place = location_of(self.resting, height, width, ())
        return place.mask, place.regions

    def _measure(self, arm: Arm, name: str, picture: Picture, donor: Wanted | None) -> dict[str, Any]:
        face = meters().expression.face(picture)
        reading = meters().expression.measure(face, self.resting)
        both = face is not None and self.resting is not None
        values = {
            "face": face is not None,
            "read": reading.expression,
            "right": reading.hits(name),
            "cosine": reading.scores[name] if both else 0.0,
            "intensity": intensity_of(face, self.resting, name) if face is not None and self.resting is not None else 0.0,
            "moved": reading.moved,
            **self._likeness(picture),
        }
        mask, _ = self._place()
        if mask is not None and 0 < float(mask.mean()) < 1:
            change = locality(picture, self.rest, mask.numpy())
            values |= {"inside": change.inside, "outside": change.outside}
        looks = None if donor is None else self.run.kept.looks(donor)
        if looks is not None:
            plain = (BASELINE.name, self.noise, name) if arm.target == "expression" else (NEUTRAL, self.noise, NEUTRAL)
            values["leak"] = donor_leak(_vector(values), _vector(self.known[plain]), looks)
        return values

    def _likeness(self, picture: Picture) -> dict[str, Any]:
        vector = meters().identity.embed(picture)
        if vector is None:
            return {"similarity": None, "looks": None}
        return {"similarity": float(vector @ self.one.reference), "looks": [round(float(part), 5) for part in vector]}

    def _record(self, arm: str, name: str, picture: Picture, values: Mapping[str, Any]) -> None:
        write_picture(self._path(arm, name), picture)
        value = {"arm": arm, "subject": self.one.seed, "noise": self.noise, "expression": name, **values}
        self.lines.add(value)
        self.known[arm, self.noise, name] = value

    def _path(self, arm: str, name: str) -> Path:
        return summary.picture_path(self.run.output, arm, self.one.seed, self.noise, name)


def _vector(values: Mapping[str, Any]) -> NDArray[np.float32] | None:
    return None if values["looks"] is None else np.array(values["looks"], np.float32)


def compare(arguments: argparse.Namespace) -> None:
    """Prepare subjects and donors, draw, measure, and write the table."""
    chosen = tuple(parse_arms(arguments.arms or DEFAULT_ARMS, arguments.target_text))
    settings, base = train_settings(arguments.train), base_hash(pipeline(arguments.model))
    how = Schedule(arguments.steps, arguments.cfg, mini.RESOLUTION)
    about = {
        "base": base,
        "schedule": asdict(how),
        "prompt": arguments.prompt,
        "donor_prompt": arguments.donor_prompt,
        "training": chosen_settings(settings),
        "measured by": measured_by(),
    }
    keep_meaning(arguments.output_dir / "run.json", about, whole=True)
    keep_meaning(arguments.output_dir / "arms.json", {arm.name: arm.meaning() for arm in chosen})
    key = file_name(f"{base}-{how.steps}-{how.cfg:g}-{arguments.donor_prompt}")
    kept = Kept(arguments.work_dir, arguments.work_dir / "donors" / key, arguments.model, how, arguments.donor_prompt)
    noises, people = tuple(seeds(arguments.seeds)), seeds(arguments.subjects)
    run = Comparison(arguments.output_dir, kept, chosen, noises, tuple(arguments.expressions), arguments.prompt, settings, base)

    prepare(arguments)
    ready = [person(arguments.work_dir, seed) for seed in people]
    wanted = dict.fromkeys(
        donor
        for one in ready
        for noise in noises
        for name in run.expressions
        for arm in chosen
        if (donor := wanted_by(arm, one, noise, name)) is not None
    )
    started = time.time()
    for number, _ in enumerate(each(kept, list(wanted), arguments.processes), start=1):
        if number % 20 == 0 or number == len(wanted):
            print(f"donors: {number} of {len(wanted)}, {time.time() - started:.0f} s", flush=True)
    for line in each(run, people, arguments.processes):
        print(f"{line}, {time.time() - started:.0f} s", flush=True)


def write_summary(output: Path, arms: Sequence[str], command: str, wanted: summary.Wanted) -> str:
    """table.md and sheet.png of what is recorded and wanted; the table."""
    table = summary.table(output, arms, command, wanted)
    replace_file(output / "table.md", table.encode())
    write_picture(output / "sheet.png", np.asarray(summary.sheet(output, arms, wanted)))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=f"{__doc__}\n{arms_module.__doc__}", formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--output_dir", type=Path, required=True, help="records, pictures, table and sheet")
    parser.add_argument("--arms", nargs="+", help=f"(default: {' '.join(DEFAULT_ARMS)})")
    parser.add_argument("--seeds", nargs="+", default=["0-1"], help="of the noise, the same for every subject and arm")
    parser.add_argument("--expressions", nargs="+", default=list(CLASSES), choices=CLASSES)
    parser.add_argument("--target_text", choices=arms_module.TARGETS, default="expression", help="text of fused pictures")
    parser.add_argument("--prompt", default="a photo of ohwx {class}", help="{class} is the subject's class word")
    parser.add_argument("--donor_prompt", default="a photo of ohwx {class}", help="of the twins, as in the nodes the picture's own")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=4.0)
    parser.add_argument("--summary_only", action="store_true", help="draw nothing; table and sheet of what is there")
    arguments = parser.parse_args()
    try:
        if not arguments.summary_only:
            compare(arguments)
        names = [arm.name for arm in parse_arms(arguments.arms or DEFAULT_ARMS, arguments.target_text)]
        wanted = summary.of_people(seeds(arguments.subjects), seeds(arguments.seeds))
        print(write_summary(arguments.output_dir, names, f"python -m lab.benchmarks.fusion_sites {shlex.join(sys.argv[1:])}", wanted))
    except FaceExprError as reason:
        sys.exit(f"fusion_sites: {reason}")
    finally:
        close()


if __name__ == "__main__":
    main()
