"""Donors of expressions for a comparison: recorded at every sigma and place, once, and kept in files for all arms and subjects."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceexpr_core import text
from faceexpr_core.diffusers_host import encoding
from faceexpr_core.diffusers_host.donors import draw_donors
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.run import write_picture
from faceexpr_core.fusion.bank import FeatureBank
from faceexpr_core.fusion.donor_faces import crop_photos, twins_picture
from faceexpr_core.fusion.donors import Donors
from faceexpr_core.fusion.recorder import load_bank, save_bank
from faceexpr_core.fusion.run import Run
from faceexpr_core.fusion.settings import FusionSettings, site_settings
from faceexpr_core.measure.identity import IdentityMeter
from faceexpr_core.measure.judges import Picture

from .arms import Arm
from .drawing import Schedule
from .store import file_name, write_json
from .subjects import DONOR_STEP, Person, expressive_photo, person
from .tools import meters, pipeline

ASIDE = 0.2
"""How far a photo `aside` is moved, as a share of its side."""
PHOTO_NOISE = 0
"""One noise for a photo's features, whatever the noise of the pictures drawn with them."""

_NEUTRAL_OF = {"photo": "drawn", "photo-aside": "drawn", "photo-drawn": "drawn", "photo-alone": "none"}
"""What is done where there is no neutral photo; `photo` and `photo-aside` have one."""


@dataclass(frozen=True)
class Wanted:
    """One donor: `source` is one of arms.DONORS, `who` the class word of a text or the seed of the person on the photo."""

    source: str
    who: str
    class_word: str
    noise: int
    expression: str
    site: str
    keep: str


@dataclass(frozen=True)
class Kept:
    """Donors in `folder`. `prompt` has `{class}` where the class word goes."""

    work: Path
    folder: Path
    model: str
    how: Schedule
    prompt: str

    def __call__(self, wanted: Wanted) -> str:
        """Record a donor unless its file is there; its name."""
        path = self._path(wanted)
        if not path.exists():
            donors = _draw(self, wanted)
            write_picture(path.with_suffix(".png"), twins_picture(donors.twins, donors.bank.mask))
            vector = _looks(self.work, wanted, donors)
            write_json(path.with_suffix(".json"), {"report": donors.report, "looks": None if vector is None else vector.tolist()})
            save_bank(donors.bank, path)
        return path.name

    def bank(self, wanted: Wanted) -> FeatureBank:
        return load_bank(self._path(wanted))

    def looks(self, wanted: Wanted) -> NDArray[np.float32] | None:
        """Unit vector [128] of the donor's face, None where none was found."""
        vector = json.loads(self._path(wanted).with_suffix(".json").read_text())["looks"]
        return None if vector is None else np.array(vector, np.float32)

    def _path(self, wanted: Wanted) -> Path:
        parts = (wanted.source, wanted.who, wanted.class_word, wanted.noise, wanted.expression, wanted.site, wanted.keep)
        return self.folder / f"{file_name('_'.join(map(str, parts)))}.safetensors"


def wanted_by(arm: Arm, one: Person, noise: int, expression: str) -> Wanted | None:
    """The donor that an arm needs for a picture, None for text alone."""
    if arm.fusion is None:
        return None
    if arm.from_photo:
        return Wanted(arm.donor, str(one.seed + DONOR_STEP), one.gender, PHOTO_NOISE, expression, arm.fusion.site, arm.keep)
    return Wanted("text", one.gender, one.gender, noise, expression, arm.fusion.site, arm.keep)


def expression_prompt(model: str, prompt: str, class_word: str, expression: str, intensity: float = 1.0) -> text.ExpressionPrompt:
    """The prompt (with `{class}`) for an expression of the vocabulary."""
    words = prompt.replace("{class}", class_word)
    return text.build_prompts(words, text.expression_terms(expression, intensity), partial(encoding.count_tokens, pipeline(model)))


def _draw(kept: Kept, wanted: Wanted) -> Donors:
    pipe = pipeline(kept.model)
    prompt = expression_prompt(kept.model, kept.prompt, wanted.class_word, wanted.expression)
    run = Run(seed=wanted.noise, steps=kept.how.steps, cfg=kept.how.cfg, width=kept.how.side, height=kept.how.side)
    if wanted.source == "text":
        return draw_donors(pipe, prompt, _everywhere(wanted.site), run, expression=wanted.expression, keep=wanted.keep)
    donor = int(wanted.who)
    neutral = expressive_photo(kept.work, donor, "neutral") if wanted.source in ("photo", "photo-aside") else None
    crops = crop_photos(expressive_photo(kept.work, donor, wanted.expression), neutral, kept.how.side, meters().expression.detector)
    if wanted.source == "photo-aside":
        crops = replace(crops, photo=_aside(crops.photo), neutral=None if crops.neutral is None else _aside(crops.neutral))
    return draw_donors(
        pipe,
        prompt,
        _everywhere(wanted.site),
        run,
        crops,
        neutral=_NEUTRAL_OF[wanted.source],
        expression=wanted.expression,
        keep=wanted.keep,
    )


def _aside(picture: Picture) -> Picture:
    """The picture moved down and to the right by a fifth of its side; its edge fills what becomes free."""
    import cv2

    by = round(ASIDE * len(picture))
    moved = cv2.copyMakeBorder(picture, by, 0, by, 0, cv2.BORDER_REPLICATE)[: len(picture), : picture.shape[1]]
    return np.ascontiguousarray(moved)


def _everywhere(site: str) -> FusionSettings:
    return replace(site_settings(site), window=(0.0, 1.0), layers="all")


def _looks(work: Path, wanted: Wanted, donors: Donors) -> NDArray[np.float32] | None:
    if wanted.source != "text":
        return person(work, int(wanted.who)).reference
    identity: IdentityMeter = meters().identity
    try:
        return identity.reference(picture for picture in (donors.twins.neutral, donors.twins.expression) if picture is not None)
    except FaceExprError:
        return None
