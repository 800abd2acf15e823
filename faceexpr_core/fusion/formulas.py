"""The formulas of attention-focused fusion, on tokens [B, N, C]: matching, carrying, AdaIN, the cap, and the paper's printed sum.

S, R, g, the cap and the use of AdaIN are ours; `published` is the paper's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FaceExprError

CONFIDENT = 64
"""Tokens among which a choice of one counts as certain: 8 x 8, the largest map on which strengths were chosen (an older Mini's)."""

MATCH_CELLS = 2**24
"""Similarities held at once: 64 MB, 64 x 64 tokens against as many."""


def match(
    x: Tensor,
    donor_keys: Tensor,
    tau: float,
    beta: float,
    regions_x: Tensor | None = None,
    regions_d: Tensor | None = None,
    centre: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """S = softmax_j(L) [B, N, M] and R = softmax_i(L^T) [B, M, N], float32.

    L_ij = norm(x_i - mean x).norm(k_j - mean k) / tau - beta [r_i != r_j]; without regions on both sides there is no second term.
    `x` [B, N, C], `donor_keys` [1 or B, M, C]; `centre` [1, 1, C] stands for mean k when the keys are only part of a map.
    """
    logits = _logits(_directions(x), _directions(donor_keys, centre), tau, beta, regions_x, regions_d)
    return logits.softmax(-1), logits.mT.softmax(-1)


def carry(
    x: Tensor,
    keys: Tensor,
    values: Tensor,
    tau: float,
    beta: float,
    regions_x: Tensor | None = None,
    regions_d: Tensor | None = None,
    centre: Tensor | None = None,
    cells: int = MATCH_CELLS,
) -> tuple[Tensor, Tensor]:
    """T = S values [B, N, C'] and the two-way confidence g [B, N] in 0..1, float32.

    c_i = sum_j S_ij R_ji, g_i = clip(log(N c_i) / log min(N, 64), 0, 1): 1 where target and donor token choose each other, 0 where both
    choose among all. Of a field of features that is sampled more finely, c falls as 1 / N: N c is what does not depend on the size of the
    picture, and 64 (CONFIDENT) is the size at which strengths were chosen. Arguments as for `match`. Above `cells` similarities (B N M)
    rows are done in parts, with the same result.
    """
    if x.shape[0] * x.shape[1] * keys.shape[1] <= cells:
        to_donor, to_target = match(x, keys, tau, beta, regions_x, regions_d, centre)
        return to_donor @ values.float(), _confidence((to_donor * to_target.mT).sum(-1))
    queries, keys = _directions(x), _directions(keys, centre)
    rows = max(1, cells // (x.shape[0] * keys.shape[1]))
    parts = list(queries.split(rows, dim=1))
    regions = [None] * len(parts) if regions_x is None else list(regions_x.split(rows))
    columns = torch.stack([_logits(q, keys, tau, beta, r, regions_d).logsumexp(1, True) for q, r in zip(parts, regions, strict=True)])
    columns = columns.logsumexp(0)
    carried, mutual = [], []
    for query, region in zip(parts, regions, strict=True):
        logits = _logits(query, keys, tau, beta, region, regions_d)
        to_donor = logits.softmax(-1)
        carried.append(to_donor @ values.float())
        mutual.append((to_donor * (logits - columns).exp()).sum(-1))
    return torch.cat(carried, 1), _confidence(torch.cat(mutual, 1))


def adain(content: Tensor, style: Tensor, weights: Tensor) -> Tensor:
    """AdaIN (Huang and Belongie, 1703.06868): content with style's mean and deviation of each channel, both over weighted tokens.

    (content - mean content) std style / std content + mean style. `content`, `style` [B, N, C], `weights` [N] or [B, N] >= 0; float32.
    Where all weights are 0 the plain mean is taken, since nothing is changed there anyway.
    """
    share = weights.float().expand(style.shape[:2])
    share = torch.where(share.sum(-1, keepdim=True) > 0, share, 1.0)
    share = (share / share.sum(-1, keepdim=True))[..., None]
    content_mean, content_std = _moments(content.float(), share)
    style_mean, style_std = _moments(style.float(), share)
    return (content.float() - content_mean) * (style_std / content_std.clamp_min(1e-5)) + style_mean


def limit(change: Tensor, x: Tensor, kappa: float) -> Tensor:
    """T_i min(1, kappa |X_i| / |T_i|), [B, N, C]: no token changes by more than kappa times its own length."""
    length = change.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(change.dtype).tiny)
    return change * (kappa * x.norm(dim=-1, keepdim=True) / length).clamp_max(1.0)


def published(x: Tensor, donor: Tensor) -> Tensor:
    """The paper's printed formula, f_fus [B, N, C] in float32:

    f_fus = softmax(f_exp f_id^T / sqrt(d)) f_id + softmax(f_id f_exp^T / sqrt(d)) f_exp, with f_id = x [B, N, C], f_exp = donor [1, N, C].
    The terms lie on the donor's and on the target's tokens, so both need as many: FaceExprError otherwise.
    """
    if x.shape[1] != donor.shape[1]:
        raise FaceExprError(
            f"the donor has {donor.shape[1]} tokens and the target {x.shape[1]}; the mode paper adds them one to one. "
            "Extract the features at the size of the picture and keep all tokens, or choose the mode twin."
        )
    identity = x.float()[:, None]  # of four dimensions: of three, no kernel spares the matrix of all pairs
    expression = donor.float()[:, None].expand_as(identity)
    attend = F.scaled_dot_product_attention
    return (attend(expression, identity, identity) + attend(identity, expression, expression))[:, 0]


def _logits(queries: Tensor, keys: Tensor, tau: float, beta: float, regions_x: Tensor | None, regions_d: Tensor | None) -> Tensor:
    similarity = queries @ keys.mT / tau
    if regions_x is None or regions_d is None:
        return similarity
    return similarity - beta * (regions_x[:, None] != regions_d[None, :])


def _directions(tokens: Tensor, centre: Tensor | None = None) -> Tensor:
    tokens = tokens.float()
    return F.normalize(tokens - (tokens.mean(1, keepdim=True) if centre is None else centre.float()), dim=-1)


def _confidence(mutual: Tensor) -> Tensor:
    """g = clip(log(N c) / log min(N, CONFIDENT), 0, 1) of c [B, N]."""
    count = max(mutual.shape[1], 2)
    return ((mutual.clamp_min(1e-30).log() + math.log(count)) / math.log(min(count, CONFIDENT))).clamp(0, 1)


def _moments(tokens: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    mean = (share * tokens).sum(1, keepdim=True)
    return mean, (share * (tokens - mean).square()).sum(1, keepdim=True).sqrt()
