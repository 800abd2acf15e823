"""Expression Sheet in a real ComfyUI: its pictures are those of FaceExpr Sampler."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pack
import pytest
import torch
from PIL import ImageDraw

PERSON = "a photo of a young man, {expression}"
RUN = {"steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}


@pytest.fixture(scope="module")
def node(comfy_modules: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """ComfyUI's Mini; `draw(**inputs)` gives (sheet, images, labels), `alone(...)` what FaceExpr Sampler draws."""
    with torch.inference_mode():
        host = pack.host()
        model, clip, vae = host.load_mini()
        negative = host.encode_conditioning(clip, "")
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        module = pack.node("expression_sheet")
        execute = module.ExpressionSheet.execute
        sampler, encode = pack.node("sampler").Sampler.execute, pack.node("expression_text_encode").ExpressionTextEncode.execute
        given = {"model": model, "clip": clip, "vae": vae, "negative": negative, "latent_image": latent, "prompt": PERSON, "seed": 5, **RUN}

        def draw(**inputs: Any) -> tuple[torch.Tensor, torch.Tensor, str]:
            return execute(**{**given, "intensities": "1", "frames": 0, **inputs}).args

        def alone(expression: str, intensity: float, *second: Any, units: str = "", **more: Any) -> torch.Tensor:
            positive, neutral = encode(clip, PERSON, expression, intensity, *(second or ("none", 0.0)), units).args
            how = {"positive": positive, "negative": negative, "latent_image": latent, "neutral": neutral, **RUN, **more}
            return vae.decode(sampler(model, 5, **how).args[0]["samples"])[0]

        error = comfy_modules.core.errors.FaceExprError
        yield SimpleNamespace(draw=draw, alone=alone, module=module, model=model, vae=vae, latent=latent, error=error)


def test_each_picture_is_what_the_sampler_draws_of_it_to_the_bit(node) -> None:
    _, images, labels = node.draw(expressions="happy, R12+AU6:0.5", intensities="0.5, 1.2")
    assert labels.splitlines() == ["happy 0.5", "happy 1.2", "R12+AU6:0.5 0.5", "R12+AU6:0.5 1.2"]
    expected = [
        *(node.alone("happy", strength) for strength in (0.5, 1.2)),
        *(node.alone("none", strength, units="R12+AU6:0.5") for strength in (0.5, 1.2)),
    ]
    assert torch.equal(images, torch.stack(expected))
    assert (images[0] - images[1]).abs().max() > 0.02


def test_with_a_base_model_it_is_what_the_sampler_fuses(node) -> None:
    _, images, _ = node.draw(expressions="angry", base_model=node.model, fusion_strength=1.5)
    fused = node.alone("angry", 1.0, base_model=node.model, fusion_strength=1.5, vae=node.vae)
    assert torch.equal(images[0], fused)
    assert (fused - node.alone("angry", 1.0)).abs().max() > 0.02


def test_it_starts_from_an_encoded_picture_with_a_lower_denoise(node) -> None:
    given = torch.linspace(0.2, 0.8, 64).expand(1, 64, 64)[..., None].repeat(1, 1, 1, 3)
    encoded = node.vae.encode(given)
    start: dict[str, Any] = {"latent_image": {"samples": encoded}, "steps": 4}
    again = node.vae.decode(encoded)[0]
    _, images, _ = node.draw(expressions="happy, sad", denoise=0.3, **start)
    assert torch.equal(images, torch.stack([node.alone(name, 1.0, denoise=0.3, **start) for name in ("happy", "sad")]))
    _, anew, _ = node.draw(expressions="happy", denoise=1.0, **start)
    assert 0.001 < (images[0] - again).abs().mean() < 0.5 * (anew[0] - again).abs().mean()


@pytest.mark.parametrize("kept", [2, 8])
def test_the_base_model_reads_all_texts_before_the_person_is_drawn(node, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Both are one network with other patches of its weights: on a card each change takes it off and back. It was two for each picture."""
    extraction, drawing = pack.node("extraction"), pack.node("drawing").Drawing
    read, draw, done = extraction._contexts, drawing.draw, list[str]()
    extraction._kept.clear()
    monkeypatch.setattr(extraction, "KEPT_TEXTS", kept)

    def noted(what: str, act: Any) -> Any:
        def noting(*given: Any, **named: Any) -> Any:
            done.append(what)
            return act(*given, **named)

        return noting

    monkeypatch.setattr(extraction, "_contexts", noted("read", read))
    monkeypatch.setattr(drawing, "draw", noted("draw", draw))
    asked = {"expressions": "happy, neutral, sad", "base_model": node.model, "vae": node.vae}
    _, images, _ = node.draw(**asked)
    # of the neutral picture there is nothing to read
    assert done == (["read", "draw", "draw", "read", "draw"] if kept == 2 else ["read"] * 2 + ["draw"] * 3)
    done.clear()
    assert torch.equal(node.draw(**asked)[1], images) and done == ["draw"] * 3
    monkeypatch.undo()
    assert torch.equal(images[2], node.alone("sad", 1.0, base_model=node.model, vae=node.vae))


def test_the_sheet_shows_the_pictures_in_rows_of_intensities(node) -> None:
    page, images, _ = node.draw(expressions="happy, sad, angry", intensities="0.5, 1")
    height, width = images.shape[1:3]
    gap = (page.shape[2] - 2 * width) // 3
    step = (page.shape[1] - gap) // 3
    for number, picture in enumerate(images):
        row, column = divmod(number, 2)
        top, left = gap + row * step, gap + column * (width + gap)
        shown = page[0, top : top + height, left : left + width]
        assert (shown - picture).abs().max() <= 0.51 / 255


def test_a_round_paints_the_new_picture_alone_and_shows_the_sheet_reduced(node, monkeypatch) -> None:
    painted: list[str] = []
    shown: list[np.ndarray] = []
    write = ImageDraw.ImageDraw.text

    def writing(pen: ImageDraw.ImageDraw, place: Any, text: str, **how: Any) -> None:
        painted.append(text)
        write(pen, place, text, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", writing)
    monkeypatch.setattr(node.module, "show", shown.append)
    monkeypatch.setattr(node.module, "PREVIEW_SIDE", 100)
    page, _, labels = node.draw(expressions="happy, sad, angry")
    assert painted == labels.splitlines()
    assert [max(one.shape) for one in shown] == [100] * 3 < [max(page.shape)] * 3
    assert not any(np.array_equal(one, other) for one, other in pairwise(shown))


def test_frames_lead_from_one_expression_to_the_next(node, caplog) -> None:
    _, images, labels = node.draw(expressions="neutral, happy", intensities="0.9, 1.0", frames=3)
    assert labels.splitlines() == ["neutral 0.9", "neutral 0.45 happy 0.45", "happy 0.9"]
    assert "Expression Sheet: frames take the first of the intensities, 0.9; the others are not drawn" in caplog.text
    expected = [node.alone("neutral", 0.9), node.alone("neutral", 0.45, "happy", 0.45), node.alone("happy", 0.9)]
    assert torch.equal(images, torch.stack(expected))
    steps = [float((images[number] - images[0]).abs().mean()) for number in range(3)]
    assert steps[0] == 0 < steps[1] < steps[2]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"expressions": "hapy"}, "'hapy'"),
        ({"expressions": "happy", "intensities": "2"}, "0 to 1"),
        ({"expressions": "happy", "frames": 4}, "two expressions"),
        ({"expressions": "happy", "latent_image": {"samples": torch.zeros(2, 4, 8, 8)}}, "a batch of 2 latents"),
    ],
)
def test_what_cannot_be_drawn_is_refused(node, inputs: dict[str, Any], said: str) -> None:
    with pytest.raises(node.error, match=said):
        node.draw(**inputs)


def test_a_wrong_list_is_refused_before_anything_runs() -> None:
    check = pack.node("expression_sheet").ExpressionSheet.validate_inputs
    assert check("happy, sad", "0.5") is True
    assert "'hapy'" in str(check("hapy", "0.5"))
    assert "0 to 1.5" in str(check("happy", "loud"))
