"""How far the text encoders drift from the base's while a person is learned, and what crafting makes of it.

    python -m lab.benchmarks.text_drift --work_dir WORK --output_dir OUT --subjects 200002 --processes 2 \\
        --arms default:steps=400,text_encoder_learning_rate=1e-3 default:steps=400,text_encoder_learning_rate=1e-4 \\
        --common learning_rate=6e-4,batch_size=3,accumulation=1

Arms as `lab.benchmarks.presets` has them; LoRAs lie in WORK, shared with the other benchmarks, records in OUT. A run that diverges is a
result here: its step and what the trainer said are recorded. SDXL reads the last layer but one of its encoders, which no norm follows:
their output can grow without bound, and with it what words do in the U-Net.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.records import keep_meaning
from faceexpr_core.expressions import EXPRESSIONS
from faceexpr_core.files import replace_file
from faceexpr_core.training.update import Diverged

from .albums import ALBUMS
from .preset_arms import PresetArm, parse_preset_arms
from .store import file_name, write_json
from .subjects import Person, add_arguments, base_hash, draw_class, person, seeds
from .tools import pipeline
from .workers import each

if TYPE_CHECKING:
    from faceexpr_core.training.result import Step

EVERY = 10
"""Steps between two looks at the embeddings."""
WINDOW = 50
"""Steps of a row of the table."""


@dataclass
class Watch:
    """Hears of every step. `lengths`: [step, neutral, happy], norms of the person's embeddings in multiples of the base's class."""

    pipe: Any
    one: Person
    crafting: list[float] = field(default_factory=list)
    identity: list[float] = field(default_factory=list)
    lengths: list[list[float]] = field(default_factory=list)

    def __call__(self, step: Step) -> None:
        self.crafting.append(step.losses.get("crafting", math.nan))
        self.identity.append(step.losses["identity"])
        if step.embed is not None and (step.number % EVERY == 0 or step.number == 1):
            now = step.embed(self._tokens(f"a photo of ohwx {self.one.gender}"))[0]
            base = self._base()
            self.lengths.append([step.number, *(float(mine.norm() / theirs.norm()) for mine, theirs in zip(now, base, strict=True))])

    def _prompts(self, start: str) -> list[str]:
        return [f"{start}, {EXPRESSIONS[name].phrase}" for name in ("neutral", "happy")]

    def _tokens(self, start: str) -> Any:
        from faceexpr_core.diffusers_host.encoding import tokenize_prompts

        return tokenize_prompts(self.pipe, self._prompts(start))

    def _base(self) -> Any:
        from faceexpr_core.diffusers_host.encoding import encode_prompts

        return encode_prompts(self.pipe, self._prompts(f"a photo of a {self.one.gender}"))[0]


@dataclass(frozen=True)
class Drift:
    """A run; called with an arm and a person's seed it learns and records, or finds what is recorded."""

    output: Path
    work: Path
    model: str
    album: str

    def record(self, arm: PresetArm, seed: int) -> Path:
        return self.output / "records" / file_name(arm.name) / f"{seed}.json"

    def __call__(self, item: tuple[PresetArm, int]) -> str:
        arm, seed = item
        path = self.record(arm, seed)
        if path.exists():
            return f"{seed}, {arm.name}: was there"
        pipe, one = pipeline(self.model), person(self.work, seed, self.album)
        base = base_hash(pipe)
        if arm.file(self.work, seed, base, self.album).exists():
            raise FaceExprError(f"{arm.name} of {seed} was learned before, unseen; give another --work_dir.")
        watch, told = Watch(pipe, one), ""
        try:
            arm.learn(self.work, pipe, one, base, watch)
        except Diverged as reason:
            told = str(reason)
        value = {"arm": arm.name, "subject": seed, "steps": len(watch.identity), "diverged": told}
        write_json(path, {**value, "identity": watch.identity, "crafting": watch.crafting, "lengths": watch.lengths})
        return f"{seed}, {arm.name}: {len(watch.identity)} steps{', diverged' if told else ''}"


def table(records: Sequence[dict[str, Any]]) -> str:
    """A row for each arm, person and WINDOW steps."""
    lines = ["| arm | person | steps | photos' loss | crafting, median (most) | neutral, happy: length | |", "|" + " --- |" * 7]
    for one in records:
        for first in range(0, one["steps"], WINDOW):
            last = min(first + WINDOW, one["steps"])
            taken = [value for value in one["crafting"][first:last] if not math.isnan(value)]
            crafting = f"{statistics.median(taken):.2f} ({max(taken):.2f})" if taken else "-"
            lengths = [row for row in one["lengths"] if first < row[0] <= last]
            length = f"{lengths[-1][1]:.2f}, {lengths[-1][2]:.2f}" if lengths else "-"
            identity = f"{statistics.fmean(one['identity'][first:last]):.3f}"
            ended = "**diverged**" if one["diverged"] and last == one["steps"] else ""
            lines.append(f"| `{one['arm']}` | {one['subject']} | {first + 1} to {last} | {identity} | {crafting} | {length} | {ended} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, train=False)
    parser.add_argument("--output_dir", type=Path, required=True, help="records and the table")
    parser.add_argument("--arms", nargs="+", required=True, help="as lab.benchmarks.presets has them; the text encoders must learn")
    parser.add_argument("--common", default="", help="settings of all arms, as learning_rate=6e-4,batch_size=3")
    parser.add_argument("--album", choices=ALBUMS, default="smiling", help="which photos of the people (smiling)")
    arguments = parser.parse_args(argv)
    try:
        arms, numbers = parse_preset_arms(arguments.arms, arguments.common), seeds(arguments.subjects)
        if silent := next((arm.name for arm in arms if not arm.settings.text_encoder), None):
            raise FaceExprError(f"{silent}: its text encoders do not learn; give text_encoder=on.")
        about = {"album": arguments.album, "base": base_hash(pipeline(arguments.model))}
        keep_meaning(arguments.output_dir / "arms.json", {arm.name: {**arm.meaning(), **about} for arm in arms})
        run = Drift(arguments.output_dir, arguments.work_dir, arguments.model, arguments.album)
        ready = list(each(partial(person, arguments.work_dir, album=arguments.album), numbers, arguments.processes))
        list(each(partial(draw_class, arguments.work_dir, arguments.model), sorted({one.gender for one in ready}), arguments.processes))
        for line in each(run, [(arm, seed) for seed in numbers for arm in arms], arguments.processes):
            print(line, file=sys.stderr, flush=True)
        told = table([json.loads(run.record(arm, seed).read_text()) for seed in numbers for arm in arms])
        replace_file(arguments.output_dir / "table.md", told.encode())
        print(told)
    except FaceExprError as reason:
        sys.exit(f"text_drift: {reason}")


if __name__ == "__main__":
    main()
