"""The text encoders out of a CLIP as transformers has them, private and fit for autograd, and the tokens that they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import comfy.clip_model
import torch
from torch import Tensor

from ...faceexpr_core.errors import FaceExprError
from ...faceexpr_core.training.text_encoders import CHUNK, TextEncoders, stack_tokens
from .models import require_sdxl_clip
from .weights import load_to_read, read_weight

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SDXL_LAYER = -2
"""The layer whose output SDXL reads, counted from the end."""


def export_text_encoders(clip: Any, dtype: torch.dtype, node: str) -> TextEncoders:
    """A private copy of an SDXL CLIP's two text encoders, its LoRAs and other weight patches applied.

    On CPU, in eval mode, without gradients; made outside inference mode, so that autograd may run through it. The CLIP is not changed.
    Raises FaceExprError for another CLIP, and where Clip Set Last Layer chose another layer than SDXL's.
    """
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    require_sdxl_clip(clip, node)
    if clip.layer_idx not in (None, SDXL_LAYER):
        raise FaceExprError(
            f"{node} got a CLIP that stops at layer {clip.layer_idx}; text encoders that learn are read at SDXL's own, {SDXL_LAYER}. "
            "Take CLIP Set Last Layer out, or switch train_text_encoder off."
        )
    with torch.inference_mode():
        load_to_read(clip.patcher)
        first = _export(CLIPTextModel, clip, "clip_l", dtype)
        second = _export(CLIPTextModelWithProjection, clip, "clip_g", dtype)
    return TextEncoders(first, second)


def _export(kind: Any, clip: Any, name: str, dtype: torch.dtype) -> PreTrainedModel:
    from transformers import CLIPTextConfig

    encoder = getattr(clip.cond_stage_model, name)
    text_model = encoder.transformer.text_model
    layer, positions = text_model.encoder.layers[0], text_model.embeddings.position_embedding.weight
    projection = encoder.transformer.text_projection.weight
    config = CLIPTextConfig(
        vocab_size=len(text_model.embeddings.token_embedding.weight),
        hidden_size=positions.shape[1],
        intermediate_size=layer.mlp.fc1.weight.shape[0],
        projection_dim=projection.shape[0],
        num_hidden_layers=len(text_model.encoder.layers),
        num_attention_heads=layer.self_attn.heads,
        max_position_embeddings=len(positions),
        hidden_act=next(name for name, function in comfy.clip_model.ACTIVATIONS.items() if function is layer.mlp.activation),
        attention_dropout=0.0,
        bos_token_id=encoder.special_tokens["start"],
        eos_token_id=encoder.special_tokens["end"],
    )
    with torch.inference_mode(False):
        with torch.device("meta"):
            model = kind(config)
        weights = {}
        for key in model.state_dict():
            # transformers 5 dropped this prefix in the model without projection
            known = key if key.startswith(("text_model.", "text_projection.")) else f"text_model.{key}"
            weights[key] = read_weight(clip.patcher, f"{name}.transformer.{known}").detach().clone().to(dtype)
        model.load_state_dict(weights, strict=True, assign=True)
        for module in model.modules():
            if "position_ids" in dict(module.named_buffers(recurse=False)):  # no weight, so that it is on the meta device still
                module.register_buffer("position_ids", torch.arange(len(positions))[None], persistent=False)
        return model.eval().requires_grad_(False)


def tokenize(clip: Any, prompts: Sequence[str], node: str) -> Tensor:
    """What ComfyUI's SDXL CLIP gives its encoders for prompts: int64 [N, 2, K, 77], as `training_set.Tokenizer` wants them.

    Raises FaceExprError for a prompt with weights or embeddings, which text encoders that learn do not read.
    """
    rows = []
    with torch.inference_mode(False):
        for prompt in prompts:
            chunks = clip.tokenize(prompt)
            entries = [entry for part in chunks.values() for chunk in part for entry in chunk]
            if any(not isinstance(token, int) or weight != 1 for token, weight in entries) or len(entries) % CHUNK:
                raise FaceExprError(
                    f"{node}: the prompt {prompt!r} has weights such as (word:1.2) or embeddings, which text encoders that learn do not "
                    r"read. Write plain words (\( and \) for parentheses), or switch train_text_encoder off."
                )
            rows.append(torch.tensor([[[token for token, _ in chunk] for chunk in chunks[part]] for part in ("l", "g")]))
        return stack_tokens(rows)
