"""Of which pictures a bank's mask is, by its notes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from faceexpr_core.fusion.composition import Composition, composition_notes, why_elsewhere

NOISE = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1))
REST, SMILE, OTHER = (torch.randn(77, 16, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3, 4))
NOTES = {"source": "text", **composition_notes(NOISE, [(REST, OTHER), (SMILE, OTHER), (REST, OTHER)])}


def test_a_picture_is_known_by_its_noise_and_any_set_of_its_texts_in_any_order() -> None:
    assert len(NOTES["texts"].split()) == 2
    for texts in ((REST, OTHER), (OTHER, SMILE), (OTHER, REST, REST)):
        assert why_elsewhere(NOTES, Composition(NOISE.double(), tuple(text.clone() for text in texts))) == ""


@pytest.mark.parametrize(
    ("notes", "drawn", "told"),
    [
        ({}, {"noise": NOISE + 1e-4}, "other noise"),
        ({}, {"noise": NOISE.reshape(4, 4, 16)}, "other noise"),
        ({}, {"noise": None}, "other noise"),
        ({}, {"texts": (REST,)}, "other texts"),
        ({}, {"texts": (REST, SMILE, OTHER)}, "other texts"),
        ({}, {"texts": ()}, "other texts"),
        ({}, {"strays": True}, "the sampler"),
        ({"source": "photo"}, {}, "a photo"),
        ({"noise": ""}, {}, "do not say"),
        ({"texts": ""}, {}, "do not say"),
    ],
)
def test_what_makes_another_picture_of_it_is_told(notes: dict[str, str], drawn: dict[str, Any], told: str) -> None:
    own: dict[str, Any] = {"noise": NOISE, "texts": (REST, OTHER)}
    assert told in why_elsewhere({**NOTES, **notes}, Composition(**{**own, **drawn}))
