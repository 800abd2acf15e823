"""A text of its own for each picture of a batch, as batch prompt schedules make them: each is fused with what its own text changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch
from distances import relative

PERSON = "a photo of a young man, black hair, blue background"
RUN = (7, 4, 4.0, "euler", "normal")


@pytest.fixture(scope="module")
def mini(comfy_modules) -> SimpleNamespace:
    with torch.inference_mode():
        given = pack.mini_asked_to_smile(PERSON)
        encode = pack.node("expression_text_encode").ExpressionTextEncode.execute
        surprised = encode(given["clip"], PERSON, "surprised", 1.0, "none", 0.5, "").args[0]
    return SimpleNamespace(**given, surprised=surprised, error=comfy_modules.core.errors.FaceExprError)


def stacked(*texts: Any) -> Any:
    """One text with a row for each picture."""
    return [
        [
            torch.cat([text[0][0] for text in texts]),
            {**texts[0][0][1], "pooled_output": torch.cat([text[0][1]["pooled_output"] for text in texts])},
        ]
    ]


def drawn(mini: SimpleNamespace, positive: Any, neutral: Any, pictures: int = 2, **more: Any) -> torch.Tensor:
    latent = {"samples": torch.zeros(pictures, 4, 16, 16)}
    with torch.inference_mode():
        texts = (positive, mini.negative, latent, 1.0, neutral)
        samples: torch.Tensor = (
            pack.node("sampler").Sampler.execute(mini.model, *RUN, *texts, base_model=mini.model, **more).args[0]["samples"]
        )
    return samples


@pytest.mark.parametrize("more", ["vae", "scale", "positive"])
def test_each_picture_is_fused_with_its_own_text(mini, more: str) -> None:
    options = {"vae": {"vae": mini.vae}, "scale": {"expression_scale": 1.4}, "positive": {"fusion_text": "positive"}}[more]
    happy, surprised = (drawn(mini, text, mini.neutral, 3, **options) for text in (mini.positive, mini.surprised))
    both = drawn(mini, stacked(mini.positive, mini.surprised), mini.neutral, 3, **options)
    for picture, (own, other) in enumerate([(happy, surprised), (surprised, happy), (happy, surprised)]):
        assert relative(both[picture], own[picture]) < 1e-4 < 1e-3 < relative(both[picture], other[picture])


def test_a_neutral_text_of_its_own_counts_as_well(mini) -> None:
    """Where the second picture's neutral text says what its positive one does, there is nothing to fuse."""
    neutral = stacked(mini.neutral, mini.positive)
    both = drawn(mini, mini.positive, neutral)
    assert relative(both[:1], drawn(mini, mini.positive, mini.neutral)[:1]) < 1e-4
    assert relative(both[1:], drawn(mini, mini.positive, mini.positive)[1:]) < 1e-4


def test_rows_that_say_the_same_are_one_text(mini, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing, attached = pack.node("drawing"), list[Any]()
    attach = drawing.attach_fusion

    def note(*given: Any, **named: Any) -> Any:
        attached.append(named["pictures"])
        return attach(*given, **named)

    monkeypatch.setattr(drawing, "attach_fusion", note)
    same = drawn(mini, stacked(mini.positive, mini.positive), mini.neutral)
    assert torch.equal(same, drawn(mini, mini.positive, mini.neutral))
    assert attached == [None, None]


@pytest.mark.parametrize("site", ["default", "cross_attention"])
def test_features_are_of_one_text_and_others_are_refused_by_name(mini, site: str) -> None:
    def extract(positive: Any, neutral: Any) -> Any:
        latent = {"samples": torch.zeros(2, 4, 8, 8)}
        node = pack.node("extract_expression_features").ExtractExpressionFeatures.execute
        with torch.inference_mode():
            return node(mini.model, positive, neutral, mini.negative, latent, *RUN, 1.0, "happy", site=site).args[0]

    one, same = extract(mini.positive, mini.neutral), extract(stacked(mini.positive, mini.positive), mini.neutral)
    assert one.tokens.keys() == same.tokens.keys()
    assert all(relative(value.float(), one.tokens[key].float()) < 1e-3 for key, value in same.tokens.items())
    with pytest.raises(mini.error, match=r"positive holds 2 texts, one for each picture of a batch, which differ.*base_model"):
        extract(stacked(mini.positive, mini.surprised), mini.neutral)
    with pytest.raises(mini.error, match="neutral holds 2 texts"):
        extract(mini.positive, stacked(mini.neutral, mini.surprised))
