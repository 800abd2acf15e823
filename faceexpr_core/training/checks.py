"""Whether photos, prompts and models fit each other and the settings, asked before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import FaceExprError
from .crafting import CraftingSet
from .data import TrainingSet
from .settings import TrainSettings
from .text_encoders import TextEncoders

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


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


def check_parts(
    unet: UNet2DConditionModel, data: TrainingSet, settings: TrainSettings, class_images: TrainingSet | None, crafting: CraftingSet | None
) -> None:
    """Raise FaceExprError where the settings need something that is not there or does not fit."""
    if settings.draws_class:
        if class_images is None or not len(class_images):
            raise FaceExprError("prior is images, but there are no pictures of the class; give some, or take prior distill or off.")
        check_fit(unet, class_images)
    if needs_prompts(settings) and crafting is None:
        raise FaceExprError("prior distill and crafting need the prompts of the class; none were encoded. Switch both off, or encode them.")
    if settings.crafting_mask and settings.crafting_weight and (crafting is None or crafting.areas is None):
        raise FaceExprError("crafting_mask is on, but the action units' areas were not made; make them, or switch it off.")
    if settings.caption_dropout:
        data.without_captions(torch.zeros(len(data), dtype=torch.bool, device=data.latents.device))


def check_encoders(
    settings: TrainSettings,
    encoders: TextEncoders | None,
    data: TrainingSet,
    class_images: TrainingSet | None,
    crafting: CraftingSet | None,
) -> TextEncoders | None:
    """The text encoders if they learn. Raises FaceExprError when they, or tokens for them, are not there."""
    if not settings.text_encoder:
        return None
    kept = [data.tokens]
    if settings.caption_dropout:
        kept.append(data.empty_tokens)
    if settings.draws_class and class_images is not None:
        kept.append(class_images.tokens)
    if needs_prompts(settings) and crafting is not None:
        kept += [crafting.person_tokens, crafting.base_tokens]
    if encoders is None or any(tokens is None for tokens in kept):
        what = "text encoders" if encoders is None else "tokens of the prompts"
        raise FaceExprError(f"text_encoder is on, but there are no {what}; give them, or switch it off.")
    return encoders


def needs_prompts(settings: TrainSettings) -> bool:
    """Whether the prompts of a CraftingSet are used."""
    return settings.prior == "distill" or settings.crafting_weight > 0
