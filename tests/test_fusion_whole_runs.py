"""Fusion in whole runs of ComfyUI's own samplers, schedules and caches: it acts in each, and the first steps are what they were."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch
from distances import relative
from fusion_graphs import stock
from torch import Tensor

pytestmark = pytest.mark.long

PERSON = "a photo of a young man, black hair, blue background"
SEED, CFG = 7, 1.5
LEAST = 1e-5
"""Some of CFG++ draw latents so large in three steps that the change is a small share of them; without fusion it would be none."""
START = {"samples": torch.zeros(1, 4, 8, 8)}


@pytest.fixture(scope="module")
def mini(comfy_modules: SimpleNamespace) -> Iterator[SimpleNamespace]:
    sampler, encode = pack.node("sampler"), pack.node("expression_text_encode")
    with torch.inference_mode():
        yield SimpleNamespace(**pack.mini_asked_to_smile(PERSON), draw=sampler.Sampler.execute, encode=encode.ExpressionTextEncode.execute)


def drawn(mini: SimpleNamespace, model: Any = None, *, fused: bool, steps: int = 3, **given: Any) -> Tensor:
    """The neutral text's latent, with the expression fused or without."""
    how = {"sampler": "euler", "scheduler": "normal", "positive": mini.positive, "neutral": mini.neutral} | given
    texts = (how["positive"] if fused else how["neutral"]), mini.negative
    more = {"neutral": how["neutral"], "base_model": mini.model} if fused else {}
    run = model or mini.model, SEED, steps, CFG, how["sampler"], how["scheduler"]
    return mini.draw(*run, *texts, START, 1.0, **more).args[0]["samples"]


def changed(mini: SimpleNamespace, model: Any = None, **how: Any) -> float:
    before, after = (drawn(mini, model, fused=fused, **how) for fused in (False, True))
    assert after.isfinite().all()
    return relative(after, before)


def test_fusion_acts_with_every_sampler_that_comfyui_offers(mini: SimpleNamespace) -> None:
    names = importlib.import_module("comfy.samplers").KSampler.SAMPLERS
    changes = {name: changed(mini, sampler=name) for name in names}
    assert {name: change for name, change in changes.items() if not LEAST < change < 1} == {}


def test_fusion_acts_on_every_schedule_that_comfyui_offers(mini: SimpleNamespace) -> None:
    names = importlib.import_module("comfy.samplers").KSampler.SCHEDULERS
    changes = {name: changed(mini, scheduler=name, steps=4) for name in names}
    assert {name: change for name, change in changes.items() if not LEAST < change < 1} == {}


@pytest.mark.parametrize("name", ["EasyCacheNode", "LazyCacheNode"])
def test_fusion_acts_where_steps_are_taken_from_a_cache(mini: SimpleNamespace, name: str) -> None:
    cached = stock("nodes_easycache", name).execute(mini.model, 0.2, 0.15, 0.95, False).args[0]
    plain = drawn(mini, fused=False, steps=12)
    assert not torch.equal(drawn(mini, cached, fused=False, steps=12), plain)
    assert 1e-3 < changed(mini, cached, steps=12) < 1


def test_fusion_acts_on_the_schedule_of_a_few_step_model(mini: SimpleNamespace) -> None:
    few = stock("nodes_model_advanced", "ModelSamplingDiscrete")().patch(mini.model, "lcm", False)[0]
    assert changed(mini, few, sampler="lcm", scheduler="sgm_uniform", steps=4) > 1e-3


def test_with_another_layer_of_the_text_encoders_the_expression_is_fused_as_it_reads(mini: SimpleNamespace) -> None:
    """CLIP Set Last Layer; SDXL reads the second layer from the end."""
    conditioned = {}
    for layer in (-2, -3):
        clip = mini.clip.clone()
        clip.clip_layer(layer)
        conditioned[layer] = mini.encode(clip, PERSON, "happy", 1.0, "none", 0.5, "").args
    assert torch.equal(conditioned[-2][0][0][0], mini.positive[0][0])
    assert not torch.equal(conditioned[-3][0][0][0], mini.positive[0][0])
    positive, neutral = conditioned[-3]
    assert changed(mini, positive=positive, neutral=neutral) > 1e-3
