"""Texts with a mask each: whose face an expression goes to, in real ComfyUI."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch

from faceexpr_core.mini import RESOLUTION

SIDE = RESOLUTION // 8
PERSON, OTHER = "a photo of a young man, black hair, blue background", "a photo of a woman, red hair"
SEED, CFG = 7, 4.0


@pytest.fixture(scope="module")
def mini(comfy_modules: SimpleNamespace) -> Iterator[SimpleNamespace]:
    encode = pack.node("expression_text_encode").ExpressionTextEncode.execute
    with torch.inference_mode():
        given = pack.mini_asked_to_smile(PERSON)
        positive, neutral = encode(given["clip"], OTHER, "surprised", 1.0, "none", 0.5, "").args
        draw = pack.node("sampler").Sampler.execute
        portrait = {"samples": torch.zeros(1, 4, SIDE, SIDE)}
        run = (given["model"], SEED, 6, CFG, "euler", "normal", given["neutral"], given["negative"], portrait, 1.0)
        face = given["vae"].decode(draw(*run).args[0]["samples"])
        yield SimpleNamespace(
            **given,
            texts=(given["positive"], positive),
            rests=(given["neutral"], neutral),
            two=given["vae"].encode(torch.cat([face, face], 2)),
            draw=draw,
            nodes=comfy_modules.nodes,
            hooks=importlib.import_module("comfy_extras.nodes_hooks"),
            fusion=pack.node("host.fusion").Fusion,
        )


def in_halves(mini: SimpleNamespace, texts: tuple[Any, Any], lefts: tuple[bool, ...], bounds: bool, strength: float) -> list[Any]:
    """Both texts, of each picture the first of them where `lefts` says the left half, else the right; by masks of another size."""
    masks = torch.zeros(len(lefts), 6, 12)
    for mask, left in zip(masks, lefts, strict=True):
        mask[:, slice(0, 6) if left else slice(6, 12)] = 1
    area = "mask bounds" if bounds else "default"
    return [
        entry
        for text, mask in zip(texts, (masks, 1 - masks), strict=True)
        for entry in mini.nodes.ConditioningSetMask().append(text, mask, area, strength)[0]
    ]


def watched(mini: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """Where each pair of texts, by its number, was fused at last."""
    parts: dict[int, Any] = {}
    found = mini.fusion._parts

    def watch(self: Any, x: torch.Tensor, to: dict[str, Any]) -> list[Any]:
        given: list[Any] = found(self, x, to)
        if given:
            (parts[self._tag],) = given
        return given

    monkeypatch.setattr(mini.fusion, "_parts", watch)
    return parts


@pytest.mark.parametrize(
    ("lefts", "bounds", "strength"), [((True, False), False, 1.0), ((True,), False, 0.4), ((True,), True, 1.0)], ids=str
)
def test_of_two_people_in_masks_each_gets_its_own_expression(mini, monkeypatch, lefts: tuple[bool, ...], bounds, strength) -> None:
    """Before, both went to the largest face of the picture, where the mask of one of them takes it away again."""
    parts = watched(mini, monkeypatch)
    positive, neutral = (in_halves(mini, texts, lefts, bounds, strength) for texts in (mini.texts, mini.rests))
    start = {"samples": mini.two.repeat(len(lefts), 1, 1, 1)}
    run = (mini.model, SEED, 2, CFG, "euler", "normal", positive, mini.negative, start, 0.3)
    mini.draw(*run, neutral=neutral, base_model=mini.model, vae=mini.vae)
    assert parts.keys() == {0, 1}
    for tag, part in parts.items():
        assert (part.area is not None) == bounds
        for picture, first_is_left in enumerate(lefts):
            left, right = (float(half.sum()) for half in part.where[picture % len(part.where)].mask.chunk(2, 1))
            own, other = (left, right) if first_is_left == (tag == 0) else (right, left)
            assert own > 100 * other


@pytest.mark.parametrize(("by", "lefts"), [("mask", (True,)), ("mask", (False, True)), ("area", (True,)), ("area", (False,))], ids=str)
def test_a_default_text_is_for_the_face_that_the_others_leave(mini, monkeypatch, by: str, lefts: tuple[bool, ...]) -> None:
    parts = watched(mini, monkeypatch)
    combine = mini.hooks.ConditioningSetDefaultAndCombine().set_default_and_combine

    def combined(texts: tuple[Any, Any]) -> Any:
        if by == "mask":
            first, rest = in_halves(mini, texts, lefts, False, 0.5)[: len(texts[0])], texts[1]
        else:
            first, rest = (
                mini.nodes.ConditioningSetAreaPercentage().append(texts[0], 0.5, 1.0, 0.0 if lefts[0] else 0.5, 0.0, 1.0)[0],
                texts[1],
            )
        return combine(first, rest)[0]

    positive, neutral = combined(mini.texts), combined(mini.rests)
    start = {"samples": mini.two.repeat(len(lefts), 1, 1, 1)}
    run = (mini.model, SEED, 2, CFG, "euler", "normal", positive, mini.negative, start, 0.3)
    mini.draw(*run, neutral=neutral, base_model=mini.model, vae=mini.vae)
    for picture, first_is_left in enumerate(lefts):
        left, right = (float(half.sum()) for half in parts[1].where[picture % len(parts[1].where)].mask.chunk(2, 1))
        own, other = (right, left) if first_is_left else (left, right)
        assert own > 100 * other
