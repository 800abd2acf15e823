"""What the parts of the loss do: training runs x unseen subjects x seeds x expressions on Mini, measured.

    python -m lab.benchmarks.presets --work_dir WORK --output_dir OUT --subjects 200000-200009 --seeds 0-3 --processes 2 \\
        --arms paper default default:prior=off default:crafting_weight=0 --common learning_rate=6e-4,convolutions=on

Every arm learns the same photos and draws from the same noise with the same text, the person and the class alone. A run that was stopped
goes on where it stopped; arms, subjects and seeds may be added later. Writes OUT/records/<arm>/<subject>.jsonl, the pictures, table.md,
sheet.png (the person) and class.png.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from faceexpr_core import mini
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.records import Lines, keep_meaning
from faceexpr_core.evaluation.run import read_picture, write_picture
from faceexpr_core.faces.detector import Face
from faceexpr_core.files import replace_file
from faceexpr_core.measure.expression import CLASSES, intensity_of
from faceexpr_core.measure.judges import Picture, measured_by

from . import preset_arms, preset_summary
from .albums import ALBUMS, MIXED
from .donor_banks import expression_prompt
from .drawing import Schedule, draw
from .preset_arms import BASE, PresetArm, parse_preset_arms
from .preset_summary import CLASS, NEUTRAL, PERSON, picture_path
from .store import file_name
from .subjects import Person, add_arguments, base_hash, class_noise, draw_class, people_folder, person, personalised, seeds
from .summary import Wanted, of_people
from .tools import close, meters, pipeline
from .workers import each

DEFAULT_ARMS = (
    "paper",
    "default",
    "default:prior=off",
    "default:prior=distill",
    "default:crafting_weight=0",
    "default:prior=off,crafting_weight=0",
    "default:captions=off",
)


@dataclass(frozen=True)
class Measuring:
    """A run; called with an arm (None for the base model) and a subject's seed it learns, draws and measures what is missing."""

    output: Path
    work: Path
    model: str
    base: str
    how: Schedule
    noises: tuple[int, ...]
    expressions: tuple[str, ...]
    prompt: str
    class_prompt: str
    album: str

    def __call__(self, item: tuple[PresetArm | None, int]) -> str:
        arm, seed = item
        name = BASE if arm is None else arm.name
        lines = Lines(self.output / "records" / file_name(name) / f"{seed}.jsonl")
        known = {(one["kind"], one["noise"], one["expression"]) for one in lines.values}
        wanted = (NEUTRAL, *self.expressions)
        kinds = (CLASS,) if arm is None else (PERSON, CLASS)
        missing = {
            (kind, noise): lacking
            for kind in kinds
            for noise in self.noises
            if (lacking := [one for one in wanted if (kind, noise, one) not in known])
        }
        if not missing:
            return f"{seed}, {name}: was there"
        started = time.process_time()
        one, pipe = person(self.work, seed, self.album), pipeline(self.model)
        if arm is not None:
            pipe = personalised(pipe, arm.learn(self.work, pipe, one, self.base))
        learned = time.process_time()
        for (kind, noise), lacking in missing.items():
            for value, picture in self._measured(pipe, one, name, kind, noise):
                if value["expression"] in lacking:
                    write_picture(picture_path(self.output, value), picture)
                    lines.add(value)
        return f"{seed}, {name}: learned in {learned - started:.0f} s of the processor, measured in {time.process_time() - learned:.0f}"

    def _measured(self, pipe: Any, one: Person, arm: str, kind: str, noise: int) -> list[tuple[dict[str, Any], Picture]]:
        """A record and a picture for neutral and each expression, all from one noise."""
        names = (NEUTRAL, *self.expressions)
        words = self.prompt if kind == PERSON else self.class_prompt
        start = noise if kind == PERSON else class_noise(one.seed, noise)
        pictures = draw(pipe, [expression_prompt(self.model, words, one.gender, name) for name in names], start, self.how)
        faces = [meters().expression.face(picture) for picture in pictures]
        resting, at_rest, found = faces[0], _rest(one.folder), []
        for name, picture, face in zip(names, pictures, faces, strict=True):
            value = {"arm": arm, "subject": one.seed, "kind": kind, "noise": noise, "expression": name, "face": face is not None}
            if name != NEUTRAL:
                reading = meters().expression.measure(face, resting)
                both = face is not None and resting is not None
                value |= {
                    "read": reading.expression,
                    "right": reading.hits(name),
                    "cosine": reading.scores[name] if both else 0.0,
                    "intensity": intensity_of(face, resting, name) if face is not None and resting is not None else 0.0,
                    "moved": reading.moved,
                }
            if kind == PERSON:
                seen = meters().expression.measure(face, at_rest)
                value["on_person"] = face is not None and (seen.is_neutral() if name == NEUTRAL else seen.hits(name))
            value["similarity"] = meters().identity.similarity(picture, one.reference)
            found.append((value, picture))
        return found


@cache
def _rest(folder: Path) -> Face | None:
    """The face of a person at rest, in the first photo of any album."""
    return meters().expression.face(read_picture(folder / "photo_0.png"))


def measure(arguments: argparse.Namespace, arms: Sequence[PresetArm]) -> None:
    """Prepare people and pictures of the class, then learn, draw and measure."""
    output, work, people = arguments.output_dir, arguments.work_dir, seeds(arguments.subjects)
    base = base_hash(pipeline(arguments.model))
    how = Schedule(arguments.steps, arguments.cfg, mini.RESOLUTION)
    drawn = {
        "base": base,
        "schedule": {**asdict(how), "class": "from noise of each person's own"},
        "prompt": arguments.prompt,
        "class_prompt": arguments.class_prompt,
        "album": arguments.album,
        "measured by": measured_by(),
    }
    keep_meaning(output / "run.json", drawn, whole=True)
    keep_meaning(output / "arms.json", {arm.name: arm.meaning() for arm in arms})
    expressions = tuple(name for name in CLASSES if name in arguments.expressions)
    noises = tuple(seeds(arguments.seeds))
    run = Measuring(
        output, work, arguments.model, base, how, noises, expressions, arguments.prompt, arguments.class_prompt, arguments.album
    )

    started = time.time()
    ready = list(each(partial(person, work, album=arguments.album), people, arguments.processes))
    if any(arm.settings.draws_class for arm in arms):
        words = list(dict.fromkeys(one.gender for one in ready))
        for line in each(partial(draw_class, work, arguments.model), words, arguments.processes):
            print(f"{line}, {time.time() - started:.0f} s", flush=True)
    items = [(arm, seed) for seed in people for arm in (None, *arms)]
    for line in each(run, items, arguments.processes):
        print(f"{line}, {time.time() - started:.0f} s", flush=True)


def write_summary(output: Path, people: Path, arms: Sequence[str], against: Sequence[str], command: str, wanted: Wanted) -> str:
    """table.md, sheet.png and class.png of what is recorded and wanted; the table."""
    table = preset_summary.table(output, arms, against, command, wanted)
    replace_file(output / "table.md", table.encode())
    for kind, name in ((PERSON, "sheet"), (CLASS, "class")):
        write_picture(output / f"{name}.png", np.asarray(preset_summary.sheet(output, people, arms, kind, wanted)))
    return table


def _against(given: Sequence[str] | None, arms: Sequence[str]) -> list[str]:
    """The arms to compare with; those of the presets' names if none are given. Raises FaceExprError for one that is no arm."""
    if unknown := [name for name in given or () if name not in arms]:
        raise FaceExprError(f"--against {unknown[0]} is none of the arms; give one of {', '.join(arms)}.")
    return list(given or (name for name in ("paper", "default") if name in arms))


def main() -> None:
    words = f"{__doc__}\n{preset_arms.__doc__}"
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, train=False)
    parser.add_argument("--output_dir", type=Path, required=True, help="records, pictures, tables and sheets")
    parser.add_argument("--arms", nargs="+", default=list(DEFAULT_ARMS), help=f"(default: {' '.join(DEFAULT_ARMS)})")
    parser.add_argument(
        "--common", default="", help="settings of all arms that do not say otherwise, as learning_rate=6e-4,convolutions=on"
    )
    parser.add_argument("--album", choices=ALBUMS, default=MIXED, help="which photos of the people (default: mixed), see benchmarks.albums")
    parser.add_argument("--against", nargs="+", help="arms whose differences are shown (default: paper and default)")
    parser.add_argument(
        "--seeds",
        nargs="+",
        default=["0-1"],
        help="of the noise, the same for every subject and arm; the class is drawn from noise of each subject's own",
    )
    parser.add_argument("--expressions", nargs="+", default=list(CLASSES), choices=CLASSES)
    parser.add_argument("--prompt", default="a photo of ohwx {class}", help="{class} is the subject's class word")
    parser.add_argument("--class_prompt", default="a photo of a {class}", help="without the trigger, for drift and for the base model")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=4.0)
    parser.add_argument("--summary_only", action="store_true", help="draw nothing; tables and sheets of what is there")
    arguments = parser.parse_args()
    try:
        arms = parse_preset_arms(arguments.arms, arguments.common)
        names = [arm.name for arm in arms]
        against = _against(arguments.against, names)
        if not arguments.summary_only:
            measure(arguments, arms)
        command = f"python -m lab.benchmarks.presets {shlex.join(sys.argv[1:])}"
        wanted = of_people(seeds(arguments.subjects), seeds(arguments.seeds))
        print(write_summary(arguments.output_dir, people_folder(arguments.work_dir, arguments.album), names, against, command, wanted))
    except FaceExprError as reason:
        sys.exit(f"presets: {reason}")
    finally:
        close()


if __name__ == "__main__":
    main()
