"""Prompts, tokens and pictures through a pipeline's text encoders and VAE, as ComfyUI does it (chunks of 77 tokens)."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import text
from ..training.text_encoders import stack_tokens
from .placement import TEXT_ROOM, TEXTS, bring, bring_vae

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

_CHUNK = 75
_WEIGHTS = re.compile(r"(?<!\\)[()]|embedding:", re.IGNORECASE)

_told: list[str] = []

log = logging.getLogger(__name__)


def count_tokens(pipe: StableDiffusionXLPipeline, words: str) -> tuple[int]:
    """Tokens of a text, start, end and padding not counted; the same in both text encoders."""
    return (len(_ids(pipe, words)),)


@torch.no_grad()
def encode_prompts(pipe: StableDiffusionXLPipeline, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Embed prompts: H float32 [B, T, C] and pooled float32 [B, P], on the pipeline's device.

    T is 77, or 77 n for longer prompts: chunks of 75 tokens, as ComfyUI cuts them; shorter prompts are then repeated to the common length,
    which cross-attention does not notice. ComfyUI's weighting syntax and embeddings are not read: they are text here, which is told.
    Escaped parentheses are parentheses, as in ComfyUI.
    """
    bring(pipe, TEXTS, TEXT_ROOM)
    encoded = [_encode_prompt(pipe, prompt) for prompt in prompts]
    return stack_texts([hidden for hidden, _ in encoded]), torch.cat([pooled for _, pooled in encoded])


def tokenize_prompts(pipe: StableDiffusionXLPipeline, prompts: Sequence[str]) -> Tensor:
    """What `encode_prompts` gives the text encoders, int64 [B, 2, K, 77] on the CPU: K chunks for the first and for the second."""
    paddings = (pipe.tokenizer.pad_token_id, pipe.tokenizer_2.pad_token_id)
    return stack_tokens([torch.stack([_chunks(pipe, prompt, padding) for padding in paddings]) for prompt in prompts])


def stack_texts(hidden: Sequence[Tensor]) -> Tensor:
    """Embeddings [B, T, C] of any lengths in one batch, each repeated to the common length."""
    length = math.lcm(*(tensor.shape[1] for tensor in hidden))
    return torch.cat([tensor.repeat(1, length // tensor.shape[1], 1) for tensor in hidden])


def _encode_prompt(pipe: StableDiffusionXLPipeline, prompt: str) -> tuple[Tensor, Tensor]:
    device = pipe.text_encoder.device
    first = pipe.text_encoder(_chunks(pipe, prompt, pipe.tokenizer.pad_token_id).to(device), output_hidden_states=True)
    second = pipe.text_encoder_2(_chunks(pipe, prompt, pipe.tokenizer_2.pad_token_id).to(device), output_hidden_states=True)
    # penultimate layers (SDXL, Podell et al. 2307.01952), chunks laid end to end
    hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    return hidden.flatten(0, 1)[None].float(), second.text_embeds[:1].float()


def _chunks(pipe: StableDiffusionXLPipeline, prompt: str, padding: int) -> Tensor:
    ids = _ids(pipe, prompt)
    rows = [ids[start : start + _CHUNK] for start in range(0, max(len(ids), 1), _CHUNK)]
    start, end = pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id
    return torch.tensor([[start, *row, end] + [padding] * (_CHUNK - len(row)) for row in rows])


def _ids(pipe: StableDiffusionXLPipeline, words: str) -> list[int]:
    if _WEIGHTS.search(words):
        _tell_weights(words)
    words = words.replace(r"\(", "(").replace(r"\)", ")")
    # for both encoders: the second tokenizer, padded with `!`, would read an exclamation mark as padding, which ComfyUI does not
    return pipe.tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]


def _tell_weights(words: str) -> None:
    """Once a process: captions of photos are many."""
    if _told:
        return
    _told.append(words)
    log.warning(
        "parentheses and embeddings are text here, not weights as in ComfyUI: '%s'. Write plain words, and \\( \\) for parentheses.", words
    )


@torch.no_grad()
def encode_images(pipe: StableDiffusionXLPipeline, images: Tensor) -> Tensor:
    """Pictures [N, H, W, 3], uint8 or float in 0..1, H and W multiples of 8 -> latents float32 [N, 4, H/8, W/8] in the U-Net's scale.

    The mode of the VAE's distribution, as in ComfyUI.
    """
    bring_vae(pipe, "encode", *images.shape[1:3])
    vae = pipe.vae
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    batches = (pixels[i : i + 1].movedim(-1, 1).to(vae.device, vae.dtype) * 2 - 1 for i in range(len(pixels)))
    latents = torch.cat([vae.encode(batch).latent_dist.mode() for batch in batches]).float()
    return (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


@torch.no_grad()
def decode_latents(pipe: StableDiffusionXLPipeline, latents: Tensor) -> Tensor:
    """Latents [N, 4, h, w] in the U-Net's scale -> pictures uint8 [N, 8h, 8w, 3]."""
    bring_vae(pipe, "decode", 8 * latents.shape[2], 8 * latents.shape[3])
    vae = pipe.vae
    unscaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    pixels = torch.cat([vae.decode(row[None].to(vae.device, vae.dtype)).sample for row in unscaled]).float()
    return ((pixels.movedim(1, -1) / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8).cpu()


def embed_expression(pipe: StableDiffusionXLPipeline, prompt: text.ExpressionPrompt) -> list[tuple[Tensor, Tensor]]:
    """Embeddings (H [1, T, C], pooled [1, P]) of the neutral prompt, and of the expression in its strength."""
    neutral = encode_prompts(pipe, [prompt.neutral])
    hidden, pooled = zip(*(encode_prompts(pipe, [words]) for words in prompt.expressions), strict=True)
    return [neutral, (text.mix(neutral[0], hidden, prompt.weights), text.mix_pooled(neutral[1], pooled, prompt.weights))]
