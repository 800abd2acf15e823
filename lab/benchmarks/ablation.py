"""What each part of the method does: the authors' recipe, the parts added one after the other, and each left out of the whole.

    python -m lab.benchmarks.ablation --work_dir WORK --output_dir OUT --subjects 200000-200009 --seeds 0-1 --processes 2 \\
        --album smiling --common steps=400,learning_rate=6e-4,text_encoder_learning_rate=3e-4,batch_size=3,accumulation=1

Every arm learns the same photos and draws from the same noise, by `faceexpr evaluate`'s own functions. LoRAs lie in WORK, one for each
person and training, shared with the other benchmarks; pictures and records in OUT. People are done one after the other, a process each, so
that a run that was stopped goes on where it stopped, and its tables are of whole people alone; people, arms and seeds may be added.
Writes OUT/table.md, sheet.png, and report.html with its tables as `faceexpr evaluate` does.

Pictures are compared with the photos that were learned, and with others of the person (`benchmarks.ablation_unseen`).

`the person` are renders of the same (`benchmarks.ablation_truth`).

With `--figures_dir` what was measured of whole people is kept there too, and whoever is there already is not measured again
(`benchmarks.ablation_figures`).

The class is drawn too, without the trigger word, once with each LoRA: what a person's LoRA makes of anybody else.

Plain words (`embeddings=off`) say strength as the captions of Mini's world do: slightly, nothing, very.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faceexpr_core import mini
from faceexpr_core.diffusers_host.pipeline import load_pipeline
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.arms import Arm
from faceexpr_core.evaluation.draw import Drawer
from faceexpr_core.evaluation.people import Person as Subject
from faceexpr_core.evaluation.plan import Place, Plan
from faceexpr_core.evaluation.records import Lines, keep_meaning, read_all
from faceexpr_core.evaluation.report import write_report
from faceexpr_core.evaluation.run import Evaluation, draw_place, keep_person, kept_person, read_picture, write_picture
from faceexpr_core.evaluation.summary import summarise
from faceexpr_core.files import replace_file
from faceexpr_core.fusion.run import Run
from faceexpr_core.measure.expression import CLASSES
from faceexpr_core.measure.identity import IdentityMeter, donor_leak
from faceexpr_core.measure.judges import Judges, Looks, Picture, measured_by
from faceexpr_core.measure.picture_score import NEUTRAL

from .ablation_arms import ARMS, BASE, Step, chosen_steps
from .ablation_class import class_arms, class_evaluation, with_class
from .ablation_figures import Figures, read_figures, with_figures, write_figures
from .ablation_table import MEASURES, sheet, table
from .ablation_truth import TRUTH, in_folder, rendered, truth_evaluation
from .ablation_unseen import UNSEEN, compare_unseen, unseen_album, with_unseen
from .albums import ALBUMS
from .preset_arms import PresetArm
from .subjects import Person, add_arguments, base_hash, class_noise, draw_class, person, personalised, seeds
from .tools import pipeline
from .workers import each

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

SCENE = "a photo of {person}"
INTENSITIES = (0.4, 0.7, 1.0)


@dataclass(frozen=True)
class Ablation:
    """A run; called with a person's seed it learns, draws and measures what is missing of that person, and tells of each part done."""

    work: Path
    model: str
    base: str
    album: str
    how: Run
    steps: tuple[Step, ...]
    evaluation: Evaluation
    kept: Figures
    """People who were measured before."""

    def __call__(self, seed: int) -> str:
        for training in self.trainings():
            _say(self.learned(seed, training))
        _say(self.prepared(seed))
        for place in self.evaluation.places():
            if place.person == f"{seed}":
                _say(self.drawn(place))
        for place in self.of_class.places():
            if place.person == f"{seed}":
                _say(self.class_drawn(place))
        for place in self.of_person.places():
            if place.person == f"{seed}":
                _say(self.rendered(place))
        _say(self.compared(seed))
        return f"{seed}: done"

    @property
    def of_class(self) -> Evaluation:
        return class_evaluation(self.evaluation, self.steps)

    @property
    def of_person(self) -> Evaluation:
        return truth_evaluation(self.evaluation)

    def whole_people(self) -> tuple[Subject, ...]:
        """Those of whom every picture is there, and compared with photos that were not learned."""
        every, drawn = (self.evaluation, self.of_class, self.of_person), (self.evaluation, self.of_person)
        lacking = {place.person for one in every for place in one.places() if one.missing(place)}
        lacking |= {one["person"] for each_one in drawn for one in with_unseen(each_one.output, each_one.records()) if UNSEEN not in one}
        return tuple(one for one in self.evaluation.people if one.name not in lacking)

    def meaning(self) -> dict[str, Any]:
        """What decides every picture beside the arms."""
        drawing = {**self.how.meaning(), "class": "from noise of each person's own", "at rest": "the first photo"}
        return {"base": self.base, "album": self.album, "drawing": drawing, "measured by": measured_by()}

    def arms(self) -> dict[str, Any]:
        """What each arm's name stands for."""
        return {step.name: {**step.arm.meaning(), "training": step.training.meaning()} for step in self.steps}

    def trainings(self) -> list[PresetArm]:
        """Those of all arms, of one LoRA each."""
        return list({step.training.file(self.work, 0, self.base, self.album): step.training for step in self.steps}.values())

    def learned(self, seed: int, training: PresetArm) -> str:
        """A person's LoRA of one training, learned if it is not there."""
        started, one = time.process_time(), person(self.work, seed, self.album)
        file = training.learn(self.work, pipeline(self.model), one, self.base)
        return f"{seed}, {training.name}: {file.name}, {time.process_time() - started:.0f} s of the processor"

    def prepared(self, seed: int) -> str:
        """What the judges make of a person's photos, kept."""
        from faceexpr_core.faces.images import read_images
        from faceexpr_core.photos.subject import SubjectSettings, prepare_subject

        one = person(self.work, seed, self.album)
        if kept_person(self.evaluation.output, f"{seed}") is None:
            settings = SubjectSettings(class_word=one.gender, resolution=len(one.photos()[0]), framing="whole picture")
            with Judges() as judges:
                photos = prepare_subject(read_images(one.folder), settings, detector=judges.detector)
                keep_person(self.evaluation.output, _subject(one), photos, judges, one.photos()[0])  # of every album at rest
        return f"{seed}: photos measured"

    def lora_of(self, name: str, arm: Arm) -> Path:
        training = next(step.training for step in self.steps if step.name == arm.name)
        return training.file(self.work, int(name), self.base, self.album)

    def drawn(self, place: Place) -> str:
        """The pictures of a place that are missing, drawn and measured; the person has all LoRAs by then."""
        started = time.process_time()
        with Judges() as judges:
            self._draw(self.evaluation, place, place.seed, judges)
            with IdentityMeter(detector=judges.detector) as identity:
                self._leaks(self.evaluation, place, identity)
        return f"{place.person}, seed {place.seed}: {time.process_time() - started:.0f} s of the processor"

    def class_drawn(self, place: Place) -> str:
        """The same of a place of `of_class`."""
        started = time.process_time()
        with Judges() as judges:
            self._draw(self.of_class, place, class_noise(int(place.person), place.seed), judges)
        return f"{place.person}, the class, seed {place.seed}: {time.process_time() - started:.0f} s of the processor"

    def compared(self, seed: int) -> str:
        """The person's pictures beside photos that were not learned."""
        started, reference = time.process_time(), person(self.work, seed, unseen_album(self.album)).reference
        count = 0
        with IdentityMeter() as meter:
            for each_one in (self.evaluation, self.of_person):
                places, records = [one for one in each_one.places() if one.person == f"{seed}"], each_one.records()
                count += sum(compare_unseen(each_one.output, place, records, reference, meter) for place in places)
        return f"{seed}: {count} pictures beside photos that were not learned, {time.process_time() - started:.0f} s of the processor"

    def rendered(self, place: Place) -> str:
        """The person as the world has it, in the place's pictures."""
        (subject,), looks = (one for one in self.evaluation.people if one.name == place.person), self._looks(place)
        with Judges() as judges:
            draw_place(self.of_person, place, subject, looks, rendered, lambda *_: None, judges, lambda: None)
            with IdentityMeter(detector=judges.detector) as identity:
                self._leaks(self.of_person, place, identity)
        return f"{place.person}, rendered, seed {place.seed}"

    def _looks(self, place: Place) -> Looks:
        if (looks := kept_person(self.evaluation.output, place.person)) is None:
            raise FaceExprError(f"{place.person} was not prepared.")
        return looks

    def _draw(self, evaluation: Evaluation, place: Place, noise: int, judges: Judges) -> None:
        (subject,), looks = (one for one in evaluation.people if one.name == place.person), self._looks(place)

        def draw(arm: Arm, lora: Path | None, person: Subject, place: Place, expression: str, intensity: float) -> Picture:
            return _drawer(self.model, self.how).draw(arm, lora, person, replace(place, seed=noise), expression, intensity)

        draw_place(evaluation, place, subject, looks, draw, self.lora_of, judges, lambda: None)

    def _leaks(self, evaluation: Evaluation, place: Place, identity: IdentityMeter) -> None:
        """How much nearer each picture at full strength is to the donor than the same arm's neutral picture, fused or not."""
        if BASE not in (one.name for one in self.steps):
            return
        lines = Lines(leaks_of(evaluation.output, place))
        most = max(evaluation.plan.intensities)
        known = {(one["arm"], one["expression"]) for one in lines.values if one["intensity"] == most}

        @cache
        def looks(output: Path, arm: str, expression: str) -> Any:
            path = place.picture(arm, expression, 1.0 if expression == NEUTRAL else most)
            return identity.embed(read_picture(output / path))

        names = [arm.name for arm in evaluation.plan.arms if arm.name != BASE]
        for arm, name in product(names, evaluation.plan.expressions):
            if (arm, name) not in known and (donor := looks(self.evaluation.output, BASE, name)) is not None:
                where = {"person": place.person, "scene": place.scene, "seed": place.seed, "arm": arm}
                leak = donor_leak(looks(evaluation.output, arm, name), looks(evaluation.output, arm, NEUTRAL), donor)
                lines.add({**where, "expression": name, "intensity": most, "leak": leak})


def _subject(one: Person) -> Subject:
    return Subject(f"{one.seed}", one.folder, "ohwx", one.gender)


def leaks_of(output: Path, place: Place) -> Path:
    return output / "leaks" / place.records(output).name


class MergedDrawer:
    """Draws as Drawer does, with the LoRA in the weights of a pipeline of its own, where it costs nothing per step."""

    def __init__(self, pipe: StableDiffusionXLPipeline, how: Run) -> None:
        self._pipe, self._how = pipe, how
        self._merged = lru_cache(maxsize=1)(self._merge)

    def draw(self, arm: Arm, lora: Path | None, person: Subject, place: Place, expression: str, intensity: float) -> Picture:
        merged = lora is not None and arm.lora_strength
        drawer = self._merged(lora, arm.lora_strength) if merged else self._drawer(self._pipe)
        return drawer.draw(arm, lora, person, place, expression, intensity)

    def _merge(self, lora: Path, strength: float) -> Drawer:
        return self._drawer(personalised(self._pipe, lora, strength))

    def _drawer(self, pipe: StableDiffusionXLPipeline) -> Drawer:
        return Drawer(pipe, self._how, lambda *_: None, base=self._pipe)


@cache
def _drawer(model: str, how: Run) -> MergedDrawer:
    from diffusers.utils import logging

    logging.set_verbosity_error()  # a LoRA of the U-Net alone is no reason for a warning
    return MergedDrawer(load_pipeline(model), how)


def with_leaks(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The records, those at full strength with what was found of the donor in them."""
    keys = ("person", "scene", "seed", "arm", "expression", "intensity")
    leaks = {tuple(one[key] for key in keys): one["leak"] for one in read_all(evaluation.output / "leaks")}
    return [{**one, "leak": leaks.get(tuple(one[key] for key in keys))} for one in evaluation.records()]


def ablation_of(arguments: argparse.Namespace, processes: int) -> Ablation:
    """What the arguments ask for; photos are rendered if they are not there. Raises FaceExprError."""
    steps = tuple(chosen_steps(arguments.arms, arguments.common))
    ready = list(each(partial(person, arguments.work_dir, album=arguments.album), seeds(arguments.subjects), processes))
    people = tuple(_subject(one) for one in ready)
    arms = tuple(replace(step.arm, name=step.name) for step in steps)
    expressions = tuple(name for name in CLASSES if name in arguments.expressions)
    plan = Plan(arms, expressions, tuple(sorted(arguments.intensities)), (SCENE,), tuple(seeds(arguments.seeds)))
    how = Run(0, arguments.steps, arguments.cfg, mini.RESOLUTION, mini.RESOLUTION)
    base = base_hash(pipeline(arguments.model))
    evaluation = Evaluation(arguments.output_dir, plan, people)
    run = Ablation(arguments.work_dir, arguments.model, base, arguments.album, how, steps, evaluation, {})
    if arguments.figures_dir is None:
        return run
    return replace(run, kept=read_figures(arguments.figures_dir, figures_meaning(run), [TRUTH, *(step.name for step in steps)]))


def figures_meaning(run: Ablation) -> dict[str, Any]:
    """What decides a person's figures."""
    plan = run.evaluation.plan
    asked = {"expressions": plan.expressions, "intensities": plan.intensities, "seeds": plan.seeds}
    return {"run": {**run.meaning(), **asked}, **run.arms()}


def measure(run: Ablation, processes: int) -> None:
    """Learn, draw and measure what is missing."""
    people = [one for one in run.evaluation.people if one.name not in run.kept]
    if any(one.settings.draws_class for one in run.trainings()):
        for line in each(partial(draw_class, run.work, run.model), sorted({one.class_word for one in people}), processes):
            _say(line)
    for line in each(run, [int(one.name) for one in people], processes):
        _say(line)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def write_summary(run: Ablation, command: str, figures: Path | None = None) -> str:
    """table.md of the whole people, with those kept (where there are none, of all that is there); sheet.png and the page of those whose
    pictures are there. What was measured of whole people goes to the folder `figures`. The table."""
    output, names, kept = run.evaluation.output, [TRUTH, *(step.name for step in run.steps)], run.kept
    asked, whole = run.evaluation.people, run.whole_people()
    here = replace(run, evaluation=replace(run.evaluation, people=whole or (() if kept else asked)))
    records = with_class(with_unseen(output, with_leaks(here.evaluation)), here.of_class.records(), class_arms(run.steps))
    truth = truth_evaluation(here.evaluation)
    records = [*in_folder(with_unseen(truth.output, with_leaks(truth))), *records]
    measured = summarise(records, names, MEASURES)
    if figures is not None and whole:
        write_figures(figures, figures_meaning(run), measured, [one.name for one in whole])
    chosen = {one.name: kept[one.name] for one in asked if one.name in kept}
    told = table(with_figures(measured, chosen, names, MEASURES), command)
    told += f"\n{len({*chosen, *(one.name for one in whole)})} of {len(asked)} people are whole.\n"
    replace_file(output / "table.md", told.encode())
    if records:
        write_picture(output / "sheet.png", np.asarray(sheet(output, records, names)))
        write_report(here.evaluation, {"Command": command, **{f"Arm {step.name}": ARMS.get(step.name, step.name) for step in run.steps}})
    return told


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, train=False)
    parser.add_argument("--output_dir", type=Path, required=True, help="records, pictures, tables, sheet and page")
    told = f"of the ablation ({', '.join(ARMS)}), or one as fusion:strength=0.8 (default: all of the ablation)"
    parser.add_argument("--figures_dir", type=Path, help="what was measured of whole people, kept; people in it are not measured again")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), help=told)
    parser.add_argument("--common", default="", help="settings of all trainings, as learning_rate=6e-4,batch_size=3")
    parser.add_argument("--album", choices=ALBUMS, default="smiling", help="which photos of the people, see benchmarks.albums (smiling)")
    parser.add_argument("--seeds", nargs="+", default=["0-1"], help="of the noise, the same for every person and arm")
    parser.add_argument("--expressions", nargs="+", default=list(CLASSES), choices=CLASSES)
    parser.add_argument("--intensities", nargs="+", type=float, default=list(INTENSITIES))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=4.0)
    parser.add_argument("--summary_only", action="store_true", help="draw nothing; tables, sheet and page of what is there")
    arguments = parser.parse_args(argv)
    try:
        run = ablation_of(arguments, arguments.processes)
        keep_meaning(run.evaluation.output / "run.json", run.meaning(), whole=True)
        keep_meaning(run.evaluation.output / "arms.json", run.arms())
        if not arguments.summary_only:
            measure(run, arguments.processes)
        words = sys.argv[1:] if argv is None else argv
        print(write_summary(run, f"python -m lab.benchmarks.ablation {shlex.join(words)}", arguments.figures_dir))
    except FaceExprError as reason:
        sys.exit(f"ablation: {reason}")


if __name__ == "__main__":
    main()
