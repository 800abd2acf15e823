"""Where, when and how strongly expression features are fused: names of sites and places, settings, the window in sigma.

The paper names the attention and prints one site (skip connections of its blocks 2 and 3) and one window (0.3 T to 0.7 T); all other
sites, strengths and the ramps of the window are ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from ..errors import FaceExprError
from ..expressions import REGIONS
from ..schedule import BETAS, TIMESTEPS

CONTEXT_SITE = "cross_attention_difference"
"""The site whose features are what two texts say, not what was seen of a face."""

SITES = (CONTEXT_SITE, "cross_attention", "skip")
MODES = ("twin", "adain", "paper")
NEUTRAL_TEXT, EXPRESSION_TEXT = "neutral", "expression"
"""What the text of a picture asks for while features are fused into it."""
LAYERS = ("all", "decoder", "encoder")
SKIP_LEVELS = ("all", "1", "2", "3", "2+3")

PLACE = re.compile(r"(input|middle|output)\.\d+(\.\d+)?")
"""Names of places, in ComfyUI's numbering of blocks."""

MAX_STRENGTH = 4.0

PHOTO_LEVELS = 4

LEAST_WEIGHT = 0.1
"""Share of the full strength below which a step counts as outside the window (ours): it draws next to nothing, for which no face need be
looked for, and a schedule's only step there would leave it at that."""

RESPONSE = 0.36
"""See `FusionSettings.shared_strength`."""

WORDS_STRENGTH = 1.25
"""What strength 1 stands for at CONTEXT_SITE, in multiples of what the two texts differ by (ours).

On the two tuning people and settings of the ablation (`docs/measurements.md`), 1, 1.25 and 1.5 of that showed an expression of 0.74, 0.84
and 0.90 at a scaled identity of 0.86, 0.81 and 0.76; words alone 0.99 at 0.79. It was the strongest that kept the
person as well as words do, there and for six people with the first Mini, while an expression was held to the regions of its units. On
the whole face it shows 1.02 at 0.76, 0.85 of it 0.95 at 0.81.
"""

_UNITS = {CONTEXT_SITE: (WORDS_STRENGTH, WORDS_STRENGTH), "cross_attention": (3.0, 3.0), "skip": (0.8, 0.4)}
_PAPER_STRENGTH = 0.5


@dataclass(frozen=True)
class FusionSettings:
    """How expression features are fused. Raises FaceExprError for values out of range.

    `site`: one of SITES. `mode`: `twin` (only the change of expression travels), `adain` (no neutral twin) or `paper` (the printed
    formula). `strength` 0..4 multiplies the site's own default. `window`: shares of T, from low to high noise; (0.3, 0.7) is the
    published one. `layers`: `all`, `decoder` (with the middle) or `encoder`; for `skip` a level (`1`, `2`, `3`, `2+3`) or `all`.
    `temperature` is tau, `region_penalty` beta, `cap` kappa of `fusion`. Without `matching` a donor's token goes to the target's token
    of the same position. `regions`: names of `expressions.REGIONS` to which the change is held, () for all.
    """

    site: str = CONTEXT_SITE
    mode: str = "twin"
    strength: float = 1.0
    window: tuple[float, float] = (0.0, 0.8)
    layers: str = "all"
    temperature: float = 0.05
    region_penalty: float = 4.0
    cap: float = 3.0
    matching: bool = True
    regions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("site", self.site, SITES)
        _one_of("mode", self.mode, MODES)
        _one_of(f"choice of layers for the site {self.site}", self.layers, SKIP_LEVELS if self.site == "skip" else LAYERS)
        for name in self.regions:
            _one_of("region", name, tuple(REGIONS))
        require_between("strength", self.strength, 0, MAX_STRENGTH)
        require_between("temperature", self.temperature, 0.001, 10)
        require_between("region penalty", self.region_penalty, 0, 100)
        require_between("cap", self.cap, 0, 100)
        if len(self.window) != 2 or not 0 <= self.window[0] < self.window[1] <= 1:
            raise FaceExprError(f"the window is {self.window}; it needs two shares of the schedule, 0 <= low < high <= 1.")
        if self.mode != "twin" and self.site not in ("skip", "cross_attention"):
            raise FaceExprError(f"the mode {self.mode} works at the sites skip and cross_attention, not at {self.site}; choose twin there.")

    @property
    def units(self) -> tuple[float, float]:
        """lambda at strength 1: at the deepest level of skips, and at every other place.

        Ours: the difference of texts WORDS_STRENGTH, attention outputs 3, skips 0.8 at the deepest level and 0.4 elsewhere, the mode
        `paper` 0.5 (its l).
        """
        if self.mode == "paper":
            return _PAPER_STRENGTH, _PAPER_STRENGTH
        return _UNITS[self.site]

    def strength_at(self, place: str) -> float:
        """lambda at a place: the strength times the place's unit."""
        deepest, other = self.units
        return self.strength * (deepest if self.site == "skip" and _skip_level(place) == "3" else other)

    def shared_strength(self, place: str, places: Iterable[str]) -> float:
        """lambda at one of the places where features are fused (ours): at `cross_attention`, less where K blocks follow each other in one
        transformer, lambda / (1 + RESPONSE (1 - 1 / K)).

        What is added in one block comes back in what the next ones make of it by themselves. With Mini's blocks divided into 1, 2, 5 and 10
        steps each, which draw nearly the same, fusion moved the model 1.04, 1.27, 1.39 and 1.42 times as far as the words did.
        """
        strength = self.strength_at(place)
        if self.site != "cross_attention" or self.mode == "paper":
            return strength
        chain = sum(other.rpartition(".")[0] == place.rpartition(".")[0] for other in places)
        return strength / (1 + RESPONSE * (1 - 1 / max(chain, 1)))


def by_fusion_alone(text: str, expression_scale: float | None) -> bool:
    """Whether a picture into which features are fused is drawn of its neutral text: so NEUTRAL_TEXT asks, unless the expression is scaled
    at each step (None and 1: it is not), which needs both texts."""
    return text == NEUTRAL_TEXT and expression_scale in (None, 1.0)


def default_site(photo: bool) -> str:
    """Where to fuse unless told (ours): words by their difference, a photograph by what the base model's cross-attention makes of it.

    On Mini, on the neutral text of 6 people: `cross_attention_difference` 0.94 of expressions right at a likeness of 0.69 (0.95 at 0.77 at
    strength 0.8), `cross_attention` 0.88 at 0.65, `skip` 0.26; the expression's own text without fusion 0.94 at 0.72. A photograph cannot
    be put in words.
    """
    return "cross_attention" if photo else CONTEXT_SITE


def require_photo_site(site: str) -> None:
    """Raise FaceExprError for the site at which no photo can be recorded."""
    if site == CONTEXT_SITE:
        raise FaceExprError(f"the site {site} takes an expression from words alone. Choose cross_attention, or leave the photo out.")


def default_levels(photo: bool) -> int | None:
    """How many noise levels are recorded, None for all (ours): of a photo, whose features are large, some stand for all.

    On Mini four of 16 draw nearly the same (0.4 of 255 apart, where the fusion changes 3.4) and bring as many expressions out right.
    """
    return PHOTO_LEVELS if photo else None


def site_settings(site: str) -> FusionSettings:
    """What to start from at a site (ours).

    Of attention the decoder alone: on two people of Mini all layers showed hardly more of an expression (0.75 and 0.74, at a scaled
    identity of 0.86 both), and their features are half as large again (48.9 MB and 32.3 at 1024 px). They take no more time on Mini.
    """
    if site == "skip":
        return FusionSettings(site=site, layers="2+3", cap=1.0)
    return FusionSettings(site=site, layers="decoder")


def words_settings(strength: float) -> FusionSettings:
    """`site_settings` of the place where words are fused, at a strength."""
    return replace(site_settings(default_site(photo=False)), strength=strength)


def paper_settings() -> FusionSettings:
    """The published recipe: skip connections of blocks 2 and 3 (inputs 4, 5, 7, 8), 0.3 T to 0.7 T, the printed formula."""
    return replace(site_settings("skip"), mode="paper", window=(0.3, 0.7))


def select_places(site: str, layers: str, places: Iterable[str]) -> tuple[str, ...]:
    """Those of a U-Net's places that `layers` names, in their order.

    `skip`: inputs 1, 2 are level 1, 4, 5 level 2 and 7, 8 level 3; inputs 0, 3 and 6 (the first convolution and the downsamplers)
    are only in `all`.
    """
    if layers == "all":
        return tuple(places)
    if site == "skip":
        return tuple(place for place in places if _skip_level(place) in layers.split("+"))
    kinds = ("input",) if layers == "encoder" else ("middle", "output")
    return tuple(place for place in places if place.split(".")[0] in kinds)


def region_ids(names: Iterable[str]) -> tuple[int, ...]:
    """Numbers of regions in a map of regions: 1.. in the order of `expressions.REGIONS`; 0 is no region."""
    return tuple(1 + list(REGIONS).index(name) for name in names)


def sigma_at(share: float) -> float:
    """Sigma of SDXL's schedule at timestep share T, share in 0..1; between timesteps its logarithm is linear.

    ComfyUI's `percent_to_sigma(1 - share)` counts to 999 instead of T, which is up to 0.3 % less.
    """
    sigmas = _schedule()
    position = min(max(share, 0.0) * TIMESTEPS, TIMESTEPS - 1.0)
    low = math.floor(position)
    part, high = position - low, min(low + 1, TIMESTEPS - 1)
    return math.exp((1 - part) * math.log(sigmas[low]) + part * math.log(sigmas[high]))


def window_range(window: tuple[float, float]) -> tuple[float, float]:
    """(sigma_low, sigma_high) of a window in shares of T; 0 and infinity where it reaches the schedule's end."""
    low, high = window
    return (sigma_at(low) if low > 0 else 0.0), (sigma_at(high) if high < 1 else math.inf)


def window_weight(sigma: float, sigma_low: float, sigma_high: float, ramp: float = 0.1) -> float:
    """w(sigma) in 0..1: a raised cosine in log sigma over the first and last `ramp` of the window, 1 between, exactly 0 outside, and where
    it would be less than LEAST_WEIGHT.

    An end beyond SDXL's schedule (0 or infinity) is open: no ramp there.
    """
    if sigma <= 0 or not sigma_low <= sigma <= sigma_high:
        return 0.0
    first, last = _schedule()[0], _schedule()[-1]
    low, high = math.log(max(sigma_low, first)), math.log(min(sigma_high, last))
    width = ramp * (high - low)
    weight = 1.0
    if sigma_low >= first:
        weight *= _rise(math.log(sigma) - low, width)
    if sigma_high <= last:
        weight *= _rise(high - math.log(sigma), width)
    return weight if weight >= LEAST_WEIGHT else 0.0


def window_sigmas(sigmas: Sequence[float], sigma_low: float, sigma_high: float) -> tuple[int, ...]:
    """Indices of a sampler's sigmas with a weight above 0 in the window.

    If there is none, the one nearest in log sigma: its `window_weight` is 0, by which the caller knows, says so, and takes 1.
    Zeros (the end of a run) never count. () only when nothing but zeros was given.
    """
    inside = tuple(i for i, sigma in enumerate(sigmas) if window_weight(sigma, sigma_low, sigma_high) > 0)
    positive = [i for i, sigma in enumerate(sigmas) if sigma > 0]
    if inside or not positive:
        return inside
    low, high = math.log(max(sigma_low, _schedule()[0])), math.log(min(sigma_high, _schedule()[-1]))
    return (min(positive, key=lambda i: abs(math.log(sigmas[i]) - (low + high) / 2)),)


def step_weight(sigma: float, schedule: Sequence[float], sigma_low: float, sigma_high: float, continued: bool = False) -> tuple[float, str]:
    """w(sigma) at a step of a sampler that visits `schedule`, and what there is to tell of it ("" for nothing).

    Where no step of the schedule has a weight in the window, the nearest one (`window_sigmas`) has 1, and that is told. Not so in a part of
    a schedule, whose other steps are another sampler's: one that ends above 0, or that goes on (`continued`) with what another one left.
    """
    weight = window_weight(sigma, sigma_low, sigma_high)
    if weight or not schedule:
        return weight, ""
    if continued or schedule[-1] > 0:
        told = (
            f"no step of this part of the schedule, sigma {schedule[0]:.3g} to {schedule[-1]:.3g}, lies well inside the window; nothing is "
            "changed"
        )
        return 0.0, "" if any(window_weight(step, sigma_low, sigma_high) for step in schedule[:-1]) else told
    chosen = [schedule[index] for index in window_sigmas(schedule, sigma_low, sigma_high)]
    if len(chosen) != 1 or window_weight(chosen[0], sigma_low, sigma_high):
        return 0.0, ""
    nearest = abs(sigma - chosen[0]) <= 1e-4 * chosen[0]
    return float(nearest), f"no step of this schedule lies well inside the window; the nearest, sigma {chosen[0]:.3g}, is used"


def guidance_weight(strength: float, cfg: float) -> float:
    """lambda_eff = lambda min(1, 5 / cfg) (ours): guidance multiplies what is added to conditional rows."""
    return strength * min(1.0, 5.0 / cfg) if cfg > 0 else strength


def _rise(distance: float, width: float) -> float:
    return 0.5 - 0.5 * math.cos(math.pi * min(distance / width, 1.0)) if width > 0 else 1.0


def _skip_level(place: str) -> str:
    """Level of the input block that made a skip, for SDXL's two layers a level; `` for downsamplers and the first convolution."""
    level, layer = divmod(int(place.split(".")[1]), 3)
    return str(level + 1) if layer else ""


@cache
def _schedule() -> tuple[float, ...]:
    """sigma of every timestep: betas linear in their roots, as SDXL was trained."""
    start, end = (math.sqrt(beta) for beta in BETAS)
    kept, sigmas = 1.0, []
    for step in range(TIMESTEPS):
        kept *= 1 - (start + (end - start) * step / (TIMESTEPS - 1)) ** 2
        sigmas.append(math.sqrt((1 - kept) / kept))
    return tuple(sigmas)


def _one_of(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise FaceExprError(f"'{value}' is no {what}; it must be one of: {', '.join(allowed)}.")


def require_between(what: str, value: float, low: float, high: float) -> None:
    """Raise FaceExprError for a value outside of low..high, and for what is no number."""
    if not low <= value <= high:
        raise FaceExprError(f"the {what} is {value:g}; it must lie between {low:g} and {high:g}.")
