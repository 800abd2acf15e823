"""Small faces drawn again: each with the texts, and the part of a mask, of its own place in the picture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pack
import pytest
import torch

from faceexpr_core.faces.detector import Face
from faceexpr_core.faces.small_faces import small_faces
from faceexpr_core.mini import RESOLUTION

SIDE = RESOLUTION // 8
STEPS, CFG, SEED = 4, 4.0, 7
LEFT, RIGHT = (0.4, 0.2), (0.4, 0.7)


@pytest.fixture(scope="module")
def mini(comfy_modules):
    sampler, apply = pack.node("sampler"), pack.node("apply_attention_focused_fusion")
    with torch.inference_mode():
        given = pack.mini_asked_to_smile("a photo of a young man, black hair, blue background")
        here = SimpleNamespace(
            **given,
            other=pack.host().encode_conditioning(given["clip"], "a photo of a woman, red hair"),
            drawing=pack.node("drawing"),
            draw=sampler.Sampler.execute,
            apply=apply.ApplyAttentionFocusedFusion.execute,
            spots=pack.node("host.spots"),
            nodes=comfy_modules.nodes,
        )
        arguments = (SEED, 6, CFG, "euler", "normal", here.positive, here.negative, {"samples": torch.zeros(1, 4, SIDE, SIDE)}, 1.0)
        face = here.vae.decode(here.draw(here.model, *arguments).args[0]["samples"])
        here.two = {"samples": here.vae.encode(torch.cat([face, face], 2))}
        yield here


def spot(mini, centre: tuple[float, float], picture: int = 0) -> Any:
    return mini.spots.Spot(picture, (0.0, 1.0, 0.0, 1.0), centre, (SIDE, 2 * SIDE))


def at(mini, text: list, left: bool, strength: float = 1.0) -> list:
    """The text in one half of two pictures side by side, in latent pixels."""
    return mini.nodes.ConditioningSetArea().append(text, RESOLUTION, RESOLUTION, 0 if left else RESOLUTION, 0, strength)[0]


def said(mini, texts: list, centre: tuple[float, float], picture: int = 0) -> list[torch.Tensor]:
    return [entry[0] for entry in mini.spots.texts_at(texts, mini.negative, None, spot(mini, centre, picture))[0]]


def says(found: list[torch.Tensor], text: list) -> bool:
    """Whether it is that text and no other."""
    return len(found) == 1 and torch.equal(found[0], text[0][0])


def test_a_place_has_the_texts_whose_area_or_mask_holds_it(mini) -> None:
    happy, other, rest = mini.positive, mini.other, mini.neutral
    halves = [*at(mini, happy, True), *at(mini, other, False)]
    assert says(said(mini, halves, LEFT), happy) and says(said(mini, halves, RIGHT), other)
    assert len(said(mini, [*halves, *rest], RIGHT)) == 2  # one that is said everywhere
    share = mini.nodes.ConditioningSetAreaPercentage().append(other, 0.5, 1.0, 0.5, 0.0, 1.0)[0]
    assert len(said(mini, share, RIGHT)) == 1 and len(said(mini, [*happy, *share], LEFT)) == 1
    masks = torch.zeros(2, 8, 16)
    masks[0, :, :8], masks[1, :, 8:] = 1, 1
    masked = mini.nodes.ConditioningSetMask().append(other, masks, "default", 1.0)[0]
    assert [len(said(mini, [*happy, *masked], LEFT, picture)) for picture in (0, 1, 2)] == [2, 1, 2]
    fallback = [[hidden, {**extra, "default": True}] for hidden, extra in rest]
    assert says(said(mini, [*at(mini, happy, True), *fallback], RIGHT), rest)
    assert says(said(mini, [*at(mini, happy, True), *fallback], LEFT), happy)
    assert len(said(mini, at(mini, happy, True), RIGHT)) == 1  # nobody speaks there: all do


def test_each_text_brings_its_own_neutral_one_and_its_weight_and_nothing_of_the_whole_picture(mini) -> None:
    texts = [*at(mini, mini.positive, True, 0.6), *at(mini, mini.other, False), *mini.other]
    for neutral in ([*mini.other, *mini.neutral], [*mini.neutral, *mini.other]):  # as Combine leaves them, without areas
        positive, negative, rest = mini.spots.texts_at(texts, mini.negative, neutral, spot(mini, LEFT))
        assert [extra.get("strength", 1.0) for _, extra in positive] == [0.6, 1.0]
        assert not any({"area", "mask", "default"} & extra.keys() for _, extra in [*positive, *negative, *rest])
        assert any(torch.equal(hidden, mini.neutral[0][0]) for hidden, _ in rest)
    batch = [[torch.cat([mini.positive[0][0], mini.other[0][0]]), {"pooled_output": torch.arange(2.0)[:, None]}]]
    ((hidden, extra),) = mini.spots.texts_at(batch, mini.negative, None, spot(mini, LEFT, picture=3))[0]
    assert torch.equal(hidden, mini.other[0][0]) and extra["pooled_output"].tolist() == [[1.0]]


def refined(mini, model: Any, positive: list, **options: Any) -> torch.Tensor:
    arguments = (SEED, STEPS, CFG, "euler", "normal", positive, mini.negative, mini.two, 0.0)
    return mini.draw(model, *arguments, vae=mini.vae, refine_below=1.0, **options).args[0]["samples"]


def test_each_small_face_is_drawn_again_with_the_text_of_its_half(mini, monkeypatch: pytest.MonkeyPatch) -> None:
    sample, given = mini.drawing.sample, []

    def watch(model: Any, positive: list, *rest: Any, **named: Any) -> dict[str, Any]:
        given.append([hidden for hidden, _ in positive])
        return sample(model, positive, *rest, **named)

    monkeypatch.setattr(mini.drawing, "sample", watch)
    refined(mini, mini.model, [*at(mini, mini.positive, True), *at(mini, mini.other, False)], neutral=[*mini.neutral, *mini.other])
    assert [len(texts) for texts in given[1:]] == [1, 1]
    for text in (mini.positive, mini.other):
        assert sum(torch.equal(texts[0], text[0][0]) for texts in given[1:]) == 1


@pytest.mark.parametrize(("height", "width"), [(100, 300), (300, 100)])
def test_a_face_is_small_by_the_shorter_side_of_the_picture(height: int, width: int) -> None:
    face = Face((30.0, 20.0, 60.0, 60.0), np.zeros((478, 3), np.float32), {})  # 30 x 40 pixels
    assert small_faces([face], height, width, 0.5) == [face]
    assert small_faces([face], height, width, 0.3) == [] == small_faces([face], height, width, 0.35)


def test_a_small_face_is_moved_by_as_much_as_the_sampler_is_told(mini) -> None:
    one = {"samples": mini.two["samples"][..., :SIDE]}

    def moved(denoise: float) -> float:
        arguments = (SEED, 1, CFG, "euler", "normal", mini.positive, mini.negative, one, 0.0)
        given = mini.draw(mini.model, *arguments, vae=mini.vae, refine_below=1.0, refine_denoise=denoise).args[0]["samples"]
        return float((given - one["samples"]).norm())

    none, little, much = map(moved, (0.0, 0.1, 0.8))
    assert none == 0 < little < 0.7 * much


def test_of_a_mask_of_the_whole_picture_an_enlarged_face_has_what_lies_there(mini) -> None:
    extract = pack.node("extract_expression_features").ExtractExpressionFeatures.execute
    run = ({"samples": torch.zeros(1, 4, SIDE, SIDE)}, SEED, STEPS, CFG, "euler", "normal", 1.0, "happy")
    bank = extract(mini.model, mini.positive, mini.neutral, mini.negative, *run).args[0]
    mask = torch.zeros(1, RESOLUTION, 2 * RESOLUTION)
    mask[..., :RESOLUTION] = 1
    plain = refined(mini, mini.model, mini.neutral)
    fused = refined(mini, mini.apply(mini.model, bank, 1.0, mask=mask).args[0], mini.neutral)
    left, right = (float((fused - plain)[..., one].abs().max()) for one in (slice(SIDE - 2), slice(SIDE + 2, None)))
    assert left > 0.5 and right < left / 20  # the VAE encodes both together


def test_what_refining_needs_is_asked_for_before_anything_is_drawn(mini, monkeypatch: pytest.MonkeyPatch, comfy_modules, tmp_path) -> None:
    monkeypatch.setattr(mini.drawing, "sample", lambda *_, **__: pytest.fail("drawn first"))
    arguments = (SEED, STEPS, CFG, "euler", "normal", mini.positive, mini.negative, mini.two, 1.0)
    with pytest.raises(comfy_modules.core.errors.FaceExprError, match="without a VAE"):
        mini.draw(mini.model, *arguments, refine_below=0.3)
    monkeypatch.setattr(pack.node("refine").models, "search_path", lambda folders: [tmp_path])
    with pytest.raises(comfy_modules.core.errors.FaceExprError, match="face_landmarker"):
        mini.draw(mini.model, *arguments, vae=mini.vae, refine_below=0.3)
