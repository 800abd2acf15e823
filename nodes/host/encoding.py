"""Texts and pictures through ComfyUI's CLIP and VAE, as tensors fit for autograd."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def encode_text(clip: Any, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Embed prompts with ComfyUI's SDXL CLIP, LoRAs included: H float32 [B, T, C] and pooled float32 [B, P], on CPU, fit for autograd.

    T is 77, or 77 n when a prompt is longer. Shorter prompts are then repeated to the common length, which cross-attention does not notice.
    """
    with torch.inference_mode():
        encoded = [clip.encode_from_tokens(clip.tokenize(prompt), return_pooled=True) for prompt in prompts]
    length = math.lcm(*(hidden.shape[1] for hidden, _ in encoded))
    with torch.inference_mode(False):
        hidden = [_plain(hidden).repeat(1, length // hidden.shape[1], 1) for hidden, _ in encoded]
        return torch.cat(hidden), torch.cat([_plain(pooled) for _, pooled in encoded])


def encode_images(model: Any, vae: Any, images: Tensor) -> Tensor:
    """IMAGE float [N, H, W, 3] in 0..1 -> latents float32 [N, 4, H/8, W/8] in the scale that MODEL works in, on CPU, fit for autograd."""
    with torch.inference_mode():
        latents = model.model.process_latent_in(vae.encode(images[..., :3]))
    with torch.inference_mode(False):
        return _plain(latents)


def decode_latents(model: Any, vae: Any, latents: Tensor, tiled: bool = False) -> Tensor:
    """Latents [N, 4, h, w] in MODEL's scale -> IMAGE float32 [N, 8h, 8w, 3] in 0..1; `tiled` in less memory, and nearly the same."""
    with torch.inference_mode():
        return (vae.decode_tiled if tiled else vae.decode)(model.model.process_latent_out(latents))


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().to("cpu", torch.float32)
