"""One fusion of a bank into a U-Net, in any host: how strongly, with which features, and in which rows of a batch.

A host says where tensors pass (`fuse`, `add_context`), of which evaluation (`Call`) and in which rows (`Part`). What is needed on the
device is moved there once, and kept in the call's `kept`, which belongs to the host's run of a sampler: nothing outlasts it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import operator as fusion
from .attention import context_difference
from .bank import Context, FeatureBank
from .grids import Grid, grid_mask, grid_regions
from .look import Area, Where
from .operator import Donor, Target, held_to
from .settings import FusionSettings, guidance_weight, step_weight, window_range

RESIDENT = 2**28
"""Bytes up to which a bank is moved to the device whole; of a larger one, a noise level at a time."""

MOST = 0.9
"""Share of the tokens above which all of them are computed."""

NOWHERE_HELD = "the parts of the face are not known there, so that the change is not held to those that were chosen"


class Call(NamedTuple):
    """One evaluation of the model by a sampler. `schedule`: the sigmas it visits, falling; `kept`: what fusions keep until it ends;
    `continued`: the sampler goes on with a noisy picture that another one left."""

    sigma: float
    cfg: float
    schedule: tuple[float, ...]
    kept: dict[Any, Any]
    continued: bool = False


class Part(NamedTuple):
    """Rows of a batch in which features are fused: where in the picture of each (one for all, or one for each), and the area of their
    pictures that the rows are, None for all of it."""

    rows: slice
    where: tuple[Where, ...]
    area: Area | None = None


class Attention(NamedTuple):
    """A cross-attention of the running model. `query(rows, tokens)`: Q [B, n, C] of those rows of the batch and, if not None, of those
    tokens (indices) only; `out`: attended values -> its output; `heads`: how many."""

    query: Callable[[slice, Tensor | None], Tensor]
    out: Callable[[Tensor], Tensor]
    heads: int


class Amount(NamedTuple):
    """How much tokens are changed: `shares` [1 or B, n] in 0..1, None for all of each, of the tokens `indices` [n], None for every one."""

    shares: Tensor | None = None
    indices: Tensor | None = None


@dataclass(eq=False)
class _Kept:
    """What one fusion has on the device while a sampler runs."""

    weight: tuple[float, float] | None = None
    contexts: dict[Hashable, Context | None] = field(default_factory=dict)
    donors: dict[Hashable, Donor | None] = field(default_factory=dict)
    level: int | None = None
    maps: dict[Hashable, tuple[Tensor, Tensor]] = field(default_factory=dict)
    amounts: dict[Hashable, tuple[tuple[Where, ...], Amount]] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)


class Injection:
    """A bank with settings, at the places of a model. Methods return the very tensor that they were given where nothing changes.

    `tell` is called with what there is to tell the user, with each once a run.
    """

    def __init__(self, bank: FeatureBank, settings: FusionSettings, places: Sequence[str], tell: Callable[[str], None]) -> None:
        self.bank, self.settings, self.places = bank, settings, frozenset(places)
        self._tell = tell
        self._range = window_range(settings.window)
        self._strengths = {place: settings.shared_strength(place, self.places) for place in self.places}

    def fuse(self, place: str, x: Tensor, grid: Grid, call: Call, parts: Sequence[Part]) -> Tensor:
        """Tokens [B, N, C] or maps [B, C, h, w] that pass at a place, with the donor's change of expression in the rows of the parts."""
        weight = self.weight(place, call)
        donor = self._donor(place, call, x.device) if weight and parts else None
        if donor is None:
            return x

        def change(rows: Tensor, part: Part) -> Tensor:
            (where,) = part.where
            regions = self._map(where.regions, part.area, grid, call, x.device, grid_regions)
            mask = self._map(where.mask, part.area, grid, call, x.device, grid_mask)
            twin = self.settings.mode == "twin" and donor.neutral is not None  # whose change is held to the donor's own parts
            if self.settings.regions and regions is None and not (twin and donor.regions is not None):
                self._say(NOWHERE_HELD, call)
            return fusion.fuse(rows, donor, Target(grid, regions), self.settings, weight, mask)

        return _changed(x, [alike for part in parts for alike in _alike(part)], change)

    def add_context(self, place: str, x: Tensor, grid: Grid, call: Call, parts: Sequence[Part], attention: Attention) -> Tensor:
        """Outputs [B, N, C] of a cross-attention, with what another text makes of the same queries; computed where the masks let it act."""
        weight = self.weight(place, call)
        context = self._context(place, call, x.device) if weight and parts else None
        if context is None:
            return x

        def change(rows: Tensor, part: Part) -> Tensor:
            shares, indices = self._amount(part, grid, call, x.device)
            if indices is not None and not len(indices):
                return rows
            chosen = rows if indices is None else rows[:, indices]
            query = attention.query(part.rows, indices)
            fusion.check_channels(context.keys_e, query)
            difference = context_difference(query, *context, attention.heads)
            mask = None if shares is None else shares[:, None]
            row = Target((1, chosen.shape[1]))
            changed = fusion.add_change(chosen, _without_bias(attention.out, difference), row, self.settings, weight, mask)
            if indices is None:
                return changed
            whole = rows.clone()
            whole[:, indices] = changed  # `index_copy` has no kernel for MPS before PyTorch 2.8
            return whole

        return _changed(x, parts, change)

    def _kept(self, call: Call) -> _Kept:
        found: _Kept = call.kept.setdefault(self, _Kept())
        return found

    def _say(self, what: str, call: Call) -> None:
        told = self._kept(call).told
        if what not in told:
            told.add(what)
            self._tell(what)

    def weight(self, place: str, call: Call) -> float:
        """lambda_eff w(sigma); 0 at places that are not changed. The window is asked once for each sigma and not at every place."""
        if place not in self.places:
            return 0.0
        kept = self._kept(call)
        if kept.weight is None or kept.weight[0] != call.sigma:
            weight, told = step_weight(call.sigma, call.schedule, *self._range, call.continued)
            if told:
                self._say(told, call)
            kept.weight = call.sigma, weight
        return guidance_weight(self._strengths[place], call.cfg) * kept.weight[1]

    def _context(self, place: str, call: Call, device: torch.device) -> Context | None:
        """Keys and values, or None where they change nothing."""
        known, key = self._kept(call).contexts, (place, device)
        if key not in known:
            context = self.bank.context(place)
            equal = context is None or context.equal
            known[key] = None if context is None or equal else Context(*(_ready(part, device) for part in context))
        return known[key]

    def _donor(self, place: str, call: Call, device: torch.device) -> Donor | None:
        """The features of the sampler's noise level, or None where they change nothing."""
        level, kept = self.bank.level(call.sigma), self._kept(call)
        if level is None:
            self._say(f"the features have nothing for sigma {call.sigma:.3g}; nothing is changed there", call)
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

    def _amount(self, part: Part, grid: Grid, call: Call, device: torch.device) -> Amount:
        """By the masks of a part's rows, held to the settings' regions where they are known."""
        known, key = self._kept(call).amounts, (part.rows.start, part.area, grid, device)
        found = known.get(key)
        if found is not None and len(found[0]) == len(part.where) and all(map(_same, found[0], part.where)):
            return found[1]
        maps = [self._held(where, part.area, grid, call) for where in part.where]
        amount, ones = Amount(), torch.ones(grid)
        if any(one is not None for one in maps):
            shares = torch.stack([ones if one is None else one for one in maps]).flatten(1)
            indices = (shares > 0).any(0).nonzero().flatten()
            if len(indices) < MOST * shares.shape[1]:
                amount = Amount(upload(shares[:, indices], device), upload(indices, device))
            else:
                amount = Amount(upload(shares, device))
        known[key] = part.where, amount
        return amount

    def _held(self, where: Where, area: Area | None, grid: Grid, call: Call) -> Tensor | None:
        mask = None if where.mask is None else grid_mask(cut_area(where.mask, area), grid)
        if not self.settings.regions:
            return mask
        if where.regions is None:
            self._say(NOWHERE_HELD, call)
            return mask
        inside = held_to(grid_regions(cut_area(where.regions, area), grid), self.settings).unflatten(0, grid)
        return inside if mask is None else mask * inside

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
            known[key] = where, upload(resize(cut_area(where, area), grid), device)
        return known[key][1]


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, without making the host wait where that can be had."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        try:
            tensor = tensor.pin_memory()
        except RuntimeError:  # no more of that memory: the host waits
            return tensor.to(device)
        return tensor.to(device, non_blocking=True)
    return tensor.to(device)


def _ready(part: Tensor, device: torch.device) -> Tensor:
    """Keys or values on the device; in float32 where they need not be small, so that it is done once and not at each call."""
    return upload(part, device).float() if device.type == "cpu" else upload(part, device)


def _without_bias(out: Callable[[Tensor], Tensor], difference: Tensor) -> Tensor:
    """What a layer makes of a difference, without its bias, which is no part of one: that is what it makes of a zero token beside it."""
    projected = out(F.pad(difference, (0, 0, 0, 1)))
    return projected[:, :-1] - projected[:, -1:]


def _alike(part: Part) -> list[Part]:
    """The part cut where the place changes: matching is done with the regions of one face."""
    if len(part.where) == 1:
        return [part]
    found: list[Part] = []
    for row, where in enumerate(part.where, start=part.rows.start):
        if found and _same(found[-1].where[0], where):
            found[-1] = found[-1]._replace(rows=slice(found[-1].rows.start, row + 1))
        else:
            found.append(Part(slice(row, row + 1), (where,), part.area))
    return found


def _same(one: Where, other: Where) -> bool:
    return one.mask is other.mask and one.regions is other.regions


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


def cut_area(where: Tensor, area: Area | None) -> Tensor:
    """The area of a map [H, W], one pixel at the least."""
    if area is None:
        return where
    rows, columns = where.shape
    top, left = min(round(area[0] * rows), rows - 1), min(round(area[2] * columns), columns - 1)
    return where[top : max(round(area[1] * rows), top + 1), left : max(round(area[3] * columns), left + 1)]
