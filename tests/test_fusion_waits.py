"""Fusion on diffusers makes the host wait for a graphics card no more often than plain sampling does, and copies nothing twice."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import torch

from faceexpr_core import mini
from faceexpr_core.diffusers_host import encoding, pipeline, sampling
from faceexpr_core.diffusers_host.donors import draw_donors
from faceexpr_core.diffusers_host.fusion import Fusion
from faceexpr_core.fusion.run import Run
from faceexpr_core.fusion.settings import CONTEXT_SITE, paper_settings, site_settings
from faceexpr_core.text import build_prompts, expression_terms
from lab.pretended.card import PretendedCard

pytestmark = pytest.mark.long

SIGMAS = (4.2, 3.0, 2.0, 1.0, 0.0)
SETTINGS = {
    "plain": None,
    "difference": site_settings(CONTEXT_SITE),
    "attention": site_settings("cross_attention"),
    "skip": site_settings("skip"),
    "paper": paper_settings(),
}


def test_a_step_after_the_first_waits_and_copies_as_often_as_without_fusion() -> None:
    """Before, 20 to 49 waits came on top of two on Mini, 370 on SDXL."""
    pipe = pipeline.load_pipeline("mini")
    happy, neutral = (
        build_prompts("a photo of a man", expression_terms(name), partial(encoding.count_tokens, pipe)) for name in ("happy", "neutral")
    )
    side = mini.RESOLUTION
    run = Run(3, 4, 4.0, side, side, sigmas=SIGMAS)
    banks = {
        name: draw_donors(pipe, happy, settings, run, moved=("mouth", "eyes"), keep="all" if settings.mode == "paper" else "face").bank
        for name, settings in SETTINGS.items()
        if settings is not None
    }
    steps: dict[str, list[tuple[int, int]]] = {}
    drawn: dict[str, torch.Tensor] = {}
    with PretendedCard("values") as card, torch.no_grad():
        on_card = pipeline.load_pipeline("mini", torch.float16, "cuda")
        for name, settings in SETTINGS.items():
            bank, marks = banks.get(name), list[Counter[str]]()

            def mark(done: int, total: int, marks: list[Counter[str]] = marks) -> None:
                marks.append(Counter(waits=sum(card.ledger.waits.values()), copies=sum(card.ledger.uploads.values())))

            fusion = [] if bank is None or settings is None else [Fusion(bank, settings, bank.mask, bank.regions, 0)]
            drawn[name] = sampling.generate(on_card, neutral, Run(3, width=side, height=side, sigmas=SIGMAS), fusion=fusion, on_step=mark)
            later = [1, 2, 3] if name != "paper" else [2, 3]  # whose window opens with the second step
            steps[name] = [(marks[i]["waits"] - marks[i - 1]["waits"], marks[i]["copies"] - marks[i - 1]["copies"]) for i in later]
    assert all(name == "plain" or (picture.float() - drawn["plain"].float()).abs().mean() > 1 for name, picture in drawn.items())
    assert {step for counts in steps.values() for step in counts} == {steps["plain"][0]}
