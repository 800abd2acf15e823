"""Mini is good enough to try things on. Bounds lie below what `lab.recipe.check` measures; its README has the figures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rendered import rendered_people

from faceexpr_core import mini, text
from faceexpr_core.diffusers_host import encoding
from faceexpr_core.measure.expression import CLASSES, ExpressionMeter
from faceexpr_core.measure.identity import IdentityMeter
from lab.benchmarks.drawing import Schedule, draw

CAPTIONS = (
    "a photo of a young woman, tan skin, long red hair, blue background",
    "a photo of a middle-aged man, fair skin, short black hair, green background",
    "a photo of an old man, brown skin, short grey hair, white background",
)
VAE_KEEPS = 0.84
EXPRESSIONS_RIGHT = 0.75
HOW = Schedule(steps=12, cfg=4.0, side=mini.RESOLUTION)


@pytest.fixture(scope="module")
def meter(model_folder: Path) -> Iterator[ExpressionMeter]:
    with ExpressionMeter([model_folder]) as one:
        yield one


def test_the_vae_keeps_faces_it_never_saw(pipe, meter: ExpressionMeter, model_folder: Path) -> None:
    renders = np.stack([one for row in rendered_people() for one in row[:4]])
    decoded = encoding.decode_latents(pipe, encoding.encode_images(pipe, torch.from_numpy(renders))).numpy()
    with IdentityMeter([model_folder], meter.detector) as identity:
        pairs = zip(renders, decoded, strict=True)
        similarities = [identity.similarity(after, identity.reference([before])) or 0.0 for before, after in pairs]
    assert np.mean(similarities) > VAE_KEEPS


@pytest.mark.long
def test_captions_give_faces_with_the_expression_asked(pipe, meter: ExpressionMeter) -> None:
    count = partial(encoding.count_tokens, pipe)
    faces, right = [], []
    for seed, caption in enumerate(CAPTIONS):
        built = [text.build_prompts(caption, text.expression_terms(name), count) for name in ("neutral", *CLASSES)]
        neutral, *others = (meter.face(picture) for picture in draw(pipe, built, seed, HOW))
        faces += [neutral is not None, *(face is not None for face in others)]
        right += [meter.measure(face, neutral).hits(asked) for asked, face in zip(CLASSES, others, strict=True)]
    assert np.mean(faces) > 0.85
    assert np.mean(right) > EXPRESSIONS_RIGHT  # by chance 0.14
