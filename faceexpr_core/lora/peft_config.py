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

if TYPE_CHECKING:
    from .formats import Layer


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
    alpha = _by_pattern(own.get("alpha_pattern"), name, own.get("lora_alpha", 8))  # PEFT's default
    return float(alpha) * (math.sqrt(rank) if own.get("use_rslora") else 1.0)


def scaled_product(config: Mapping[str, Any], module: str, extra: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A LoHa or LoKr as LyCORIS writes it: with alpha beside it, where PEFT has it in its config (its scale is alpha / rank).

    A LoKr of two whole factors has no rank by LyCORIS; its second factor is scaled here.
    """
    if not any(ending.startswith(("hada_w", "lokr_w")) for ending in extra) or "alpha" in extra or not config:
        return dict(extra)
    name = module.partition(".")[2]
    alpha = float(_by_pattern(config.get("alpha_pattern"), name, config.get("alpha", 8)))
    if {"lokr_w1", "lokr_w2"} <= extra.keys():
        rank = float(_by_pattern(config.get("rank_pattern"), name, config.get("r", 8)))
        return {**extra, "lokr_w2": (extra["lokr_w2"].float() * (alpha / rank)).to(extra["lokr_w2"].dtype)}
    return {**extra, "alpha": torch.tensor(alpha)}


def _by_pattern(patterns: Mapping[str, Any] | None, name: str, otherwise: Any) -> Any:
    """The value of the first pattern that a module's name ends with."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", name):
            return value
    return otherwise


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
