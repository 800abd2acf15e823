"""Attention by the kernels that PyTorch would choose on CUDA, for what they keep in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
_plain = torch.nn.functional.scaled_dot_product_attention
HALF = (torch.float16, torch.bfloat16)


def attention_on(values: bool) -> Callable[..., Tensor]:
    """In the place of `scaled_dot_product_attention`; with `values` on the card, or shapes alone."""

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if query.device.type != "cuda":
            return _plain(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        if query.dim() != 4:  # no fused kernel takes it: scores and probabilities lie in memory
            return torch.softmax(query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale), -1) @ value
        for name, part in (("key", key), ("value", value)):
            if part.dtype != query.dtype:
                given = f"got query {query.dtype}, {name} {part.dtype}"
                raise RuntimeError(f"Expected query, key, and value to have the same dtype, but {given}")
        mask = _as_numbers(attn_mask, query.dtype)
        if values:
            return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, dropout_p, is_causal, attn_mask=mask, scale=scale)[0]
        if query.dtype in HALF and mask is None and query.shape[-1] <= 256:
            return _flash(query, key, value, dropout_p, is_causal, scale)
        if mask is not None:
            mask = mask.expand(*query.shape[:-1], key.shape[-2])
        learns = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
        return aten._scaled_dot_product_efficient_attention(query, key, value, mask, learns, dropout_p, is_causal, scale=scale)[0]

    return attention


def _as_numbers(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, float("-inf"))
    return mask.to(dtype)


def _flash(query: Tensor, key: Tensor, value: Tensor, dropout: float, causal: bool, scale: float | None) -> Tensor:
    """Flash attention takes head widths in multiples of 8."""
    width = query.shape[-1]
    parts: list[Any] = [query, key, value]
    if width % 8:
        parts = [torch.nn.functional.pad(part, (0, 8 - width % 8)) for part in parts]
        scale = width**-0.5 if scale is None else scale
    return aten._scaled_dot_product_flash_attention(*parts, dropout, causal, False, scale=scale)[0][..., :width]
