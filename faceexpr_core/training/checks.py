"""Whether photos, prompts and models fit each other and the settings, asked before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import FaceExprError
from .data import TrainingSet
from .settings import TrainSettings
from .start import check_start, without_unread

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from .materials import Materials


def check_fit(unet: UNet2DConditionModel, data: TrainingSet) -> None:
    """Raise FaceExprError when the photos were encoded for another kind of model than `unet`."""
    config = unet.config
    if getattr(config, "addition_embed_type", None) != "text_time":
        raise FaceExprError("The MODEL is not an SDXL U-Net (it takes no size ids); load an SDXL checkpoint.")
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    for what, given, needed in (
        ("latents with {} channels", data.latents.shape[1], config.in_channels),
        ("text embeddings of width {}", data.prompt_embeds.shape[-1], config.cross_attention_dim),
        ("pooled text embeddings of width {}", data.pooled.shape[-1], pooled),
    ):
        if given != needed:
            raise FaceExprError(
                f"The photos were encoded to {what.format(given)}, the U-Net needs {needed}: "
                "take MODEL, CLIP and VAE from the same SDXL checkpoint."
            )
    depth = 2 ** (len(config.block_out_channels) - 1)
    height, width = data.latents.shape[-2:]
    if height % depth or width % depth:
        raise FaceExprError(
            f"The photos are {width * 8} x {height * 8} pixels; the U-Net needs sides that are multiples of {8 * depth}. "
            "Choose such a resolution where the photos are loaded."
        )


def check_materials(materials: Materials, settings: TrainSettings) -> None:
    """Raise FaceExprError where the settings need something that is not there or does not fit; `check_class` looks at the pictures of the
    class, which take long to draw."""
    data, crafting, encoders, start = materials.data, materials.crafting, materials.encoders, materials.start
    check_fit(materials.unet, data)
    if needs_prompts(settings) and crafting is None:
        raise FaceExprError("prior distill and crafting need the prompts of the class; none were encoded. Switch both off, or encode them.")
    if settings.crafting_mask and settings.crafting_weight and (crafting is None or crafting.areas is None):
        raise FaceExprError("crafting_mask is on, but the action units' areas were not made; make them, or switch it off.")
    if settings.caption_dropout:
        data.without_captions(torch.zeros(len(data), dtype=torch.bool, device=data.latents.device))
    if settings.text_encoder:
        if encoders is None:
            raise FaceExprError("text_encoder is on, but there are no text encoders; give them, or switch it off.")
        kept = [data.tokens, *([data.empty_tokens] if settings.caption_dropout else [])]
        if needs_prompts(settings) and crafting is not None:
            kept += [crafting.person_tokens, crafting.base_tokens]
        _check_tokens(kept)
    if start is not None:
        read, _ = without_unread(start, encoders if settings.text_encoder else None)
        check_start(read, materials.learned(settings), settings.rank)


def check_class(materials: Materials, settings: TrainSettings) -> None:
    """The same of the pictures of the class."""
    images = materials.class_images
    if not settings.draws_class:
        return
    if images is None or not len(images):
        raise FaceExprError("prior is images, but there are no pictures of the class; give some, or take prior distill or off.")
    check_fit(materials.unet, images)
    if settings.prior_dropout:
        images.without_captions(torch.zeros(len(images), dtype=torch.bool, device=images.latents.device))
    if settings.text_encoder:
        _check_tokens([images.tokens, *([images.empty_tokens] if settings.prior_dropout else [])])


def _check_tokens(kept: Sequence[Tensor | None]) -> None:
    if any(tokens is None for tokens in kept):
        raise FaceExprError("text_encoder is on, but there are no tokens of the prompts; give them, or switch it off.")


def needs_prompts(settings: TrainSettings) -> bool:
    """Whether the prompts of a CraftingSet are used."""
    return settings.prior == "distill" or settings.crafting_weight > 0
