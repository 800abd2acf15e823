"""PEFT's adapter_config.json: rank and alpha of each module as PEFT writes them down, read and written."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import FaceExprError
from ..files import one_line

if TYPE_CHECKING:
    from .formats import Layer

_PATTERN = re.compile(r"\^?(?:[\w/-]|\\[.-]|\.\*?)+\$?")
"""Names of modules, their dots escaped or not, with `.*` for anything."""


def adapter_config(layers: Mapping[str, Layer], part: str) -> dict[str, Any]:
    """PEFT's LoraConfig for the layers of one part; {} where there are none."""
    own = {
        name.removeprefix(f"{part}.").removeprefix("text_model."): layer for name, layer in layers.items() if name.startswith(f"{part}.")
    }
    if not own:
        return {}
    rank = Counter(layer.rank for layer in own.values()).most_common(1)[0][0]
    alpha = Counter(layer.alpha for layer in own.values()).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": _plain(alpha),
        "rank_pattern": {re.escape(name): layer.rank for name, layer in own.items() if layer.rank != rank},
        "alpha_pattern": {re.escape(name): _plain(layer.alpha) for name, layer in own.items() if layer.alpha != alpha},
        "target_modules": sorted(own),
        "lora_dropout": 0.0,
        "bias": "none",
    }


def alpha_in(config: Mapping[str, Any], module: str, rank: int, prefixed: bool) -> float | None:
    """alpha of one module by a LoraConfig (its keys after the part's name if `prefixed`), or None where it says nothing."""
    part, _, name = module.partition(".")
    own = {key.removeprefix(f"{part}."): value for key, value in config.items() if key.startswith(f"{part}.")} if prefixed else config
    if not own:
        return None
    alpha = _by_pattern(own, "alpha_pattern", name, own.get("lora_alpha", 8))  # PEFT's default
    return alpha * (math.sqrt(rank) if own.get("use_rslora") else 1.0)


def scaled_product(config: Mapping[str, Any], module: str, extra: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A LoHa or LoKr as LyCORIS writes it: with alpha beside it, where PEFT has it in its config (its scale is alpha / rank).

    A LoKr of two whole factors has no rank by LyCORIS; its second factor is scaled here.
    """
    if not any(ending.startswith(("hada_w", "lokr_w")) for ending in extra) or "alpha" in extra or not config:
        return dict(extra)
    name = module.partition(".")[2]
    alpha = _by_pattern(config, "alpha_pattern", name, config.get("alpha", 8))
    if {"lokr_w1", "lokr_w2"} <= extra.keys():
        rank = _by_pattern(config, "rank_pattern", name, config.get("r", 8))
        return {**extra, "lokr_w2": (extra["lokr_w2"].float() * (alpha / rank)).to(extra["lokr_w2"].dtype)}
    return {**extra, "alpha": torch.tensor(alpha)}


def _by_pattern(config: Mapping[str, Any], key: str, name: str, otherwise: Any) -> float:
    """The value of the first pattern of `config[key]` that a module's name ends with. Raises FaceExprError for what is no number, and for
    patterns that are more than names with `.*` in them: a file's own regular expression could keep ComfyUI busy for ever."""
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise FaceExprError(f"{key} of the LoRA's settings is a {type(patterns).__name__}, not names with numbers; take the file anew.")
    value = next((value for pattern, value in patterns.items() if _ends_as(name, pattern, key)), otherwise)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FaceExprError(f"The LoRA's settings give {name} {value!r} where a number belongs ({key}); take the file anew.")
    return float(value)


def _ends_as(name: str, pattern: str, key: str) -> bool:
    """Whether PEFT's pattern fits the name's end, from the beginning of one of its parts on."""
    if not _PATTERN.fullmatch(pattern):
        raise FaceExprError(
            f"{key} of the LoRA's settings names modules by {one_line(pattern)[:80]!r}, a regular expression. Names are read here, with .* "
            "between their parts; write the modules out, or convert the LoRA where it was trained."
        )
    first, *rest = pattern.removeprefix("^").removesuffix("$").replace("\\", "").split(".*")
    if not rest:
        return f".{name}".endswith(f".{first}") if not pattern.startswith("^") else name == first
    at = 0 if pattern.startswith("^") else f".{name}".find(f".{first}")
    if at < 0 or not name.startswith(first, at):
        return False
    at += len(first)
    *middle, last = rest
    for part in middle:
        if (at := name.find(part, at)) < 0:
            return False
        at += len(part)
    return name.endswith(last) and len(name) - len(last) >= at


def read_json(text: str | bytes, where: str) -> dict[str, Any]:
    """PEFT's settings out of a LoRA's file; `where` in it names them to users. Raises FaceExprError for what is no JSON object."""
    try:
        read = json.loads(text)
    except ValueError as reason:
        raise FaceExprError(f"{where} of the LoRA is not whole JSON ({reason}), so alpha cannot be told; take the file anew.") from reason
    if not isinstance(read, dict):
        raise FaceExprError(f"{where} of the LoRA holds a {type(read).__name__}, not PEFT's settings; take the file anew.")
    return read


def _plain(value: float) -> float | int:
    return int(value) if value.is_integer() else value
