"""Arms of a comparison, written as words.

    text                                        the expression by text alone
    text:intensity=1.25    text:scale=1.5       more of it: stronger words, or the epsilon mode
    none                                        the neutral text alone
    cross_attention                             a site with its defaults, on top of the text
    cross_attention:strength=2,window=0-0.8,layers=decoder
    cross_attention:strength=0.5/1/2            three arms
    paper                                       the published recipe

Settings of fusion: strength, window, layers, mode, temperature, region_penalty, cap, matching (yes, no), regions (brows+eyes).
Besides: `target` expression or neutral (the text of the picture drawn); `donor` text (a twin from the same noise), photo (of another
person, with a second, neutral photo), photo-drawn (its neutral twin drawn by the model), photo-alone (none), photo-aside (as photo, the
face a fifth of the picture beside its place); `keep` all or face (the tokens recorded); `mask` twin (where the donor's face is), own
(where the picture's own face is), look (where it is seen in the picture's own steps, as the sampler does), none; `auto` takes twin for a
twin and none for a photo, as the nodes do, and none for `paper`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.arms import one_of
from faceexpr_core.fusion.settings import SITES, FusionSettings, paper_settings, site_settings

TARGETS = ("expression", "neutral")
DONORS = ("text", "photo", "photo-drawn", "photo-alone", "photo-aside")
KEEPS = ("all", "face")
MASKS = ("auto", "twin", "own", "look", "none")
_FLOATS = ("strength", "temperature", "region_penalty", "cap")


@dataclass(frozen=True)
class Arm:
    """`name` is how it was written. `fusion` None: text alone, with `intensity` and `scale` (epsilon mode)."""

    name: str
    fusion: FusionSettings | None
    target: str = "expression"
    donor: str = "text"
    keep: str = "all"
    mask: str = "none"
    intensity: float = 1.0
    scale: float | None = None

    @property
    def from_photo(self) -> bool:
        return self.fusion is not None and self.donor != "text"

    def meaning(self) -> dict[str, Any]:
        """All fields, and of fusion what strength 1 stands for, which may change with the code."""
        return asdict(self) if self.fusion is None else {**asdict(self), "strength 1": self.fusion.units}


BASELINE = Arm("text", None)
"""What every arm is compared with."""


def parse_arms(words: Iterable[str], target: str = "expression") -> list[Arm]:
    """Arms of words, each once, with BASELINE first; `target` is that of fusion arms which name none. Raises FaceExprError."""
    arms = {BASELINE.name: BASELINE}
    for word in words:
        for single in _alternatives(word):
            arms.setdefault(single, _arm(single, target))
    return list(arms.values())


def _alternatives(word: str) -> list[str]:
    """`a:x=1/2,y=3` -> `a:x=1,y=3`, `a:x=2,y=3`."""
    site, _, rest = word.partition(":")
    if not rest:
        return [site]
    parts = [[f"{key}={value}" for value in values.split("/")] for key, _, values in (part.partition("=") for part in rest.split(","))]
    return [f"{site}:{','.join(chosen)}" for chosen in itertools.product(*parts)]


def _arm(word: str, target: str) -> Arm:
    site, _, rest = word.partition(":")
    try:
        given = dict(part.split("=", 1) for part in rest.split(",")) if rest else {}
        if site in ("text", "none"):
            return _text_arm(word, site, given)
        if site != "paper" and site not in SITES:
            raise FaceExprError(f"it names no site: text, none, paper, {', '.join(SITES)}")
        drawn = one_of("target", given.pop("target", target), TARGETS)
        donor = one_of("donor", given.pop("donor", "text"), DONORS)
        keep = one_of("keep", given.pop("keep", "all"), KEEPS)
        mask = one_of("mask", given.pop("mask", "auto"), MASKS)
        if mask == "auto":
            mask = "twin" if donor == "text" and site != "paper" else "none"
        settings = paper_settings() if site == "paper" else site_settings(site)
        return Arm(word, replace(settings, **_settings(given)), drawn, donor, keep, mask)
    except (FaceExprError, ValueError, TypeError) as reason:
        raise FaceExprError(f"the arm '{word}' cannot be read: {reason}. See python -m lab.benchmarks.fusion_sites --help.") from reason


def _text_arm(word: str, site: str, given: Mapping[str, str]) -> Arm:
    known = {key: float(value) for key, value in given.items() if key in ("intensity", "scale")}
    if len(known) != len(given):
        raise FaceExprError(f"a text takes intensity and scale, not {', '.join(set(given) - set(known))}")
    arm = Arm(word, None, intensity=known.get("intensity", 1.0), scale=known.get("scale"))
    return replace(arm, target="neutral") if site == "none" else arm


def _settings(given: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = dict(given)
    values |= {key: float(value) for key, value in given.items() if key in _FLOATS}
    if "window" in given:
        low, high = given["window"].split("-")
        values["window"] = (float(low), float(high))
    if "matching" in given:
        values["matching"] = one_of("matching", given["matching"], ("yes", "no")) == "yes"
    if "regions" in given:
        values["regions"] = tuple(given["regions"].split("+"))
    return values
