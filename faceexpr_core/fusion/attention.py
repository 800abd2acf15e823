"""What another text would make of a target's own queries. Multi-head, before the output projection."""

from __future__ import annotations

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


def _attend(query: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V by heads, [B, N, C]; keys and values of one row serve all."""
    q, k, v = (part.expand(len(query), -1, -1).unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, keys, values))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
