"""Attention-focused fusion: carry a change of expression from a donor's U-Net features to a target's. Pure functions of tensors.

With X [B, N, C] the target's tokens at a site and D_n, D_e [1, M, C] the donor's with the neutral and the wanted expression:

    q = norm(X - mean_N X)            k = norm(D_n - mean_M D_n)
    L_ij = q_i.k_j / tau - beta [r_i != r_j]
    S = softmax_j(L)                  R = softmax_i(L^T)
    c_i = sum_j S_ij R_ji             g_i = clip(log(N c_i) / log min(N, 64), 0, 1)
    T = S (D_e - D_n)                                    twin
    T = AdaIN_mask(S D_e -> X) - X                       no neutral twin
    T_i <- T_i min(1, kappa |X_i| / |T_i|)
    Y = X + lambda w(sigma) m (.) g (.) T

These formulas are ours. The paper's printed one is `published`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import FaceExprError
from .formulas import adain, carry, limit, published
from .grids import Grid, grid_mask, resize
from .settings import (
    FusionSettings,
    region_ids,
)


class Donor(NamedTuple):
    """Features of an expression at one place and sigma.

    `neutral`, `expression`: tokens [1, M, C] (or maps [1, C, h, w]), any float type; `neutral` None when there is no neutral twin.
    `grid`: (h, w) of the whole map. `regions`: integers [M] (see `region_ids`), or None.
    When only some of the map's tokens are kept, `indices` [M] says which (row-major) and `centre` [1, 1, C] is the mean of all.
    `distinct`: the twins are known to differ, and need not be compared again.
    """

    neutral: Tensor | None
    expression: Tensor
    grid: Grid
    regions: Tensor | None = None
    indices: Tensor | None = None
    centre: Tensor | None = None
    distinct: bool = False

    def moved(self, move: Callable[[Tensor], Tensor]) -> Donor:
        """The same with every tensor moved."""
        neutral, regions, indices, centre = (
            None if part is None else move(part) for part in (self.neutral, self.regions, self.indices, self.centre)
        )
        return Donor(neutral, move(self.expression), self.grid, regions, indices, centre, self.distinct)


class Target(NamedTuple):
    """Where tokens are changed: `grid` (h, w) with h w = N, and region integers [N] or None."""

    grid: Grid
    regions: Tensor | None = None


def fuse(x: Tensor, donor: Donor, target: Target, settings: FusionSettings, weight: float, mask: Tensor | None = None) -> Tensor:
    """Y = X + weight m (.) g (.) T: tokens [B, N, C] or maps [B, C, h, w] with the donor's change of expression, in x's shape and type.

    `x`: conditional rows only. `weight` is lambda w(sigma). `mask`: float [H, W], or [B, H, W] with one for
    each row, in 0..1, of any size over the target, None for ones.
    Returns x itself when the weight is 0 or the donor's twins are equal. Mode `paper`: Y = (1 - l) X + l AdaIN(f_fus / 2 -> X) with
    l = weight m (AdaIN takes no notice of the half). A donor without a neutral twin is fused as in mode `adain`. `settings.regions`
    holds the change to those regions of the target, and a twin's to those of the donor, wherever the regions are known. Raises
    FaceExprError when shapes do not fit.
    """
    if weight == 0 or _twins_are_equal(donor):
        return x
    tokens = _tokens(x).float()
    donor = _check_fit(tokens, donor).moved(lambda part: part.to(x.device))
    place = _target_mask(tokens, target, settings, mask)
    if settings.mode == "paper":
        change = adain(published(tokens, donor.expression) / 2, tokens, place) - tokens
        return _as(tokens + weight * place[..., None] * change, x)
    twin = settings.mode == "twin" and donor.neutral is not None
    values = _change(donor, settings) if twin else donor.expression.float()
    if settings.matching:
        keys = donor.expression if donor.neutral is None else donor.neutral
        carried, confidence = carry(
            tokens, keys, values, settings.temperature, settings.region_penalty, _to(target.regions, x), donor.regions, donor.centre
        )
    else:
        carried, confidence = _lay(values, donor, target.grid)
    amount = place * confidence
    change = carried if twin else adain(carried.expand_as(tokens), tokens, place if settings.matching else amount) - tokens
    return _as(tokens + weight * amount[..., None] * limit(change, tokens, settings.cap), x)


def add_change(x: Tensor, change: Tensor, target: Target, settings: FusionSettings, weight: float, mask: Tensor | None = None) -> Tensor:
    """Y = X + weight m (.) limit(T): for a change [B or 1, N, C] that is known for each token, as `cross_attention_difference` computes it.

    Shapes, mask, type and what is returned at weight 0 as in `fuse`.
    """
    if weight == 0:
        return x
    tokens = _tokens(x).float()
    place = _target_mask(tokens, target, settings, mask)
    return _as(tokens + weight * place[..., None] * limit(_tokens(change).float(), tokens, settings.cap), x)


def _change(donor: Donor, settings: FusionSettings) -> Tensor:
    """D_e - D_n in float32, 0 outside the regions that the settings name."""
    assert donor.neutral is not None
    change = donor.expression.float() - donor.neutral.float()
    if settings.regions and donor.regions is not None:
        change = change * held_to(donor.regions, settings)[:, None]
    return change


def _lay(values: Tensor, donor: Donor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Values and confidence where position corresponds: g is 1, or 0 where the donor's map has no token; resized between grids."""
    present = values.new_ones(1, values.shape[1], 1)
    if donor.indices is not None:
        whole = values.new_zeros(1, donor.grid[0] * donor.grid[1], values.shape[2] + 1)
        whole[:, donor.indices.long()] = torch.cat([values, present], 2)
        values, present = whole[..., :-1], whole[..., -1:]
    if donor.grid != grid:
        both = resize(torch.cat([values, present], 2).mT.unflatten(2, donor.grid), grid).flatten(2).mT
        values, present = both[..., :-1], both[..., -1:]
    return values, present[..., 0]


def _target_mask(tokens: Tensor, target: Target, settings: FusionSettings, mask: Tensor | None) -> Tensor:
    """m [N], or [B, N] of a mask for each row, in float32 on the tokens' device."""
    if target.grid[0] * target.grid[1] != tokens.shape[1]:
        raise FaceExprError(f"the target has {tokens.shape[1]} tokens, which is no grid of {target.grid[0]} x {target.grid[1]}.")
    place = tokens.new_ones(tokens.shape[1]) if mask is None else grid_mask(mask.to(tokens.device), target.grid).flatten(-2)
    if settings.regions and target.regions is not None:
        place = place * held_to(target.regions.to(tokens.device), settings)
    return place


def held_to(regions: Tensor, settings: FusionSettings) -> Tensor:
    """1.0 for tokens [N] in the regions that the settings name, else 0.0."""
    inside = torch.zeros_like(regions, dtype=torch.bool)
    for number in region_ids(settings.regions):  # a list of them would have to be copied to the device
        inside |= regions == number
    return inside.float()


def check_channels(features: Tensor, tokens: Tensor) -> None:
    """Raise FaceExprError where features [.., C] are as wide as another kind of model's."""
    if features.shape[-1] != tokens.shape[-1]:
        raise FaceExprError(
            f"the expression features have {features.shape[-1]} channels where this model has {tokens.shape[-1]}. "
            "They come from another kind of model: extract them again with this one."
        )


def _check_fit(tokens: Tensor, donor: Donor) -> Donor:
    """The donor with tokens for maps, all shapes checked."""
    expression = _tokens(donor.expression)
    neutral = None if donor.neutral is None else _tokens(donor.neutral)
    check_channels(expression, tokens)
    if neutral is not None and neutral.shape != expression.shape:
        raise FaceExprError(f"the donor's twins differ in shape ({tuple(neutral.shape)}, {tuple(expression.shape)}); extract them again.")
    wanted = donor.grid[0] * donor.grid[1] if donor.indices is None else len(donor.indices)
    if expression.shape[1] != wanted or (donor.regions is not None and len(donor.regions) != wanted):
        raise FaceExprError(f"the donor has {expression.shape[1]} tokens where its grid has {wanted}; extract the features again.")
    return donor._replace(neutral=neutral, expression=expression)


def _twins_are_equal(donor: Donor) -> bool:
    neutral, expression = donor.neutral, donor.expression
    return neutral is not None and not donor.distinct and (neutral is expression or torch.equal(neutral, expression))


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).mT if x.dim() == 4 else x


def _as(tokens: Tensor, x: Tensor) -> Tensor:
    return (tokens.mT.reshape(x.shape) if x.dim() == 4 else tokens).to(x.dtype)


def _to(regions: Tensor | None, x: Tensor) -> Tensor | None:
    return None if regions is None else regions.to(x.device)
