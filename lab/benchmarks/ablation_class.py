"""What each LoRA of the ablation leaves of the class: anybody of it, asked for without the trigger word, drawn and measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from faceexpr_core.evaluation.arms import Arm
from faceexpr_core.evaluation.plan import Plan
from faceexpr_core.evaluation.run import Evaluation
from faceexpr_core.evaluation.summary import Records

from .ablation_arms import BASE, Step

CLASS_SCENE = "a photo of a {person}"
"""Of people without a trigger word: `a photo of a woman`."""


def class_arms(steps: Sequence[Step]) -> dict[str, str]:
    """Each step by name: the first that has the same LoRA, which draws the class for all of these. The model alone stands for itself."""
    first: dict[str, str] = {}
    keys = {step.name: BASE if step.name == BASE else json.dumps(step.training.meaning(), sort_keys=True) for step in steps}
    return {name: first.setdefault(key, name) for name, key in keys.items()}


def class_evaluation(evaluation: Evaluation, steps: Sequence[Step]) -> Evaluation:
    """The class of each person from the same noise, by text, at the largest of the intensities; in a folder of its own."""
    plan, drawn = evaluation.plan, set(class_arms(steps).values())
    arms = tuple(Arm(step.name, step.arm.training, lora_strength=step.arm.lora_strength) for step in steps if step.name in drawn)
    people = tuple(replace(one, trigger="") for one in evaluation.people)
    return Evaluation(
        evaluation.output / "class", Plan(arms, plan.expressions, (max(plan.intensities),), (CLASS_SCENE,), plan.seeds), people
    )


def with_class(records: Records, of_class: Records, arms: Mapping[str, str]) -> list[dict[str, Any]]:
    """`records` with what is known of the class of each one's LoRA, person, noise and expression: `class_right`, and `drift`, how much
    nearer to the person than without the LoRA. `arms` as `class_arms` gives them."""
    known = {_place(one, one["arm"]): one for one in of_class}

    def found(record: Mapping[str, Any]) -> dict[str, Any]:
        one, base = (known.get(_place(record, arm)) for arm in (arms[record["arm"]], BASE))
        near, plain = (None if each is None else each["likeness"] for each in (one, base))
        drift = None if near is None or plain is None else near - plain
        return {"class_right": None if one is None else one["right"], "drift": drift}

    return [{**record, **found(record)} for record in records]


def _place(record: Mapping[str, Any], arm: str) -> tuple[Any, ...]:
    return record["person"], record["seed"], arm, record["expression"]
