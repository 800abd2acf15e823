"""`faceexpr evaluate`: a checkpoint, people's photos, and one page that says how well the method does on them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError
from ..expressions import names
from ..measure.expression import CLASSES
from .flags import check_seeds, refuse_unused
from .sharing import add_drawing_arguments, check_drawing, left_to_others

if TYPE_CHECKING:
    from ..evaluation.arms import Arm
    from ..evaluation.people import Person
    from ..evaluation.plan import Plan
    from ..evaluation.run import Evaluation

OUTPUT = Path("evaluation")
PROMPT = "a photo of {person}"
INTENSITIES = (0.4, 0.7, 1.0)
SEEDS = (0, 1)
TRIGGER, CLASS_WORD = "ohwx", "person"


def add_evaluate_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate` to the `faceexpr` command."""
    from ..evaluation import arms

    parser = subparsers.add_parser(
        "evaluate",
        help="train, draw and measure people: one page with numbers, plots and pictures",
        description="Learn people from their photos, draw every expression at every intensity, in every scene and from every seed, in "
        "every arm from the same noise, measure the pictures, and write one page (report.html) with tables beside it (CSV; Parquet where "
        "pyarrow is installed). What is there is not done again: the same command goes on with a stopped run, and arms, people, scenes, "
        "seeds and expressions may be added. Under `accelerate launch` all processes share the work.",
        epilog=arms.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, help="'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors)")
    add("--photos", type=Path, required=True, metavar="DIR", help="one person's photos, or a folder of people's folders")
    add("--output_dir", type=Path, default=OUTPUT, metavar="DIR", help=f"where all of it is kept ({OUTPUT})")
    add("--arms", nargs="+", default=list(arms.DEFAULT_ARMS), metavar="ARM", help=f"see below ({' '.join(arms.DEFAULT_ARMS)})")
    add("--expressions", nargs="+", default=list(CLASSES), metavar="E", help=f"of: {', '.join(names()[1:])} ({' '.join(CLASSES)})")
    add("--intensities", nargs="+", type=float, default=list(INTENSITIES), help=f"above 0, up to 1.5 ({' '.join(map(str, INTENSITIES))})")
    add(
        "--scenes",
        nargs="+",
        default=[PROMPT],
        metavar="PROMPT",
        help=f"prompts with {{person}}, and {{expression}} if you like ('{PROMPT}')",
    )
    add("--seeds", nargs="+", type=int, default=list(SEEDS), help=f"of the noise, the same in all arms ({' '.join(map(str, SEEDS))})")

    group = parser.add_argument_group("people and their LoRAs")
    add = group.add_argument
    add("--trigger", help=f"the word that means the person (with --lora what the file says, else {TRIGGER})")
    add("--class_word", help=f"what the people are: man, woman ... (with --lora what the file says, else {CLASS_WORD})")
    add("--class_words", nargs="+", default=[], metavar="NAME=WORD", help="another class word for some people, by their folder's name")
    add(
        "--train",
        default="",
        metavar="'FLAGS'",
        help="flags of `faceexpr train` for every LoRA, in quotes, as '--preset paper --rank 8'; with --lora only those that read photos",
    )
    add(
        "--lora",
        type=Path,
        help="train nothing: this LoRA (a file, or a PEFT adapter's folder), or a folder with one named after each person",
    )

    add_drawing_arguments(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Do this process's share, and write the page when all is there; prints its path. Returns 0. Raises FaceExprError."""
    from ..evaluation.report import write_report
    from .evaluate_work import Worker
    from .sharing import Share

    check_drawing(arguments)
    evaluation = evaluation_of(arguments)
    share = Share.here()
    worker = Worker(arguments, evaluation, share)
    worker.keep_meaning()
    try:
        worker.work()
    except KeyboardInterrupt:
        print("faceexpr: stopped; the same command goes on from here", file=sys.stderr)
        raise
    if missing := evaluation.count_missing(evaluation.places()):
        left_to_others(missing, "page")
        return 0
    learned, warnings = worker.learned()
    page, note = write_report(evaluation, {**about_of(arguments, evaluation.plan, evaluation.people), **learned})
    for line in filter(None, (*warnings, note)):
        print(f"faceexpr: {line}", file=sys.stderr)
    print(page)
    return 0


def evaluation_of(arguments: argparse.Namespace) -> Evaluation:
    """What the arguments ask for. Raises FaceExprError."""
    from ..evaluation.arms import parse_arms
    from ..evaluation.people import find_people, parse_class_words, passed_over
    from ..evaluation.plan import Plan
    from ..evaluation.run import Evaluation

    def each(values: list) -> tuple:  # type: ignore[type-arg]
        return tuple(dict.fromkeys(values))

    check_seeds(arguments.seeds, "seeds")
    plan = Plan(
        tuple(parse_arms(arguments.arms)),
        each(arguments.expressions),
        tuple(sorted({*arguments.intensities})),
        each(arguments.scenes),
        each(arguments.seeds),
    )
    _refuse_idle(arguments, plan.arms)
    class_words = parse_class_words(arguments.class_words)
    trigger, class_word = (TRIGGER if arguments.trigger is None else arguments.trigger), arguments.class_word or CLASS_WORD
    people = find_people(arguments.photos, trigger, class_word, class_words)
    if others := passed_over(arguments.photos, people):
        print(f"faceexpr: passed over: {', '.join(others)}", file=sys.stderr)
    if any(draws_given(arguments, arm) for arm in plan.arms):
        known = [one.name for one in people]
        people = [_with_learned_words(one, given_lora(arguments.lora, one.name, known), arguments, class_words) for one in people]
    return Evaluation(arguments.output_dir, plan, tuple(people))


def _refuse_idle(arguments: argparse.Namespace, arms: Sequence[Arm]) -> None:
    """Raise FaceExprError for a LoRA or flags of a training that no arm would use."""
    from .evaluate_work import training_words

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
    class_word = one.class_word if arguments.class_word or one.name in class_words else said[1]
    found = replace(one, trigger=trigger, class_word=class_word)
    if (trigger, class_word) != said:
        learned = " ".join(said).strip()
        print(f"faceexpr: {one.name} is drawn as '{found.words}', as given; {file.name} says it learned '{learned}'", file=sys.stderr)
    return found


def about_of(arguments: argparse.Namespace, plan: Plan, people: tuple[Person, ...]) -> dict[str, str]:
    """How it was made, for readers of the page; no folders, so that it can be given away."""
    from .. import __version__

    size = f"{arguments.width or 'own'} x {arguments.height or 'own'}" if arguments.width or arguments.height else "the model's own size"
    return {
        "Model": Path(arguments.model).name,
        "LoRAs": "as given" if arguments.lora else f"faceexpr train {arguments.train}".strip(),
        "Arms": "; ".join(f"{arm.name}" for arm in plan.arms),
        "Scenes": "; ".join(plan.scenes),
        "Seeds": ", ".join(map(str, plan.seeds)),
        "Intensities": ", ".join(f"{one:g}" for one in plan.intensities),
        "Drawing": f"Euler, normal schedule, {arguments.steps} steps, guidance {arguments.cfg:g}, {size}"
        + (f", avoiding “{arguments.negative}”" if arguments.negative else ""),
        "People": ", ".join(f"{one.name} ({one.words})" for one in people),
        "FaceExpr": __version__,
    }


def drawing_of(arguments: argparse.Namespace, native: int) -> dict[str, object]:
    """The fields of `plan.Drawing`; `native` pixels where no size is given."""
    return {
        "steps": arguments.steps,
        "cfg": arguments.cfg,
        "width": arguments.width or native,
        "height": arguments.height or native,
        "negative": arguments.negative,
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
