"""Random training sets and models: neither memory nor speed depends on what they show."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from faceexpr_core import mini
from faceexpr_core.diffusers_host.pipeline import SDXL_CONFIGS
from faceexpr_core.training.crafting import CraftingSet
from faceexpr_core.training.data import TrainingSet
from faceexpr_core.training.settings import TrainSettings
from faceexpr_core.training.text_encoders import TextEncoders

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

WORDS, POOLED = 2048, 1280
"""Widths of SDXL's text embeddings."""


def photos(count: int, side: int, tokens: bool, words: int = WORDS, pooled: int = POOLED) -> TrainingSet:
    """Photos of `side` pixels; `tokens` for text encoders that learn."""
    size = side // 8
    return TrainingSet(
        torch.randn(count, 4, size, size),
        torch.randn(count, 77, words),
        torch.randn(count, pooled),
        torch.tensor([[side, side, 0, 0, side, side]]).float().repeat(count, 1),
        torch.ones(count, 1, size, size),
        torch.randn(1, 77, words),
        torch.randn(1, pooled),
        source=f"random {count}",
        tokens=torch.randint(5, 400, (count, 2, 1, 77)) if tokens else None,
        empty_tokens=torch.randint(5, 400, (1, 2, 1, 77)) if tokens else None,
    )


def pairs(count: int, tokens: bool, words: int = WORDS, pooled: int = POOLED) -> CraftingSet:
    """`count` expressions, of the class and of the person."""

    def drawn(*shape: int) -> Tensor:
        return torch.randn(count, 2, *shape)

    def numbers() -> Tensor | None:
        return torch.randint(5, 400, (count, 2, 2, 1, 77)) if tokens else None

    names = tuple(f"expression {number}" for number in range(count))
    return CraftingSet(names, drawn(77, words), drawn(pooled), drawn(77, words), drawn(pooled), None, "random", numbers(), numbers())


def sets_for(
    settings: TrainSettings, side: int, words: int = WORDS, pooled: int = POOLED, counts: tuple[int, int, int] = (12, 64, 12)
) -> tuple[TrainingSet, TrainingSet | None, CraftingSet | None]:
    """Photos, class pictures and expressions (`counts` of them) as far as the settings need them; the same for the same settings."""
    reading = settings.text_encoder
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        data = photos(counts[0], side, reading, words, pooled)
        class_images = photos(counts[1], side, reading, words, pooled) if settings.draws_class else None
        needs_pairs = settings.prior == "distill" or settings.crafting_weight > 0
        return data, class_images, pairs(counts[2], reading, words, pooled) if needs_pairs else None


def mini_models() -> tuple[UNet2DConditionModel, TextEncoders]:
    """Mini's U-Net and text encoders, float32 on the CPU."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    folder = mini.path()
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    first = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
    return unet, TextEncoders(first, CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2", torch_dtype=torch.float32))


def widths(unet: UNet2DConditionModel) -> tuple[int, int]:
    """Widths of the words and the pooled words that a U-Net takes."""
    config = unet.config
    return config.cross_attention_dim, config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim


# SDXL's true shape, made on a device


def sdxl_config(part: str) -> dict[str, Any]:
    return json.loads((SDXL_CONFIGS / part / "config.json").read_text())


@contextlib.contextmanager
def made_on(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Modules made inside have their weights there, in that dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def sdxl_unet(dtype: torch.dtype, device: str = "cuda") -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel

    with made_on(device, dtype):
        return UNet2DConditionModel.from_config(sdxl_config("unet"))


def sdxl_encoders(dtype: torch.dtype, device: str = "cuda") -> TextEncoders:
    import transformers

    made = []
    for part, kind in (("text_encoder", transformers.CLIPTextModel), ("text_encoder_2", transformers.CLIPTextModelWithProjection)):
        config = transformers.CLIPTextConfig.from_dict(sdxl_config(part))
        config._attn_implementation = "sdpa"
        with made_on(device, dtype):
            made.append(kind(config))
    return TextEncoders(*made)
