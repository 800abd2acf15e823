"""One process's share of an evaluation: people prepared, LoRAs trained, pictures drawn and measured. Processes meet in the files alone."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..diffusers_host.pipeline import require_text
from ..errors import FaceExprError
from ..evaluation import records
from ..evaluation.arms import Arm
from ..evaluation.people import Person
from ..evaluation.report import PAGE, TABLES
from ..evaluation.run import Evaluation, draw_place, keep_person, kept_person
from ..files import name_bytes
from ..lora.given import digest_of_lora
from ..measure.judges import Judges
from .drawing import checkpoint_digest, drawn_by, open_drawer
from .evaluate_plan import draws_given, given_lora, meaning_of
from .learned import tell_learned, training_meaning
from .sharing import Share, wait_for
from .telling import Pictures, say
from .train_flags import photo_parser, split_flags, train_parser, training_flags

if TYPE_CHECKING:
    from ..evaluation.draw import Drawer
    from .train_job import TrainJob

RUN, PEOPLE = "run.json", "people.json"
OWN = (RUN, "arms.json", "loras.json", PEOPLE, "records", "people", "pictures", PAGE, *TABLES)
"""What an evaluation writes into its folder, but for LoRAs, which never take the place of others."""
_OWN_DEFAULTS = ("--preview_every", "0")


class Worker:
    """Does what is missing of this process's share. Raises FaceExprError where the output folder holds other things."""

    def __init__(self, arguments: argparse.Namespace, evaluation: Evaluation, share: Share) -> None:
        records.refuse_others(evaluation.output, OWN, ("model", "drawing"))
        self.arguments, self.evaluation, self.share = arguments, evaluation, share
        self.device = share.device(arguments.device)
        self.model = checkpoint_digest(arguments.model)
        kept = records.kept_meaning(evaluation.output / PEOPLE)
        self.meanings = {one.name: {**one.meaning(kept.get(one.name)), **self._reading()} for one in evaluation.people}
        self.trainings = {
            arm.training: self._training(arm.training)
            for arm in evaluation.plan.arms
            if arm.training is not None and not draws_given(arguments, arm)
        }
        self.loras = {
            (one.name, arm.training): self._file(one, arm.training)
            for one in evaluation.people
            for arm in evaluation.plan.arms
            if arm.training is not None and not draws_given(arguments, arm)
        }
        if self.loras:
            require_text(evaluation.output)  # from where they are read again
        drawn = any(draws_given(arguments, arm) for arm in evaluation.plan.arms)
        self.given = {one.name: digest_of_lora(self._given(one.name)) for one in evaluation.people} if drawn else {}

    def keep_meaning(self) -> None:
        """Raise FaceExprError where the folder holds pictures that were drawn in another way than is asked now."""
        output = self.evaluation.output
        meaning = drawn_by(self.arguments)
        drawn, prepared = (any((output / name).glob(files)) for name, files in (("records", "*.jsonl"), ("people", "*/person.json")))
        records.keep_meaning(output / RUN, meaning, drawn, whole=True)
        records.keep_meaning(output / "arms.json", self._arms(), drawn)
        records.keep_meaning(output / "loras.json", self.given, drawn)
        records.keep_meaning(output / PEOPLE, self.meanings, drawn or prepared)

    def _arms(self) -> dict[str, object]:
        """What each arm's name stands for, and what its LoRA learned with: a preset may become another."""
        plan = self.evaluation.plan
        learned = {arm.name: {"learned": self.trainings[arm.training]} for arm in plan.arms if arm.training in self.trainings}
        return {name: {**told, **learned.get(name, {})} for name, told in meaning_of(self.arguments, plan).items()}  # type: ignore[dict-item]

    def learned(self) -> tuple[dict[str, str], list[str]]:
        """How the people's LoRAs were learned, as `tell_learned` says it; nothing where none was."""
        return tell_learned({(name, _words(training)): file for (name, training), file in self.loras.items()})

    def work(self) -> None:
        """All of the share. Raises FaceExprError, and whatever stopped a training."""
        places = [place for place in self.evaluation.places(self.share.rank, self.share.processes) if self.evaluation.missing(place)]
        people = {one.name: one for one in self.evaluation.people}
        if lacking := [one for one in self.share.of(self.evaluation.people) if kept_person(self.evaluation.output, one.name) is None]:
            with Judges() as judges:
                for one in lacking:
                    self._prepare(one, judges)
        self._train()
        if not places:
            return
        for place in places:
            wait_for(lambda name=place.person: kept_person(self.evaluation.output, name) is not None, f"the photos of {place.person}")  # type: ignore[misc]
            for arm in self.evaluation.plan.arms:
                lora = self._lora(place.person, arm)
                if lora is not None:
                    wait_for(lora.exists, f"the LoRA {lora.name}")
        with closing(Pictures(self.evaluation.count_missing(places), self.share.rank == 0)) as shown, Judges() as judges:
            for place in places:
                looks = kept_person(self.evaluation.output, place.person)
                assert looks is not None
                draw_place(self.evaluation, place, people[place.person], looks, self._drawer.draw, self._lora, judges, shown.step)

    def _prepare(self, one: Person, judges: Judges) -> None:
        from ..photos.dataset import read_dataset
        from ..photos.subject import prepare_subject
        from .train import photo_settings

        first = next((training for name, training in self.loras if name == one.name), ())
        settings = photo_settings(train_parser().parse_args(self._train_words(one, first, "")))
        try:
            subject = prepare_subject(read_dataset(one.folder), settings, detector=judges.detector)
        except FaceExprError as reason:
            raise FaceExprError(f"{one.name} ({one.folder}): {reason}") from reason
        say(f"{one.name}: {subject.shortened()}")
        keep_person(self.evaluation.output, one, subject, judges)

    def _train(self) -> None:
        from .train_job import run_job

        people = {one.name: one for one in self.evaluation.people}
        for (name, training), file in self.share.of(list(self.loras.items())):
            if not file.is_file():
                say(f"learning {name}{f' with {_words(training)}' if training else ''}: {file.name}")
                run_job(self._job(people[name], training), alone=True)

    def _file(self, one: Person, training: tuple[tuple[str, str], ...]) -> Path:
        """Where a person's LoRA lies: a file for each model, photos and training."""
        words = [*split_flags(self.arguments.train), *training_flags(training)]
        words += [self.arguments.prediction_type] if self.arguments.prediction_type else []
        made = "\0".join([self.model, *words, json.dumps(self.trainings[training], sort_keys=True), str(self.meanings[one.name])])
        key = hashlib.sha256(name_bytes(made)).hexdigest()[:10]
        return self.evaluation.output / "loras" / f"{records.short_name(one.name)}-{key}.safetensors"

    def _training(self, training: tuple[tuple[str, str], ...]) -> dict[str, object]:
        """What a LoRA learns with. Raises FaceExprError for flags that cannot be read."""
        words = [*split_flags(self.arguments.train), *training_flags(training)]
        parsed = train_parser().parse_args([*words, "--model", "", "--photos", "", "--output", ""])
        if self.share.processes > 1 and parsed.report_to != "none":
            raise FaceExprError(
                f"--report_to {parsed.report_to} in --train: several processes learn a person each, which its trackers cannot tell apart. "
                "Leave it out, or start one process alone."
            )
        return training_meaning(parsed)

    def _reading(self) -> dict[str, object]:
        """How photos are read, where `--train` says it: likenesses are to those that are kept."""
        parser = photo_parser()
        given, plain = (vars(parser.parse_known_args(words)[0]) for words in (split_flags(self.arguments.train), []))
        changed = {name: value for name, value in given.items() if value != plain[name]}
        return {"read": changed} if changed else {}

    def _job(self, one: Person, training: tuple[tuple[str, str], ...]) -> TrainJob:
        """The training of a person's LoRA; its photos are read."""
        from .train import job_of

        return job_of(train_parser().parse_args(self._train_words(one, training, str(self._file(one, training)))))

    def _train_words(self, one: Person, training: tuple[tuple[str, str], ...], output: str) -> list[str]:
        """The words of `faceexpr train` for a person's LoRA."""
        words = [*_OWN_DEFAULTS, *split_flags(self.arguments.train), *training_flags(training)]
        words += ["--model", self.arguments.model, "--photos", str(one.folder), "--output", output]
        words += ["--trigger", one.trigger, "--class_word", one.class_word, "--device", self.device]
        return words + (["--prediction_type", self.arguments.prediction_type] if self.arguments.prediction_type else [])

    def _lora(self, name: str, arm: Arm) -> Path | None:
        if arm.training is None:
            return None
        return self.loras[name, arm.training] if (name, arm.training) in self.loras else self._given(name)

    def _given(self, name: str) -> Path:
        """What `--lora` has for a person. Raises FaceExprError."""
        return given_lora(self.arguments.lora, name, [one.name for one in self.evaluation.people])

    @cached_property
    def _drawer(self) -> Drawer:
        return open_drawer(self.arguments, self.device)


def _words(training: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name}={value}" for name, value in training)
