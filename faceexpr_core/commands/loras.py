"""LoRA files of any format applied to a diffusers pipeline."""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError
from .flags import check_number, refuse_unused
from .telling import say

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline
    from torch import Tensor


def check_loras(arguments: argparse.Namespace) -> None:
    """Raise FaceExprError for a LoRA file that is not there, a folder without one, and for a strength that is none or without a LoRA."""
    for file in arguments.lora:
        if file.is_dir():
            from ..lora.given import adapter_weights

            adapter_weights(file)
        elif not file.is_file():
            raise FaceExprError(f"there is no LoRA file {file}. Give the path of a .safetensors file, or of a PEFT adapter's folder.")
    check_number(arguments, "lora_strength")
    if not arguments.lora:
        refuse_unused(arguments, {"lora_strength": 1.0}, "there is no LoRA. Give --lora, or leave it out.")


def load_loras(pipe: StableDiffusionXLPipeline, files: list[Path], strength: float) -> None:
    """Apply LoRA files of any format, or folders of PEFT adapters, to the pipeline, and say on stderr what of them is left out. Raises
    FaceExprError for a file that does not fit."""
    for number, file in enumerate(files):
        name, state = f"lora{number}", _low_rank(file)
        try:
            with _parts_may_be_missing():
                pipe.load_lora_weights(state, adapter_name=name)
        except ImportError as reason:
            from ..training.libraries import refusal

            raise FaceExprError(f"the LoRA {file} cannot be applied here. {refusal(reason)}") from reason
        except (ValueError, RuntimeError, KeyError, OSError) as error:
            raise FaceExprError(f"the LoRA {file} does not fit this model: {error}") from error
        if not any(name in known for known in pipe.get_list_adapters().values()):
            raise FaceExprError(f"the LoRA {file} does not fit this model: none of its layers is one of SDXL's. Give a LoRA for SDXL.")
    if files:
        pipe.set_adapters([f"lora{number}" for number in range(len(files))], [strength] * len(files))


def _low_rank(file: Path) -> dict[str, Tensor]:
    """The file's low-rank pairs by diffusers' names, scaled, and of one rank in each part: diffusers itself mixes up alphas and, in older
    versions, ranks that differ from layer to layer."""
    from ..lora.formats import encode, load_whole

    lora = load_whole(file)
    if not lora.modules:
        raise FaceExprError(f"the LoRA {file} does not fit this model: none of its layers is one of SDXL's. Give a LoRA for SDXL.")
    try:
        encoded = encode(lora, "diffusers")
    except FaceExprError as reason:
        raise FaceExprError(f"the LoRA {file} cannot be applied here: {reason} Load FaceExpr LoRA in ComfyUI applies it.") from reason
    for what in encoded.lost:
        _tell_once(f"{file.name}: left out: {what}")
    scaled = {f"{name}.lora_B.weight": layer.up.float() * (layer.alpha / layer.rank) for name, layer in lora.layers.items()}
    state = {key: scaled.get(key, value) for key, value in encoded.state.items()}
    ranks: dict[str, int] = defaultdict(int)
    for key, value in state.items():
        part = key.partition(".")[0]
        ranks[part] = max(ranks[part], value.shape[_RANK_OF[_side(key)]] if _side(key) in _RANK_OF else 0)
    return {key: _of_rank(key, value, ranks[key.partition(".")[0]]) for key, value in state.items()}


_RANK_OF = {"lora_A": 0, "lora_B": 1}
"""Which dimension of a pair's side is its rank."""


def _side(key: str) -> str:
    return key.removesuffix(".weight").rpartition(".")[2]


def _of_rank(key: str, value: Tensor, rank: int) -> Tensor:
    """A side of a pair with zeros up to the rank, which change nothing."""
    import torch

    dimension = _RANK_OF.get(_side(key))
    if dimension is None or value.shape[dimension] == rank:
        return value
    missing = [*value.shape[:dimension], rank - value.shape[dimension], *value.shape[dimension + 1 :]]
    return torch.cat([value, value.new_zeros(missing)], dimension)


@cache
def _tell_once(what: str) -> None:
    """An evaluation loads the same file for many pictures."""
    say(what)


@contextmanager
def _parts_may_be_missing() -> Iterator[None]:
    """Without diffusers' warning for each part of the pipeline of which a LoRA has nothing: many have nothing of the text encoders."""

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("No LoRA keys associated to")

    loggers = [logging.getLogger(f"diffusers.loaders.{name}") for name in ("peft", "lora_base")]
    for logger in loggers:
        logger.addFilter(wanted)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(wanted)
