"""One fusion of a bank into a U-Net, in any host: how strongly, with which features, and in which rows of a batch.

A host says where tensors pass (`fuse`, `add_context`), of which evaluation (`Call`) and in which rows (`Part`). What is needed on the
device is moved there once, and kept in the call's `kept`, which belongs to the host's run of a sampler: nothing outlasts it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import operator as fusion
from .attention import context_difference
from .bank import Context, FeatureBank
from .grids import Grid, grid_mask, grid_regions
from .operator import Donor, Target
from .settings import FusionSettings, guidance_weight, step_weight, window_range

Area = tuple[float, float, float, float]
"""Top, bottom, left and right in shares of the picture."""

RESIDENT = 2**28
"""Bytes up to which a bank is moved to the device whole; of a larger one, a noise level at a time."""


class Call(NamedTuple):
    """One evaluation of the model by a sampler. `schedule`: the sigmas it visits, falling; `kept`: what fusions keep until it ends."""

    sigma: float
    cfg: float
    schedule: tuple[float, ...]
    kept: dict[Any, Any]


class Part(NamedTuple):
    """Rows of a batch that are changed alike: where over their pictures the expression acts (float [H, W] in 0..1, None everywhere), and
    the regions of their faces (integers [H, W], None unknown). `area`: the cut-out of the picture that the rows are, None for all of it."""

    rows: slice
    mask: Tensor | None
    regions: Tensor | None
    area: Area | None = None


class Attention(NamedTuple):
    """A cross-attention of the running model: tokens [B, N, C] -> Q, attended values -> output, and its number of heads."""

    query: Callable[[Tensor], Tensor]
    out: Callable[[Tensor], Tensor]
    heads: int


@dataclass(eq=False)
class _Kept:
    """What one fusion has on the device while a sampler runs."""

    weight: tuple[float, float] | None = None
    contexts: dict[Hashable, Context | None] = field(default_factory=dict)
    donors: dict[Hashable, Donor | None] = field(default_factory=dict)
    level: int | None = None
    maps: dict[Hashable, tuple[Tensor, Tensor]] = field(default_factory=dict)


class Injection:
    """A bank with settings, at the places of a model. Methods return the very tensor that they were given where nothing changes.

    `tell` is called with what there is to tell the user.
    """

    def __init__(self, bank: FeatureBank, settings: FusionSettings, places: Sequence[str], tell: Callable[[str], None]) -> None:
        self.bank, self.settings, self.places = bank, settings, frozenset(places)
        self._tell = tell
        self._range = window_range(settings.window)

    def fuse(self, place: str, x: Tensor, grid: Grid, call: Call, parts: Sequence[Part]) -> Tensor:
        """Tokens [B, N, C] or maps [B, C, h, w] that pass at a place, with the donor's change of expression in the rows of the parts."""
        weight = self._weight(place, call)
        donor = self._donor(place, call, x.device) if weight and parts else None
        if donor is None:
            return x

        def change(rows: Tensor, part: Part) -> Tensor:
            target = Target(grid, self._map(part.regions, part.area, grid, call, x.device, grid_regions))
            return fusion.fuse(rows, donor, target, self.settings, weight, self._mask(part, grid, call, x.device))

        return _changed(x, parts, change)

    def add_context(
        self, place: str, x: Tensor, grid: Grid, call: Call, parts: Sequence[Part], tokens: Tensor, attention: Attention
    ) -> Tensor:
        """Outputs [B, N, C] of a cross-attention that was given `tokens` [B, N, C], with what another text makes of the same queries."""
        weight = self._weight(place, call)
        context = self._context(place, call, x.device) if weight and parts else None
        if context is None:
            return x

        def change(rows: Tensor, part: Part) -> Tensor:
            difference = context_difference(attention.query(tokens[part.rows]), *context, attention.heads)
            projected = attention.out(difference) - attention.out(torch.zeros_like(difference[:1, :1]))
            return fusion.add_change(rows, projected, Target(grid), self.settings, weight, self._mask(part, grid, call, x.device))

        return _changed(x, parts, change)

    def _kept(self, call: Call) -> _Kept:
        found: _Kept = call.kept.setdefault(self, _Kept())
        return found

    def _weight(self, place: str, call: Call) -> float:
        """lambda_eff w(sigma); 0 at places that are not changed. The window is asked once for each sigma and not at every place."""
        if place not in self.places:
            return 0.0
        kept = self._kept(call)
        if kept.weight is None or kept.weight[0] != call.sigma:
            weight, told = step_weight(call.sigma, call.schedule, *self._range)
            if told:
                self._tell(told)
            kept.weight = call.sigma, weight
        return guidance_weight(self.settings.strength_at(place), call.cfg) * kept.weight[1]

    def _context(self, place: str, call: Call, device: torch.device) -> Context | None:
        """Keys and values, or None where they change nothing."""
        known, key = self._kept(call).contexts, (place, device)
        if key not in known:
            context = self.bank.context(place)
            equal = context is None or context.equal
            known[key] = None if context is None or equal else Context(*(upload(part, device) for part in context))
        return known[key]

    def _donor(self, place: str, call: Call, device: torch.device) -> Donor | None:
        """The features of the sampler's noise level, or None where they change nothing."""
        level, kept = self.bank.level(call.sigma), self._kept(call)
        if level is None:
            self._tell(f"the features have nothing for sigma {call.sigma:.3g}; nothing is changed there")
            return None
        if level != kept.level and self.bank.nbytes > RESIDENT:
            kept.donors.clear()
        kept.level = level
        if (place, level, device) not in kept.donors:
            ahead = range(len(self.bank.sigmas)) if self.bank.nbytes <= RESIDENT else (level,)
            kept.donors |= {(place, index, device): self._moved(place, index, device) for index in ahead}
        return kept.donors[place, level, device]

    def _moved(self, place: str, level: int, device: torch.device) -> Donor | None:
        donor = self.bank.donor(place, self.bank.sigmas[level])
        if donor is None or (donor.neutral is not None and torch.equal(donor.neutral, donor.expression)):
            return None
        return donor.moved(lambda part: upload(part, device))._replace(distinct=True)

    def _mask(self, part: Part, grid: Grid, call: Call, device: torch.device) -> Tensor | None:
        return self._map(part.mask, part.area, grid, call, device, grid_mask)

    def _map(
        self,
        where: Tensor | None,
        area: Area | None,
        grid: Grid,
        call: Call,
        device: torch.device,
        resize: Callable[[Tensor, Grid], Tensor],
    ) -> Tensor | None:
        """A map over the picture, cut to an area, at the size of a grid, on the device."""
        if where is None:
            return None
        known, key = self._kept(call).maps, (id(where), area, grid, device, resize)
        if key not in known:
            known[key] = where, upload(resize(where if area is None else _cut(where, area), grid), device)
        return known[key][1]


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, without making the host wait where that can be had."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _changed(x: Tensor, parts: Sequence[Part], change: Callable[[Tensor, Part], Tensor]) -> Tensor:
    """`change` on the rows of each part; x itself if that gives them all back."""
    whole = x
    for part in parts:
        before = x[part.rows]
        after = change(before, part)
        if after is before:
            continue
        if whole is x:
            whole = x.clone()
        whole[part.rows] = after
    return whole


def _cut(where: Tensor, area: Area) -> Tensor:
    """The area of a map [H, W], one pixel at the least."""
    rows, columns = where.shape
    top, left = min(round(area[0] * rows), rows - 1), min(round(area[2] * columns), columns - 1)
    return where[top : max(round(area[1] * rows), top + 1), left : max(round(area[3] * columns), left + 1)]
