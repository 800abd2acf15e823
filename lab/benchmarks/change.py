"""Change Expression on pictures of unseen people: is the expression right, and is it still the person?

    python -m lab.benchmarks.change --work_dir WORK --output_dir OUT --subjects 200000-200009 --processes 2

Of each subject two renders are changed: a neutral one to each of the seven expressions, and a smiling one to neutral. `right`: the
expression measured (change of blendshapes from the person's neutral render) is the one asked. `likeness`: normalised SFace to the person's
photos, as a share of the untouched picture's. `same`: SFace cosine to the untouched picture. `outside`: pixels that differ where the mask
is 0 (must be 0 but in `render`). A sheet of each arm's pictures lies beside the records.

Arms: `redraw` as the node does it; `gentle`, `strong` and `strength_3` the same at strengths 1, 2 and 3; `whole` with all of a neutral face
open, whatever the expression moves; `image_to_image` from fresh noise (cfg 5, fusion of the texts' own difference); `lora` as `redraw`,
drawn with the person's LoRA (trained if it is not there); `render` the world's own render of the person with what is asked: what the
expression itself costs. What is measured already is kept.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faceexpr_core import mini
from faceexpr_core.diffusers_host import encoding
from faceexpr_core.diffusers_host.redraw import RedrawHost, Redrawing, change_face
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.evaluation.records import Lines, keep_meaning, read_all
from faceexpr_core.evaluation.run import read_picture, write_picture
from faceexpr_core.evaluation.summary import grouped
from faceexpr_core.faces.change import FaceCut, cut_face
from faceexpr_core.files import replace_file
from faceexpr_core.fusion.donor_faces import moved_regions
from faceexpr_core.fusion.grids import grid_mask
from faceexpr_core.fusion.redraw import AWAY, SHOWN_ALONE, SHOWN_SHARE, redraw, redraw_words
from faceexpr_core.measure.expression import CLASSES
from faceexpr_core.measure.identity import normalised
from faceexpr_core.measure.judges import Picture, measured_by
from faceexpr_core.measure.picture_score import NEUTRAL
from faceexpr_core.measure.shown import shown_expression
from faceexpr_core.text import expression_terms

from . import tools
from .store import file_name
from .subjects import Person, base_hash, expressive_photo, learn, person, personalised, seeds, train_settings
from .summary import cell, over_subjects, page_of
from .workers import each

RENDER = "render"
ARMS: dict[str, Redrawing] = {
    "redraw": Redrawing(),
    "gentle": Redrawing(strength=1.0),
    "strong": Redrawing(strength=2.0),
    "strength_3": Redrawing(strength=3.0),
    "whole": Redrawing(),
    "image_to_image": Redrawing(strength=1.0, cfg=5.0, denoise=0.5),
    "lora": Redrawing(),
    RENDER: Redrawing(),
}
TASKS = (*((NEUTRAL, name) for name in CLASSES), ("happy", NEUTRAL))
"""What a picture shows, and what is asked."""
MEASURES = ("right", "likeness", "same")


def image_to_image(host: RedrawHost, latent: Tensor, sigmas: Sequence[float], mask: Tensor, weight: float) -> Tensor:
    """What `redraw` is compared with: noise is added, and taken away under the words and the fusion. `weight` is of no use to it."""
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(1)).to(latent)
    inside = grid_mask(mask, (latent.shape[2], latent.shape[3])).to(latent)
    x = latent + sigmas[0] * noise
    for sigma, following in pairwise(sigmas):
        x = x + (following - sigma) * host.predict(x, sigma, "e")
        x = inside * x + (1 - inside) * (latent + following * noise)
    return x


@dataclass(frozen=True)
class Measured:
    """All tasks of a subject in the arms, in a process of its own."""

    work: Path
    output: Path
    model: str
    arms: tuple[str, ...]
    steps: int

    def __call__(self, seed: int) -> str:
        lines = Lines(self.output / f"{seed}.jsonl")
        done = {(row["arm"], row["asked"]) for row in lines.values}
        for arm in self.arms:
            for shown, asked in TASKS:
                if (arm, asked) not in done:
                    lines.add({"subject": seed, "arm": arm, "asked": asked, **self._one(seed, arm, shown, asked)})
        tools.close()
        return f"{seed}: {len(lines.values)} pictures"

    def _one(self, seed: int, arm: str, shown: str, asked: str) -> dict[str, Any]:
        meters, one = tools.meters(), person(self.work, seed)
        given, rest = expressive_photo(self.work, seed, shown), expressive_photo(self.work, seed, NEUTRAL)
        face = meters.expression.face(given)
        if face is None:
            write_picture(_picture(self.output, arm, seed, asked), np.concatenate([given, given], 1))
            return {"right": False, "likeness": 0.0, "same": 0.0, "outside": 0, "read": ""}
        read = shown_expression(given, face)
        cut = cut_face(np.asarray(given / 255, np.float32), face, mini.RESOLUTION)
        drawn = expressive_photo(self.work, seed, asked) if arm == RENDER else self._drawn(one, given, cut, read, arm, asked)
        write_picture(_picture(self.output, arm, seed, asked), np.concatenate([given, drawn], 1))
        reading = meters.expression.measure(drawn, rest)
        before, after = (normalised(meters.identity.similarity(one_of, one.reference)) for one_of in (given, drawn))
        own = meters.identity.embed(given)
        return {
            "right": reading.hits(asked),
            "likeness": after / before,
            "same": 0.0 if own is None else meters.identity.similarity(drawn, own) or 0.0,
            "outside": int((drawn != given)[cut.mask == 0].sum()),
            "read": read,
        }

    def _drawn(self, one: Person, given: Picture, cut: FaceCut, read: str, arm: str, asked: str) -> Picture:
        pipe, trigger = tools.pipeline(self.model), ""
        if arm == "lora":
            pipe, trigger = personalised(pipe, learn(self.work, pipe, one, train_settings("{}"), base_hash(pipe))), "ohwx "
        picture = np.asarray(given / 255, np.float32)
        count = partial(encoding.count_tokens, pipe)
        words = redraw_words(f"a photo of {trigger or 'a '}{one.gender}", expression_terms(asked), read, count)
        moved = ("face",) if arm == "whole" else moved_regions(asked)
        draw = image_to_image if arm == "image_to_image" else redraw
        made = change_face(pipe, picture, cut, words, read, moved, replace(ARMS[arm], steps=self.steps), draw=draw)
        drawn: Picture = np.round(made * 255).astype(np.uint8)
        return drawn


def table(rows: Sequence[dict[str, Any]], command: str) -> str:
    """Markdown: each arm changing a neutral face and taking a smile away, then each expression of the first arm."""
    lines = [f"`{command}`", "", "[95 % bootstrap intervals over people]", ""]
    lines += table_head(["arm", "asked", "pictures", *MEASURES, "outside"])
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]
    for arm in arms:
        for kind in ("an expression", NEUTRAL):
            chosen = [row for row in rows if row["arm"] == arm and (row["asked"] == NEUTRAL) == (kind == NEUTRAL)]
            if chosen:
                outside = sum(row["outside"] for row in chosen)
                lines.append(table_line([f"`{arm}`", kind, f"{len(chosen)}", *_cells(chosen), f"{outside}"]))
    first = [row for row in rows if row["arm"] in arms[:1]]
    lines += ["", *table_head([f"`{''.join(arms[:1])}`, asked", *MEASURES])]
    lines += [table_line([name, *_cells(chosen)]) for name, chosen in grouped(first, "asked").items()]
    return "\n".join(lines) + "\n"


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [cell(over_subjects(rows, partial(_value, name)), name) for name in MEASURES]


def _value(name: str, row: Mapping[str, Any]) -> float:
    return float(row[name])


def sheet(output: Path, subjects: Sequence[int], arm: str) -> Picture:
    """A row for each subject: the neutral picture and what was made of it, the smiling one and what was made of that."""
    rows = []
    for seed in subjects:
        *changed, calmed = [np.split(read_picture(_picture(output, arm, seed, asked)), 2, axis=1) for _, asked in TASKS]
        rows.append((f"{seed}", [changed[0][0], *(made for _, made in changed), *calmed]))
    return np.asarray(page_of(rows, ("as given", *CLASSES, "as given", NEUTRAL)))


def _picture(output: Path, arm: str, seed: int, asked: str) -> Path:
    return output / "pictures" / file_name(arm) / f"{seed}_{asked}.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, required=True, help="photos and LoRAs are kept here, for all benchmarks")
    parser.add_argument("--output_dir", type=Path, required=True, help="records and pictures")
    parser.add_argument("--model", default="mini", help="'mini', or a folder with another version of it")
    parser.add_argument("--subjects", nargs="+", default=["200000-200009"], help="seeds: 100000 and up tuning, 200000 and up reporting")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["redraw"])
    parser.add_argument("--steps", type=int, default=Redrawing().steps)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    base = base_hash(tools.pipeline(arguments.model))
    learned = asdict(train_settings("{}"))
    settings = {"steps": arguments.steps, "model": arguments.model, "base": base, "learned": learned, "measured by": measured_by()}
    constants = {"shown": SHOWN_SHARE, "shown alone": SHOWN_ALONE, "away": AWAY}
    arms = {arm: {**asdict(ARMS[arm]), **constants} for arm in arguments.arms}
    try:
        keep_meaning(arguments.output_dir / "settings.json", settings, whole=True)
        keep_meaning(arguments.output_dir / "arms.json", arms)
    except FaceExprError as reason:
        sys.exit(f"change: {reason}")
    make: Any = Measured(arguments.work_dir, arguments.output_dir, arguments.model, tuple(arguments.arms), arguments.steps)
    for line in each(make, seeds(arguments.subjects), arguments.processes):
        print(line, flush=True)
    chosen = seeds(arguments.subjects)
    for arm in arguments.arms:
        write_picture(arguments.output_dir / f"{file_name(arm)}.png", sheet(arguments.output_dir, chosen, arm))
    rows = [row for row in read_all(arguments.output_dir) if row["subject"] in chosen and row["arm"] in arguments.arms]
    told = table(rows, f"python -m lab.benchmarks.change {shlex.join(sys.argv[1:])}")
    replace_file(arguments.output_dir / "table.md", told.encode())
    print(told)


if __name__ == "__main__":
    main()
