"""What a run is made of, beside what it was made of when it was stopped: the differences, in the user's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .options import OPTIONS
from .settings import ADDED_LATER, TrainSettings

_DIGESTS = {
    "photos": "the photos, their captions (trigger word, class word), their framing or background_weight are others",
    "class_images": "the pictures of the class (prior_images) are others",
    "prompts": "trigger word, class word or the vocabulary are others",
    "model": "the checkpoint, or the LoRAs on it, are others",
    "start": "the LoRA that it starts from (start_from) is another",
    "text_encoders": "the text encoders, or the LoRAs on them, are others",
    "vae": "the VAE is another",
    "crafting_gradient": "expression crafting learns otherwise since version 0.2.0",
}
NAMES: Mapping[str, str] = {
    **{one.field: one.name if one.widget is not None else f"{one.name} (in the node: more)" for one in OPTIONS},
    "prediction": "what the model predicts (model_predicts, --prediction_type)",
    "zero_snr": "the model's zero SNR",
    "side": "the photos' size (resolution)",
}
"""What the node, and mostly the command line, know a setting by."""
_PARTS = {
    "class_images": ("prior",),
    "prompts": ("prior", "crafting_weight"),
    "crafting_gradient": ("crafting_weight",),
    "text_encoders": ("text_encoder",),
    "text_encoder_learning_rate": ("text_encoder",),
    "text_encoder_weight_decay": ("text_encoder",),
}
"""What comes, goes or is counted otherwise with a setting, which alone is told then."""
_LATER = ("side", "text_encoders", "vae")
"""What states of older versions may lack."""

SIGNS = "signs-"
SIGNED = ("model", "text_encoders")
"""Digests that begin with SIGNS (see `fingerprint`)."""


def differences(before: Mapping[str, Any], now: Mapping[str, Any], names: Mapping[str, str] = NAMES) -> list[str]:
    """What of a run's make-up changed, in words: `learning_rate was 0.0001, is 0.0002`, by `names` of settings as the user knows them.

    Pictures of the class that `now` does not know yet are no difference, nor is the number of processes: what counts is how many batches
    they add up, which `accumulation` says of all of them.
    """
    words = []
    before, now = {**ADDED_LATER, **before}, {**ADDED_LATER, **now}
    for name in sorted({*before, *now} - {"processes"}):
        of_older_version = name in _LATER and name not in before
        of_older_version |= name in SIGNED and name in before and not str(before[name]).startswith(SIGNS)  # in a digest that is no more
        of_another = any(before.get(whole) != now.get(whole) for whole in _PARTS.get(name, ()))
        not_known_yet = name == "class_images" and name not in now
        if before.get(name) != now.get(name) and not (of_older_version or of_another or not_known_yet):
            values = _accumulations(before, now) if name == "accumulation" else f"was {_said(before, name)}, is {_said(now, name)}"
            words.append(_DIGESTS.get(name, f"{names.get(name, name)} {values}"))
    return words


def _accumulations(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Those of each process; and the one with which as many processes as now add up as many batches as before."""
    total, was, processes = before.get("accumulation", TrainSettings.accumulation), before.get("processes"), now.get("processes", 1)
    if processes == 1 and was in (None, 1):
        return f"was {total}, is {_said(now, 'accumulation')}"
    counted = f"{total} over all processes" if was is None else _in_each(total, was)
    each, rest = divmod(total, processes)
    is_now = f"{_in_each(now['accumulation'], processes)}{' in one process' if processes == 1 else ''}"
    return f"was {counted}, is {is_now}, where {'no whole number' if rest else each} is the same as before"


def _in_each(total: int, processes: int) -> str:
    return f"{total}" if processes == 1 else f"{total // processes} in each of {processes} processes"


def _said(run: Mapping[str, Any], name: str) -> Any:
    value = run.get(name, getattr(TrainSettings, name, None))
    return ("off", "on")[value] if isinstance(value, bool) else value
