"""The evidence in small: what each part of the method changes, on one rendered man whose only photo smiles, in twenty steps of training.

Signs alone, with a wide margin; the figures, with intervals over ten people, are `python -m lab.benchmarks.ablation`'s and those of the
other pieces of `make evidence`. Each arm differs from the one it is held against in one part.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rendered import COLUMNS, rendered_people

from faceexpr_core import mini
from faceexpr_core.diffusers_host import donors, encoding, sampling
from faceexpr_core.diffusers_host.fusion import Fusion
from faceexpr_core.expressions import EXPRESSIONS
from faceexpr_core.faces.images import read_images
from faceexpr_core.fusion.run import Run
from faceexpr_core.fusion.settings import default_site, paper_settings, site_settings
from faceexpr_core.measure.expression import ExpressionMeter, intensity_of
from faceexpr_core.measure.identity import IdentityMeter
from faceexpr_core.measure.judges import Picture
from faceexpr_core.photos.subject import SubjectSettings, prepare_subject
from faceexpr_core.text import ExpressionPrompt, build_prompts, expression_terms
from faceexpr_core.training.crafting import build_crafting_set
from faceexpr_core.training.data import build_training_set
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.prior import ClassImage, build_class_set
from faceexpr_core.training.settings import TrainSettings
from lab.benchmarks.drawing import Schedule, draw

MAN, ANOTHER_MAN = rendered_people()[1:]
REST, SMILE = COLUMNS.index("neutral"), COLUMNS.index("happy")
PERSON, CLASS = "a photo of ohwx man", "a photo of a man"
COMMON: dict[str, Any] = {"steps": 20, "learning_rate": 4e-3, "rank": 4, "batch_size": 1, "accumulation": 1, "seed": 1}
ARMS: dict[str, dict[str, Any]] = {
    "recipe": {"captions": False},
    "captions": {},
    "prior": {"prior": "images"},
    "crafting": {"crafting_weight": 0.3, "crafting_every": 2},
}
HOW = Schedule(steps=8, cfg=4.0, side=mini.RESOLUTION)
NOISES = (0, 1)
FUSED = ("angry", "happy")


@dataclass(frozen=True)
class Meters:
    expression: ExpressionMeter
    identity: IdentityMeter

    def strength(self, picture: Picture, rest: Picture, expression: str) -> float:
        """How strongly a face shows an expression, 1 a usual full one; 0 where there is no face."""
        face, resting = (self.expression.face(one) for one in (picture, rest))
        return intensity_of(face, resting, expression) if face is not None and resting is not None else 0.0

    def alike(self, one: Picture, other: Picture) -> float:
        return self.identity.similarity(one, self.identity.reference([other])) or 0.0


@pytest.fixture(scope="module")
def meters(model_folder: Path) -> Meters:
    expression = ExpressionMeter([model_folder])
    return Meters(expression, IdentityMeter([model_folder], expression.detector))


Words = Callable[[str, str], ExpressionPrompt]


@pytest.fixture(scope="module")
def words(pipe) -> Words:
    count = partial(encoding.count_tokens, pipe)
    return lambda prompt, expression: build_prompts(prompt, expression_terms(expression), count)


@pytest.fixture(scope="module")
def learned(pipe, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A pipeline of each arm, with what it learned in its U-Net."""
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(MAN[SMILE]).save(folder / "smiling.png")
    subject = prepare_subject(read_images(folder), SubjectSettings(class_word="man", resolution=mini.RESOLUTION, framing="whole picture"))
    assert [photo.caption for photo in subject.photos] == [f"{PERSON}, happy expression"]
    text, images = partial(encoding.encode_prompts, pipe), partial(encoding.encode_images, pipe)
    captioned = [ClassImage(one, f"{CLASS}, {EXPRESSIONS[name].phrase}") for one, name in zip(ANOTHER_MAN, COLUMNS, strict=True)][1:]
    others = build_class_set(captioned, text, images)
    pairs = build_crafting_set(subject, text, partial(encoding.count_tokens, pipe))
    found = {}
    for arm, changes in ARMS.items():
        settings = TrainSettings(**{**COMMON, **changes})
        data = build_training_set(subject, text, images, 0.3, settings.captions)
        own = copy.copy(pipe)
        own.unet = copy.deepcopy(pipe.unet)
        result = train_lora(own.unet, data, settings, class_images=others, crafting=pairs)
        assert result.stopped_by is None
        own.unet.eval()
        found[arm] = own
    return found


def noise_of(pipe: Any, latent: torch.Tensor, sigma: float, *prompts: str) -> torch.Tensor:
    """What the U-Net takes for noise in one noisy latent, for each prompt."""
    noisy = latent[None] + sigma * torch.randn(1, *latent.shape, generator=torch.Generator().manual_seed(3))
    return sampling.predict_epsilon(pipe, noisy.repeat(len(prompts), 1, 1, 1), sigma, *encoding.encode_prompts(pipe, list(prompts)))


@pytest.fixture(scope="module")
def unseen(pipe) -> torch.Tensor:
    """Latents of a picture at rest of each man."""
    return encoding.encode_images(pipe, torch.from_numpy(np.stack([MAN[REST], ANOTHER_MAN[REST]])))


def test_a_caption_keeps_the_smile_of_the_photo_out_of_the_person(learned, words, meters) -> None:
    def smile(arm: str) -> float:
        drawn = [draw(learned[arm], [words(PERSON, "neutral")], noise, HOW)[0] for noise in NOISES]
        return float(np.mean([meters.strength(one, MAN[REST], "happy") for one in drawn]))

    assert smile("captions") < smile("recipe") - 0.15


def test_prior_preservation_keeps_the_class_where_it_was(pipe, learned, unseen) -> None:
    def drift(arm: str) -> float:
        moved = [noise_of(learned[arm], unseen[1], sigma, CLASS) - noise_of(pipe, unseen[1], sigma, CLASS) for sigma in (4.0, 1.5, 0.6)]
        return float(np.mean([float(one.square().mean()) for one in moved]))

    assert drift("prior") < 0.8 * drift("captions")


def test_crafting_turns_what_the_words_change_towards_what_they_change_without_the_lora(pipe, learned, unseen, words) -> None:
    asked = [(expression, sigma) for expression in ("happy", "angry") for sigma in (1.5, 0.6)]

    def changes(one: Any, prompt: str) -> list[torch.Tensor]:
        pairs = [(words(prompt, expression), sigma) for expression, sigma in asked]
        seen = [noise_of(one, unseen[0], sigma, pair.neutral, pair.expressions[0]) for pair, sigma in pairs]
        return [(expressive - neutral).flatten() for neutral, expressive in seen]

    of_the_base = changes(pipe, CLASS)

    def apart(arm: str) -> float:
        pairs = zip(changes(learned[arm], PERSON), of_the_base, strict=True)
        return 1 - float(np.mean([float(torch.cosine_similarity(*pair, dim=0)) for pair in pairs]))

    assert apart("crafting") < 0.7 * apart("captions")


def test_intensities_come_out_in_their_order(pipe, meters) -> None:
    count, steps = partial(encoding.count_tokens, pipe), (0.3, 0.65, 1.0)
    asked = [build_prompts(CLASS, expression_terms("happy", one), count) for one in (0.0, *steps)]
    rest, *drawn = draw(pipe, asked, 0, HOW)
    read = [meters.strength(one, rest, "happy") for one in drawn]
    assert read[0] + 0.1 < read[1] < read[2] - 0.1


def test_fusion_brings_the_expression_to_a_neutral_text_and_keeps_more_than_words_do(pipe, learned, words, meters) -> None:
    """The paper's formula at the paper's places brings little of it."""
    own, run = learned["captions"], Run(0, steps=HOW.steps, cfg=HOW.cfg, width=HOW.side, height=HOW.side)
    ours = site_settings(default_site(photo=False))
    fusions: list[Fusion] = []
    for name in FUSED:
        (one,), _ = donors.own_donors(pipe, words(CLASS, name), ours, run, 1)
        fusions.append(one)
    paper = Fusion(donors.draw_donors(pipe, words(CLASS, FUSED[0]), paper_settings(), run).bank, paper_settings())
    neutral, *by_words = draw(own, [words(PERSON, name) for name in ("neutral", *FUSED)], 0, HOW)
    *fused, as_printed = draw(own, [words(PERSON, "neutral")] * 3, 0, HOW, [*fusions, paper])

    def mean(pictures: Sequence[Picture], of: Callable[[Picture], float]) -> float:
        return float(np.mean([of(one) for one in pictures]))

    strengths = [meters.strength(one, neutral, name) for one, name in zip(fused, FUSED, strict=True)]
    assert min(strengths) > 0.25
    assert meters.strength(as_printed, neutral, FUSED[0]) < 0.5 * strengths[0]
    assert mean(fused, partial(meters.alike, neutral)) > mean(by_words, partial(meters.alike, neutral)) + 0.05

    def above_the_face(one: Picture) -> float:
        return float(np.abs(one[:40].astype(int) - neutral[:40]).mean())

    assert mean(fused, above_the_face) < 0.6 * mean(by_words, above_the_face)
