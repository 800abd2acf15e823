"""Arms of a comparison of training runs, written as words.

    paper                               a preset
    default:prior=off                   a preset without a part
    default:prior=off,crafting_weight=0
    default:background_weight=1         what the loss weighs outside the face

Every setting of a training run may follow the colon, as in the node's `more`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from faceexpr_core.errors import FaceExprError
from faceexpr_core.training.settings import TrainSettings, parse_settings, preset, preset_settings

from .subjects import chosen_settings

BASE = "base"
"""The model without any LoRA, which knows the class alone."""

_BACKGROUND = re.compile(r"(?:^|,)\s*background_weight\s*=\s*([\d.]+)\s*(?=,|$)")


@dataclass(frozen=True)
class PresetArm:
    """`name` is how it was written."""

    name: str
    settings: TrainSettings
    background_weight: float

    def meaning(self) -> dict[str, Any]:
        """What differs from the trainer's defaults, and the background weight."""
        return {**chosen_settings(self.settings), "background_weight": self.background_weight}


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
    shared, shared_background = _given(common)
    own, own_background = _given(rest)
    background = next((value for value in (own_background, shared_background) if value is not None), preset(name).background_weight)
    return PresetArm(word, preset_settings(name, **{**shared, **own}), background)


def _given(text: str) -> tuple[dict[str, Any], float | None]:
    """Settings of a run, and the background weight, which belongs to the photos."""
    found = _BACKGROUND.search(text)
    return parse_settings(_BACKGROUND.sub("", text)), float(found[1]) if found else None
