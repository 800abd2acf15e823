"""Fusion in ComfyUI makes the host wait for the card once more in a step than plain sampling: to read the noise level, which the sampler
keeps on the card. Whatever it uploads goes there in one step. Run by `make card` with `-p lab.pretended.plugin`, which counts the waits."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch

CARD: Any = vars(sys.modules["lab.pretended.plugin"])["CARD"] if "lab.pretended.plugin" in sys.modules else None
pytestmark = pytest.mark.skipif(CARD is None, reason="needs -p lab.pretended.plugin")
RUN = (7, 6, 4.0, "euler", "normal")
SITES = ("skip", "cross_attention", "cross_attention_difference")


@pytest.fixture(scope="module")
def mini(comfy_modules: SimpleNamespace) -> Any:
    with torch.inference_mode():
        yield SimpleNamespace(**pack.mini_asked_to_smile("a photo of a man"), empty={"samples": torch.zeros(1, 4, 12, 20)})


@pytest.fixture
def drawn(mini: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[torch.Tensor, list[int]]]:
    """FaceExpr Sampler's latents, and how often the host waited in each step but the first, in which models are loaded."""
    marks: list[int] = []

    def mark(*_: Any) -> None:
        marks.append(sum(CARD.ledger.waits.values()))

    monkeypatch.setattr(importlib.import_module("latent_preview"), "prepare_callback", lambda *_: mark)

    def draw(**more: Any) -> tuple[torch.Tensor, list[int]]:
        marks.clear()
        execute = pack.node("sampler").Sampler.execute
        positive = mini.positive if "base_model" in more else mini.neutral
        latents = execute(mini.model, *RUN, positive, mini.negative, mini.empty, 1.0, neutral=mini.neutral, **more).args[0]["samples"]
        return latents, [later - before for before, later in pairwise(marks)]

    return draw


@pytest.mark.parametrize("source", [*SITES, "base_model"])
def test_fusion_adds_one_wait_to_a_step_and_more_to_one_at_most(
    mini: Any, drawn: Callable[..., tuple[torch.Tensor, list[int]]], source: str
) -> None:
    if source == "base_model":
        given = {"base_model": mini.model}
    else:
        extract = pack.node("extract_expression_features").ExtractExpressionFeatures.execute
        texts = (mini.model, mini.positive, mini.neutral, mini.negative, mini.empty)
        given = {"features": extract(*texts, *RUN, 1.0, "happy", site=source, tokens="all").args[0]}
    (plain, waits), (fused, more) = drawn(), drawn(**given)
    assert (fused - plain).norm() > 1e-3 * plain.norm() and len(waits) == len(more) == 5
    added = [many - few for many, few in zip(more, waits, strict=True)]
    assert min(added) >= 0 and sum(extra > 1 for extra in added) <= 1, (waits, more)
