"""A LoRA that always frowns: learned from six sad photos with one caption, then asked for a calm and a happy face.

    python -m lab.benchmarks.frowns --work_dir WORK --output_dir OUT --subjects 200000-200009 --seeds 0-1 --processes 2

Arms, all with the same LoRA and the same noise:

    words       the expression asked in the text
    fused       a neutral text, the expression by fusion from the model without the LoRA, as the template
                "my LoRA always frowns" had it first; a neutral face cannot be asked for in this way
    from sad    the expression asked in the text, and fused from the model without the LoRA: what it changes of a *sad* text. In ComfyUI:
                FaceExpr Sampler with `sad` at its input *neutral* and fusion_text *positive*, which is the template now

right: the change from the person's resting face (a render at rest) is read as the expression asked, of eight. sad: how far the face still
goes along the prototype of sad, 1 a usual full expression. identity: normalised SFace to photos that do not all frown. A run that was
stopped goes on where it stopped. Writes OUT/table.md and sheet.png.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from faceexpr_core import mini, text
from faceexpr_core.diffusers_host import encoding
from faceexpr_core.diffusers_host.donors import own_donors
from faceexpr_core.diffusers_host.fusion import Fusion
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.evaluation.records import Lines, keep_meaning, read_all
from faceexpr_core.evaluation.run import read_picture, write_picture
from faceexpr_core.evaluation.summary import grouped
from faceexpr_core.expressions import EXPRESSIONS
from faceexpr_core.files import replace_file
from faceexpr_core.fusion.run import Run
from faceexpr_core.fusion.settings import default_site, site_settings
from faceexpr_core.measure.expression import intensity_of
from faceexpr_core.measure.judges import Picture, measured_by

from . import summary, tools
from .albums import FROWNING
from .drawing import Schedule, draw
from .preset_arms import PresetArm, parse_preset_arms
from .store import file_name
from .subjects import Person, add_arguments, base_hash, expressive_photo, person, personalised, seeds
from .summary import Record
from .workers import each

SHOWN, ASKED = "sad", ("neutral", "happy")
WORDS, FUSED, FROM_SAD = "words", "fused", "from sad"
DRAWN = ((WORDS, "neutral"), (WORDS, "happy"), (FUSED, "happy"), (FROM_SAD, "neutral"), (FROM_SAD, "happy"))
"""Arm and expression asked of each picture."""
SETTINGS = replace(site_settings(default_site(False)), strength=0.8)
"""As in the template. Words speak too there, so that the default would be more than was measured."""
MEASURES: dict[str, summary.Value] = {
    "right": lambda record: float(record["right"]),
    "sad": lambda record: record["sad"],
    "identity": summary.likeness,
}


@dataclass(frozen=True)
class Frowns:
    """A run; called with a subject's seed it learns, draws and measures what is missing."""

    output: Path
    work: Path
    model: str
    training: PresetArm
    how: Schedule
    noises: tuple[int, ...]

    def __call__(self, seed: int) -> str:
        lines = Lines(self.output / "records" / f"{seed}.jsonl")
        known = {(one["noise"], one["arm"], one["expression"]) for one in lines.values}
        base, one = tools.pipeline(self.model), person(self.work, seed, FROWNING)
        lora = self.training.learn(self.work, base, one, base_hash(base))
        pipe, usual, rest = personalised(base, lora), person(self.work, seed), expressive_photo(self.work, seed, "neutral")
        for noise in self.noises:
            if any((noise, *drawn) not in known for drawn in DRAWN):
                for (arm, name), picture in zip(DRAWN, self._pictures(pipe, one, noise), strict=True):
                    record = {"subject": seed, "noise": noise, "arm": arm, "expression": name, **_measure(picture, rest, name, usual)}
                    write_picture(_picture(self.output, record), picture)
                    if (noise, arm, name) not in known:
                        lines.add(record)
        return f"{seed}: {len(lines.values)} pictures"

    def _pictures(self, pipe: Any, one: Person, noise: int) -> list[Picture]:
        """One for each of DRAWN."""
        base = tools.pipeline(self.model)
        said = _texts(base, f"a photo of ohwx {one.gender}")
        prompts: list[text.ExpressionPrompt] = []
        fusions: list[Fusion | None] = []
        for arm, name in DRAWN:
            before = {WORDS: None, FUSED: "neutral", FROM_SAD: SHOWN}[arm]
            shown = said["neutral" if arm == FUSED else name]
            prompts.append(text.ExpressionPrompt(shown, (shown,), (1.0,)))
            fusions.append(None if before is None else self._fusion(said[before], said[name]))
        return draw(pipe, prompts, noise, self.how, fusions)

    def _fusion(self, before: str, after: str) -> Fusion:
        """What the model without the LoRA changes from one text to another of the same length."""
        change = text.ExpressionPrompt(before, (after,), (1.0,))
        run = Run(steps=self.how.steps, cfg=self.how.cfg, width=self.how.side, height=self.how.side)
        (fusion,), _ = own_donors(tools.pipeline(self.model), change, SETTINGS, run)
        return fusion


def _texts(pipe: Any, prompt: str) -> dict[str, str]:
    """The prompt with SHOWN and each of ASKED, all of one length."""
    names = (SHOWN, *(name for name in ASKED if name != "neutral"))
    terms = [text.Term(EXPRESSIONS[name].phrase, 1.0) for name in names]
    built = text.build_prompts(prompt, terms, partial(encoding.count_tokens, pipe))
    return {"neutral": built.neutral, **dict(zip(names, built.expressions, strict=True))}


def _measure(picture: Picture, rest: Picture, asked: str, usual: Person) -> dict[str, Any]:
    meters = tools.meters()
    face, resting = meters.expression.face(picture), meters.expression.face(rest)
    return {
        "right": meters.expression.measure(face, resting).hits(asked),
        "sad": intensity_of(face, resting, SHOWN) if face is not None and resting is not None else None,
        "similarity": meters.identity.similarity(picture, usual.reference),
    }


def _picture(output: Path, record: Record) -> Path:
    return output / "pictures" / f"{record['subject']}_{record['noise']}_{file_name(record['arm'])}_{record['expression']}.png"


def table(records: Sequence[Record], command: str) -> str:
    """Markdown: each arm and expression, and its difference from words on the same people and noise."""
    lines = [f"`{command}`", "", *table_head(["arm", "asked", "pictures", *MEASURES, *(f"{name}, less words'" for name in MEASURES)])]
    plain = {summary.place(one): one for one in records if one["arm"] == WORDS}
    for arm, name in DRAWN:
        own = [one for one in records if (one["arm"], one["expression"]) == (arm, name)]
        if own:
            cells = [summary.cell(summary.over_subjects(own, value), title) for title, value in MEASURES.items()]
            for title, value in MEASURES.items():
                less = None if arm == WORDS else summary.over_subjects(own, summary.difference(value, plain))
                cells.append(summary.cell(less, title, signed=True))
            lines.append(table_line([f"`{arm}`", name, f"{len(own)}", *cells]))
    return "\n".join(lines) + "\n"


def sheet(output: Path, records: Sequence[Record], people: int = 4) -> Picture:
    """A row a person: each of DRAWN from the first noise."""
    rows = []
    for seed, own in list(grouped(records, "subject").items())[:people]:
        first = [one for one in own if one["noise"] == own[0]["noise"]]
        by = {(one["arm"], one["expression"]): read_picture(_picture(output, one)) for one in first}
        rows.append((f"{seed}", [by[drawn] for drawn in DRAWN]))
    return np.asarray(summary.page_of(rows, [f"{arm}, {name}" for arm, name in DRAWN]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, train=False)
    parser.add_argument("--output_dir", type=Path, required=True, help="records, pictures, table and sheet")
    parser.add_argument("--training", default="paper", help="an arm of lab.benchmarks.presets (paper: one caption for all photos)")
    parser.add_argument("--common", default="", help="settings of it, as learning_rate=6e-4,batch_size=3")
    parser.add_argument("--seeds", nargs="+", default=["0-1"], help="of the noise, the same for every subject")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=4.0)
    arguments = parser.parse_args()
    output = arguments.output_dir
    try:
        (training,) = parse_preset_arms([arguments.training], arguments.common)
        how = Schedule(arguments.steps, arguments.cfg, mini.RESOLUTION)
        base = base_hash(tools.pipeline(arguments.model))
        fusion = {**asdict(SETTINGS), "strength 1": SETTINGS.units}
        keep_meaning(
            output / "run.json",
            {"base": base, "measured by": measured_by(), "schedule": asdict(how), "training": training.meaning(), "fusion": fusion},
            whole=True,
        )
        run = Frowns(output, arguments.work_dir, arguments.model, training, how, tuple(seeds(arguments.seeds)))
        for line in each(run, seeds(arguments.subjects), arguments.processes):
            print(line, file=sys.stderr, flush=True)
        chosen = seeds(arguments.subjects)
        records = [one for one in read_all(output / "records") if one["subject"] in chosen and one["noise"] in run.noises]
        told = table(records, f"python -m lab.benchmarks.frowns {shlex.join(sys.argv[1:])}")
        replace_file(output / "table.md", told.encode())
        write_picture(output / "sheet.png", sheet(output, records))
        print(told)
    except FaceExprError as reason:
        sys.exit(f"frowns: {reason}")
    finally:
        tools.close()


if __name__ == "__main__":
    main()
