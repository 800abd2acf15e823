"""Expression features: what was recorded of a donor's U-Net, place by place and sigma by sigma."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import FaceExprError
from .grids import Grid, grid_regions
from .operator import Donor
from .settings import CONTEXT_SITE, PLACE, SITES, FusionSettings, select_places

BANK_MODES = ("twin", "single")
SIGMA_TOLERANCE = 0.05
"""Features recorded at a sigma serve sigmas within 5 %."""

_KEY = re.compile(rf"(?P<place>{PLACE.pattern})(@(?P<index>\d+):(?P<which>[nec])|:(?P<context>[ne]:[kv]))")


class Context(NamedTuple):
    """Keys and values [1, T, C] of one cross-attention for the expression and for the neutral text (`fusion.context_difference`)."""

    keys_e: Tensor
    values_e: Tensor
    keys_n: Tensor
    values_n: Tensor

    @property
    def equal(self) -> bool:
        """Both texts say the same."""
        return torch.equal(self.keys_e, self.keys_n) and torch.equal(self.values_e, self.values_n)


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """Recorded features, float16 on the CPU. Raises FaceExprError when its parts do not fit each other.

    `site`: one of `fusion.SITES`. `mode`: `twin`, or `single` without a neutral twin. `sigmas`: falling; () for
    `cross_attention_difference`, whose keys and values belong to no sigma.
    `tokens`: `place@i:n` and `place@i:e` hold the neutral and the expression's features at sigma i, [1, M, C], `place@i:c`
    the neutral map's mean [1, 1, C] when only part of it is kept; `place:n:k`, `place:n:v`, `place:e:k`, `place:e:v` the keys and
    values [1, T, C] of `cross_attention_difference`.
    `grids`: place -> (h, w) of the whole map. `mask`: float32 [H, W] in 0..1, where the expression acts, None for everywhere.
    `regions`: uint8 [H, W], region numbers (0 none, 1.. in the order of `expressions.REGIONS`). `notes`: where it comes from, as text.
    `kept`: grid -> int32 [M], the row-major positions of the tokens that are kept; grids not in it are whole.
    `sparse`: some of a sampler's sigmas stand for all: each serves the noise levels between it and its neighbours.
    """

    site: str
    mode: str
    sigmas: tuple[float, ...]
    tokens: Mapping[str, Tensor]
    grids: Mapping[str, Grid]
    mask: Tensor | None = None
    regions: Tensor | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[Grid, Tensor] = field(default_factory=dict)
    sparse: bool = False
    _regions_of: dict[Grid, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.site not in SITES or self.mode not in BANK_MODES:
            raise FaceExprError(f"no features are known of the site '{self.site}' and the mode '{self.mode}'.")
        falling = all(a > b for a, b in itertools.pairwise(self.sigmas))
        if not falling or not all(0 < sigma < math.inf for sigma in self.sigmas):
            raise FaceExprError(f"the sigmas of expression features must fall and lie above 0; given were {self.sigmas}.")
        for name, what, kind in (("mask", self.mask, torch.float32), ("regions", self.regions, torch.uint8)):
            if what is not None and (what.dim() != 2 or what.dtype != kind):
                raise FaceExprError(f"the {name} of the features is {what.dtype} {tuple(what.shape)}; needed: {kind} of two dimensions.")
        for grid, kept in self.kept.items():
            if kept.dtype != torch.int32 or kept.dim() != 1 or len(kept) == 0 or kept.min() < 0 or kept.max() >= grid[0] * grid[1]:
                raise FaceExprError(f"the positions of the features kept on the grid {grid} do not lie on it.")
        for key, value in self.tokens.items():
            self._check(key, value)

    def donor(self, place: str, sigma: float) -> Donor | None:
        """What was recorded at a place for the nearest sigma in log, or None when that is too far away (over 5 %, or beyond a sparse bank's
        spacing) or nothing was recorded."""
        index = self.level(sigma)
        expression = None if index is None else self.tokens.get(f"{place}@{index}:e")
        neutral = self.tokens.get(f"{place}@{index}:n")
        if expression is None or (neutral is None and self.mode == "twin"):
            return None
        grid = self.grids[place]
        return Donor(neutral, expression, grid, self._token_regions(grid), self.kept.get(grid), self.tokens.get(f"{place}@{index}:c"))

    def context(self, place: str) -> Context | None:
        """Keys and values of `cross_attention_difference` at a place, or None."""
        parts = [self.tokens.get(f"{place}:{which}") for which in ("e:k", "e:v", "n:k", "n:v")]
        return None if any(part is None for part in parts) else Context(*parts)  # type: ignore[arg-type]

    def places(self) -> tuple[str, ...]:
        """Places with features, in the order of recording."""
        return tuple(dict.fromkeys(parse_key(key)["place"] for key in self.tokens))

    @property
    def says_nothing(self) -> bool:
        """Both texts of `cross_attention_difference` say the same: nothing would change."""
        contexts = [self.context(place) for place in self.places()] if self.site == CONTEXT_SITE else [None]
        return all(context is not None and context.equal for context in contexts)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        parts = [*self.tokens.values(), *self.kept.values(), self.mask, self.regions]
        return sum(part.nbytes for part in parts if part is not None)

    def get_ram_usage(self) -> int:
        """By this name ComfyUI asks what to let go first when memory is short (`--cache-ram`)."""
        return self.nbytes

    def level(self, sigma: float) -> int | None:
        """Index of the noise level that serves a sigma: the nearest in log, or None when that is too far away (see `donor`)."""
        if sigma <= 0 or not self.sigmas:
            return None
        distances = [abs(math.log(sigma / known)) for known in self.sigmas]
        nearest = min(distances)
        index = distances.index(nearest)
        reach = math.log(1 + SIGMA_TOLERANCE)
        if self.sparse:
            around = self.sigmas[max(index - 1, 0) : index + 2]
            reach = max(reach, *(math.log(a / b) for a, b in itertools.pairwise(around))) if len(around) > 1 else math.inf
        return index if nearest <= reach else None

    def _token_regions(self, grid: Grid) -> Tensor | None:
        if self.regions is None:
            return None
        if grid not in self._regions_of:
            whole = grid_regions(self.regions, grid)
            self._regions_of[grid] = whole[self.kept[grid].long()] if grid in self.kept else whole
        return self._regions_of[grid]

    def _check(self, key: str, value: Tensor) -> None:
        parts = parse_key(key)
        if value.dtype != torch.float16:
            raise FaceExprError(f"the features '{key}' are {value.dtype}; needed: torch.float16.")
        if parts["context"]:
            fits = self.site == CONTEXT_SITE and value.dim() == 3
        else:
            grid = self.grids.get(parts["place"], (0, 0))
            count = len(self.kept[grid]) if grid in self.kept else grid[0] * grid[1]
            shape = (1, 1 if parts["which"] == "c" else count, value.shape[-1])
            fits = int(parts["index"]) < len(self.sigmas) and count > 0 and value.shape == shape
        if not value.isfinite().all():
            raise FaceExprError(f"the features '{key}' are not all finite numbers; use another precision and extract them again.")
        if not fits:
            raise FaceExprError(f"the features '{key}' of shape {tuple(value.shape)} do not fit their grid, site and sigmas.")


def fused_places(bank: FeatureBank, settings: FusionSettings, known: Iterable[str]) -> tuple[str, ...]:
    """The places where features are fused into a model that has the places `known`. Raises FaceExprError where bank, settings and model
    do not belong together."""
    if settings.site != bank.site:
        raise FaceExprError(f"the features were recorded at {bank.site}; they cannot be fused at {settings.site}. Extract them there.")
    places = select_places(bank.site, settings.layers, bank.places())
    if unknown := set(places) - set(known):
        raise FaceExprError(
            f"this model has no place {min(unknown)}; the features come from another kind of model. Extract them with this one."
        )
    return places


def parse_key(key: str) -> dict[str, str]:
    """`place`, `index`, `which` and `context` of a key of `FeatureBank.tokens`. Raises FaceExprError."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise FaceExprError(f"'{key}' names no features.")
    return found.groupdict()
