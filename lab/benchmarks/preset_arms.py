"""Arms of a comparison of training runs, written as words.

    paper                               a preset
    default:prior=off                   a preset without a part
    default:prior=off,crafting_weight=0
    default:background_weight=1         what the loss weighs outside the face
    default:class_captions=off          the prior's pictures of the class are learned without their expressions in the words
    default:class_cfg=5                 they are drawn with this guidance

Every setting of a training run may follow the colon, as in the node's `more`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceexpr_core.errors import FaceExprError
from faceexpr_core.training.prior import CLASS_CFG
from faceexpr_core.training.settings import TrainSettings, parse_settings, preset, preset_settings

from .albums import MIXED
from .subjects import Person, chosen_settings, learn, lora_file

if TYPE_CHECKING:
    from faceexpr_core.training.result import Step

BASE = "base"
"""The model without any LoRA, which knows the class alone."""

_BESIDE = re.compile(r"(?:^|,)\s*(background_weight|class_captions|class_cfg)\s*=\s*([\w.]+)\s*(?=,|$)")
"""What belongs to the pictures, and not to TrainSettings."""


@dataclass(frozen=True)
class PresetArm:
    """`name` is how it was written."""

    name: str
    settings: TrainSettings
    background_weight: float
    class_captions: bool = True
    class_cfg: float = CLASS_CFG

    def meaning(self) -> dict[str, Any]:
        """All that it learns with."""
        beside: dict[str, Any] = {} if self.class_captions else {"class_captions": False}
        chosen = chosen_settings(self.settings)
        if self.settings.draws_class:
            own = [f"{name} {chosen.pop(name)}" for name in ("prior_target", "prior_dropout") if name in chosen]  # parts of the prior
            beside["prior"] = ", ".join([self.settings.prior, f"cfg {self.class_cfg:g}", *own])
        return {**chosen, "background_weight": self.background_weight, **beside}

    def file(self, work: Path, seed: int, base: str, album: str = MIXED) -> Path:
        """Where a person's LoRA lies."""
        return lora_file(work, seed, self.settings, base, self.background_weight, album, self.class_captions, self.class_cfg)

    def learn(self, work: Path, pipe: Any, one: Person, base: str, on_step: Callable[[Step], None] | None = None) -> Path:
        """A person's LoRA, learned if it is not there; see `subjects.learn`."""
        return learn(work, pipe, one, self.settings, base, self.background_weight, self.class_captions, self.class_cfg, on_step)


def parse_preset_arms(words: Iterable[str], common: str = "") -> list[PresetArm]:
    """Arms of words, each once, all with the settings of `common` where they say nothing else.

    Raises FaceExprError for a word that cannot be read, and for two that mean the same.
    """
    arms: dict[str, PresetArm] = {}
    for word in dict.fromkeys(words):
        arm = _arm(word, common)
        if twin := next((other.name for other in arms.values() if other.meaning() == arm.meaning()), None):
            raise FaceExprError(f"the arms '{twin}' and '{word}' are the same run; leave one out.")
        arms[word] = arm
    return list(arms.values())


def _arm(word: str, common: str) -> PresetArm:
    name, _, rest = word.partition(":")
    (shared, beside_all), (own, beside_own) = _given(common), _given(rest)
    beside = {**beside_all, **beside_own}
    captions = beside.get("class_captions", "on")
    if captions not in ("on", "off"):
        raise FaceExprError(f"class_captions is {captions}; give on or off.")
    background = _number("background_weight", beside, preset(name).background_weight)
    class_cfg = _number("class_cfg", beside, CLASS_CFG)
    return PresetArm(word, preset_settings(name, **{**shared, **own}), background, captions == "on", class_cfg)


def _number(name: str, given: Mapping[str, str], otherwise: float) -> float:
    try:
        return float(given.get(name, otherwise))
    except ValueError:
        raise FaceExprError(f"{name} is {given[name]}; give a number.") from None


def _given(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings of a run, and what belongs to the pictures."""
    return parse_settings(_BESIDE.sub("", text)), dict(_BESIDE.findall(text))
