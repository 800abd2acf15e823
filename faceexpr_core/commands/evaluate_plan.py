"""What `faceexpr evaluate` is asked for: its plan and its people, whose LoRAs are whose, and what of it must stay as it is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError
from .flags import check_seeds, refuse_unused, unique
from .telling import say
from .train_flags import training_words

if TYPE_CHECKING:
    from ..evaluation.arms import Arm
    from ..evaluation.people import Person
    from ..evaluation.plan import Plan
    from ..evaluation.run import Evaluation

TRIGGER, CLASS_WORD = "ohwx", "person"


def evaluation_of(arguments: argparse.Namespace) -> Evaluation:
    """What the arguments ask for. Raises FaceExprError."""
    from ..evaluation.arms import parse_arms
    from ..evaluation.people import find_people, parse_class_words, passed_over
    from ..evaluation.plan import Plan
    from ..evaluation.run import Evaluation

    check_seeds(arguments.seeds, "seeds")
    plan = Plan(
        tuple(parse_arms(arguments.arms)),
        unique(arguments.expressions),
        tuple(sorted({*arguments.intensities})),
        unique(arguments.scenes),
        unique(arguments.seeds),
    )
    _refuse_idle(arguments, plan.arms)
    class_words = parse_class_words(arguments.class_words)
    trigger = TRIGGER if arguments.trigger is None else arguments.trigger
    class_word = CLASS_WORD if arguments.class_word is None else arguments.class_word
    people = find_people(arguments.photos, trigger, class_word, class_words)
    if others := passed_over(arguments.photos, people):
        say(f"passed over: {', '.join(others)}")
    if any(draws_given(arguments, arm) for arm in plan.arms):
        known = [one.name for one in people]
        people = [_with_learned_words(one, given_lora(arguments.lora, one.name, known), arguments, class_words) for one in people]
    return Evaluation(arguments.output_dir, plan, tuple(people))


def _refuse_idle(arguments: argparse.Namespace, arms: Sequence[Arm]) -> None:
    """Raise FaceExprError for a LoRA or flags of a training that no arm would use."""
    if not any(draws_given(arguments, arm) for arm in arms):
        why = "every LoRA is one of an arm's own training" if any(arm.training for arm in arms) else "no arm draws with a LoRA"
        refuse_unused(arguments, {"lora": None}, f"{why}. Add an arm without one, such as 'lora', or leave it out.")
    trains = any(arm.training is not None and not draws_given(arguments, arm) for arm in arms)
    if not trains and (unused := training_words(arguments.train)):
        why = "with --lora nothing is trained" if arguments.lora else "no arm draws with a LoRA"
        raise FaceExprError(f"'{' '.join(unused)}' in --train would change nothing: {why}. Leave one of them out.")


def given_lora(given: Path, name: str, people: Sequence[str]) -> Path:
    """What `--lora` has for one of the people: a file, or the folder of a PEFT adapter. Raises FaceExprError."""
    from ..lora.given import is_adapter

    alone = not given.is_dir() or is_adapter(given)
    choices = (given,) if alone else (given / f"{name}.safetensors", given / name)
    found = next((one for one in choices if one.is_file() or is_adapter(one)), None)
    if found is None or (alone and len(people) > 1):
        raise FaceExprError(
            f"--lora {given}: there is no LoRA of its own for {name}. Give one person's LoRA, or a folder with <name>.safetensors, or a "
            f"PEFT adapter's folder <name>, for each of: {', '.join(people)}."
        )
    return found


def _with_learned_words(one: Person, file: Path, arguments: argparse.Namespace, class_words: Mapping[str, str]) -> Person:
    """The person with the words that the LoRA says it learned, where none were given. Tells of words that were given and are others."""
    from ..lora.words import said_words

    said = said_words(file)
    if said is None and arguments.trigger is None:
        raise FaceExprError(f"the LoRA {file} does not say which words it learned; give them: --trigger WORD --class_word WORD.")
    if said is None:
        return one
    trigger = one.trigger if arguments.trigger is not None else said[0]
    class_word = one.class_word if arguments.class_word is not None or one.name in class_words else said[1]
    found = replace(one, trigger=trigger, class_word=class_word)
    if (trigger, class_word) != said:
        learned = " ".join(said).strip()
        say(f"{one.name} is drawn as '{found.words}', as given; {file.name} says it learned '{learned}'")
    return found


def about_of(arguments: argparse.Namespace, plan: Plan, people: tuple[Person, ...]) -> dict[str, str]:
    """How it was made, for readers of the page; no folders, so that it can be given away."""
    from .. import __version__
    from ..evaluation.arms import without_folders

    size = f"{arguments.width or 'own'} x {arguments.height or 'own'}" if arguments.width or arguments.height else "the model's own size"
    return {
        "Model": Path(arguments.model).name,
        "LoRAs": "as given" if arguments.lora else without_folders(f"faceexpr train {arguments.train}".strip()),
        "Arms": "; ".join(without_folders(arm.name) for arm in plan.arms),
        "Scenes": "; ".join(plan.scenes),
        "Seeds": ", ".join(map(str, plan.seeds)),
        "Intensities": ", ".join(f"{one:g}" for one in plan.intensities),
        "Drawing": f"Euler, normal schedule, {arguments.steps} steps, guidance {arguments.cfg:g}, {size}"
        + (f", avoiding “{arguments.negative}”" if arguments.negative else ""),
        "People": ", ".join(f"{one.name} ({one.words})" for one in people),
        "FaceExpr": __version__,
    }


def meaning_of(arguments: argparse.Namespace, plan: Plan) -> dict[str, object]:
    """What must stay as it is where a folder's pictures are gone on with: each arm's settings, and how its LoRA came to be."""

    def lora(arm: Arm) -> str | None:
        if arm.training is None:
            return None
        return "given" if draws_given(arguments, arm) else f"trained: {arguments.train}"

    return {arm.name: {**arm.meaning(), "lora": lora(arm)} for arm in plan.arms}


def draws_given(arguments: argparse.Namespace, arm: Arm) -> bool:
    """Whether an arm draws with what `--lora` gives, and not with a LoRA that is learned for it."""
    return arguments.lora is not None and arm.training == ()
