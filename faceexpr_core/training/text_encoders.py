"""SDXL's two text encoders where they learn too: tokens to embeddings with gradients, and the LoRA on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .adapter import put_lora

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
CHUNK = 77
"""Tokens of one run of an encoder, start and end among them."""

Layers = dict[str, tuple[torch.nn.Parameter, torch.nn.Parameter]]


@dataclass(frozen=True, eq=False)
class TextEncoders:
    """CLIP-L and OpenCLIP bigG as transformers has them (or Mini's), to be used by one run alone: it moves, casts and adapts them."""

    first: CLIPTextModel
    second: CLIPTextModelWithProjection

    @property
    def parts(self) -> dict[str, torch.nn.Module]:
        """By the names that diffusers and LoRA files have for them."""
        return {"text_encoder": self.first, "text_encoder_2": self.second}


def embed_tokens(encoders: TextEncoders, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """int64 [N, 2, K, 77], K chunks for each encoder -> H [N, 77 K, C] and pooled [N, P], with gradients.

    H is both encoders' last layer but one, side by side; pooled is the projection of the second's end token, of the first chunk
    (SDXL, Podell et al. 2307.01952, section 2.1; chunks as ComfyUI lays them end to end).
    """
    count, _, chunks, _ = tokens.shape
    first = encoders.first(tokens[:, 0].flatten(0, 1), output_hidden_states=True)
    second = encoders.second(tokens[:, 1].flatten(0, 1), output_hidden_states=True)
    hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    return hidden.unflatten(0, (count, chunks)).flatten(1, 2), second.text_embeds.unflatten(0, (count, chunks))[:, 0]


def enable_checkpointing(encoders: TextEncoders) -> None:
    """Keep little of the forward pass and compute it again in the backward one: less memory, more time, the same numbers."""
    for encoder in (encoders.first, encoders.second):
        newer = getattr(encoder, "activation_checkpointing_enable", None)  # its name from transformers 5 on
        (newer or encoder.gradient_checkpointing_enable)({"use_reentrant": False})


def stack_tokens(rows: Sequence[Tensor]) -> Tensor:
    """Tokens [2, k, 77] of prompts of any lengths in one batch [N, 2, K, 77], each repeated to the common length."""
    chunks = math.lcm(*(row.shape[1] for row in rows))
    return torch.stack([row.repeat(1, chunks // row.shape[1], 1) for row in rows])


def text_targets(encoder: torch.nn.Module, dead: bool) -> list[str]:
    """Names of an encoder's attention projections; with `dead` without its last layer, whose output SDXL does not read."""
    names = [name for name, _ in encoder.named_modules() if name.endswith(tuple(f".self_attn.{target}" for target in TARGETS))]
    last = max(_layer(name) for name in names)
    return [name for name in names if not dead or _layer(name) < last]


def unread_layer(encoders: TextEncoders) -> str:
    """How the names of what SDXL does not read begin in LoRA files: `text_encoder.text_model.encoder.layers.11.`"""
    return f"text_encoder.text_model.encoder.layers.{encoders.first.config.num_hidden_layers - 1}."


def add_text_lora(encoders: TextEncoders, rank: int, alpha: float, generator: torch.Generator, first: str = "kaiming") -> Layers:
    """Put a trainable LoRA on the attention projections, as `adapter.add_lora` does on the U-Net's, with first weights drawn alike.

    Keys as LoRA files spell modules, whatever transformers calls them: `text_encoder_2.text_model.encoder.layers.3.self_attn.q_proj`.
    """
    layers: Layers = {}
    for part, encoder in encoders.parts.items():
        put = put_lora(encoder, text_targets(encoder, part == "text_encoder"), rank, alpha, generator, first)
        layers |= {_spelled(part, name): pair for name, pair in put.items()}
    return layers


def text_lora_shapes(encoders: TextEncoders) -> dict[str, torch.Size]:
    """The layers of `add_text_lora`, of encoders that are as they were loaded, with the shapes [out, in] of their weights."""
    return {
        _spelled(part, name): encoder.get_parameter(f"{name}.weight").shape
        for part, encoder in encoders.parts.items()
        for name in text_targets(encoder, part == "text_encoder")
    }


def _spelled(part: str, name: str) -> str:
    return f"{part}.text_model.{name.removeprefix('text_model.')}"


def _layer(name: str) -> int:
    return int(name.split(".layers.")[1].split(".")[0])
