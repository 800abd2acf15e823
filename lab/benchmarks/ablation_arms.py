"""The arms of the ablation: the authors' recipe, the parts of the method added one after the other, and each left out of the whole.

An arm is written as those of `faceexpr evaluate`; what is no key of a drawing is a setting of the training, on top of the preset that
`preset` names (`default` without one). Arms of one training share one LoRA.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.arms import Arm, parse_arms

from .preset_arms import PresetArm, parse_preset_arms

BASE, RECIPE, WHOLE = "base", "recipe", "whole"

ARMS: Mapping[str, str] = {
    BASE: "lora:lora_strength=0,preset=paper,learning_rate=2e-4",
    RECIPE: "lora:embeddings=off,preset=paper,learning_rate=2e-4",
    "network": "lora:embeddings=off,prior=off,captions=off,crafting_weight=0",
    "prior": "lora:embeddings=off,captions=off,crafting_weight=0",
    "captions": "lora:embeddings=off,crafting_weight=0",
    "embeddings": "lora:crafting_weight=0",
    "crafting": "lora",
    "paper fusion": "fusion:mode=paper,text=expression",
    WHOLE: "fusion",
    "without prior": "fusion:prior=off",
    "without captions": "fusion:captions=off",
    "without embeddings": "fusion:embeddings=off",
    "without crafting": "fusion:crafting_weight=0",
}
"""Name -> arm. `recipe` is the published command at the learning rate that was best for it on tuning people of Mini, twice its own: its
gaussian first weights make steps large already (`docs/measurements.md`). `base` is the model without the LoRA, told the person's words:
the ceiling of the expressions, and the donor whose looks must not come along. `network`: rank 32, convolutions, text encoders that learn,
face weights and EMA, as `default` has them. From `prior` on an arm has all that stands above it, but that `whole` fuses by our formula
instead of the paper's. Without fusion the whole is `crafting`."""


@dataclass(frozen=True)
class Part:
    """A part of the method: the arms with it and without it, where it was `added` last and where it alone is left out of the whole."""

    name: str
    added: tuple[str, str]
    left_out: tuple[str, str] | None = None

    def pairs(self) -> Iterable[tuple[str, tuple[str, str]]]:
        yield "added", self.added
        if self.left_out is not None:
            yield "left out", self.left_out


PARTS = (
    Part("our network", ("network", RECIPE)),
    Part("prior preservation", ("prior", "network"), (WHOLE, "without prior")),
    Part("captions", ("captions", "prior"), (WHOLE, "without captions")),
    Part("expression text embeddings", ("embeddings", "captions"), (WHOLE, "without embeddings")),
    Part("crafting loss", ("crafting", "embeddings"), (WHOLE, "without crafting")),
    Part("the paper's fusion", ("paper fusion", "crafting")),
    Part("our fusion", (WHOLE, "paper fusion"), (WHOLE, "crafting")),
    Part("the whole method", (WHOLE, RECIPE)),
)


@dataclass(frozen=True)
class Step:
    """An arm of the ablation: how its pictures are drawn, and how its LoRA is learned."""

    name: str
    arm: Arm
    training: PresetArm


def chosen_steps(names: Iterable[str], common: str) -> list[Step]:
    """The arms of these names, or written as those of ARMS are (`fusion:strength=0.8`), with the settings of `common` (of a training)
    where they say nothing else. Raises FaceExprError."""
    steps = []
    for name in dict.fromkeys(names):
        if name not in ARMS and ":" not in name:
            raise FaceExprError(f"'{name}' is no arm of the ablation; give some of: {', '.join(ARMS)}; or one as fusion:strength=0.8.")
        (arm,) = parse_arms([ARMS.get(name, name)])
        given = dict(arm.training or ())
        (training,) = parse_preset_arms([_word(given.pop("preset", "default"), given)], common)
        steps.append(Step(name, arm, training))
    return steps


def _word(preset: str, given: Mapping[str, str]) -> str:
    return ":".join(filter(None, (preset, ",".join(f"{name}={value}" for name, value in given.items()))))
