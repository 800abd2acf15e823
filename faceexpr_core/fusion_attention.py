"""Attention with a donor's keys and values beside, or in place of, the target's own. Multi-head, before the output projection."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def context_difference(query: Tensor, keys_e: Tensor, values_e: Tensor, keys_n: Tensor, values_n: Tensor, heads: int) -> Tensor:
    """A(Q, K_e, V_e) - A(Q, K_n, V_n), A = softmax(Q K^T / sqrt(d)) V by heads: what another text would make of the target's own queries.

    `query` [B, N, C], keys and values [1 or B, T, C]; computed in float32, returned as [B, N, C] in query's type, before `to_out`
    (whose bias is no part of a difference). Ours.
    """
    queries = query.float()
    expression = _attend(queries, keys_e.to(queries), values_e.to(queries), heads)
    return (expression - _attend(queries, keys_n.to(queries), values_n.to(queries), heads)).to(query.dtype)


def attend_beside(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    donor_keys: Tensor,
    donor_values: Tensor,
    heads: int,
    weight: float,
    mask: Tensor | None = None,
) -> Tensor:
    """softmax([Q K^T, Q K_d^T] / sqrt(d) + [0, log(weight m_i)]) [V; V_d]: self-attention that also sees a donor's tokens.

    After MasaCtrl (Cao et al., 2304.08465); the bias is ours: weight 1 treats the donor's tokens as one's own, 0 as absent.
    `query`, `keys`, `values` [B, N, C], the donor's [1 or B, M, C], `mask` [N] in 0..1; returns [B, N, C] in query's type, before `to_out`.
    """
    amount = weight * (query.new_ones(1, dtype=torch.float32) if mask is None else mask.to(query.device, torch.float32).flatten())
    bias = F.pad(amount.log()[:, None].expand(-1, donor_keys.shape[1]), (keys.shape[1], 0)).to(query.dtype)
    return _attend(query, _joined(keys, donor_keys), _joined(values, donor_values), heads, bias)


def _attend(query: Tensor, keys: Tensor, values: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d) + bias) V by heads, [B, N, C]; keys and values of one row serve all."""
    q, k, v = (part.expand(len(query), -1, -1).unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, keys, values))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)


def _joined(own: Tensor, donor: Tensor) -> Tensor:
    return torch.cat([own, donor.to(own).expand(len(own), -1, -1)], 1)
