"""A part of the loss that runs away ends the run, whichever it is, with the last good weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from test_training_state import PAIRS, PHOTOS, changed
from toys import lora_of, toy_unet

from faceexpr_core.errors import FaceExprError
from faceexpr_core.training.crafting import CraftingSet
from faceexpr_core.training.health import DIVERGED, Health
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.result import Step, TrainResult
from faceexpr_core.training.state import StateFolder

AS_THE_CLASS = CraftingSet(PAIRS.names, PAIRS.person, PAIRS.person_pooled, PAIRS.person, PAIRS.person_pooled)
"""Where the person is the class, crafting begins at 0."""


def run_with_louder_words(states: StateFolder | None = None, times: float = 30.0, at: int = 6, steps: int = 30) -> TrainResult:
    """From a step on the LoRA hears the words far too well: what they change is too large, the rest of the picture hardly another."""

    def amplify(step: Step) -> None:
        if step.number == at:
            for name, weight in step.unet.named_parameters():
                if "attn2.to_v.lora_B" in name:
                    weight.data.add_(times * torch.ones_like(weight))

    settings = changed(learning_rate=1e-4, steps=steps, warmup=0, schedule="constant", crafting_every=1, ema=0.0, crafting_ramp=0.0)
    return train_lora(toy_unet(), PHOTOS, settings, amplify, crafting=AS_THE_CLASS, states=states)


@pytest.mark.parametrize("times", [3.0, 30.0])
@pytest.mark.long
def test_crafting_that_runs_away_ends_the_run_with_the_last_good_weights(tmp_path: Path, times: float) -> None:
    result = run_with_louder_words(StateFolder(tmp_path, every=1), times)
    assert isinstance(result.stopped_by, FaceExprError)
    assert "diverged" in str(result.stopped_by) and "crafting" in str(result.stopped_by) and "step 5 is kept" in str(result.stopped_by)
    assert result.steps == 5 and max(result.curves["identity"][6:]) < 1.1 * max(result.curves["identity"][:6])
    never = run_with_louder_words(steps=5, at=0)
    assert never.stopped_by is None and all(torch.equal(lora_of(result)[key], value) for key, value in lora_of(never).items())
    assert StateFolder(tmp_path).newest() == 5


def test_crafting_at_what_a_phrase_without_effect_gives_goes_on() -> None:
    result = run_with_louder_words(times=1.0)
    assert result.stopped_by is None and 0.6 < sum(result.curves["crafting"][10:]) / 20 < 1


def test_one_batch_that_says_nothing_ends_no_run_and_is_no_good_state() -> None:
    health = Health({"identity": [0.1] * 20, "crafting": [0.2, math.nan] * 10})
    health.add({"identity": 0.1, "crafting": 400.0})
    assert health.worst[1] < 1 and not health.good
    for _ in range(4):
        health.add({"identity": 0.1, "crafting": 0.2})
    assert health.good


@pytest.mark.parametrize(
    ("part", "begun", "bad"), [("identity", 0.4, 1.3), ("prior", 0.01, 1.1), ("crafting", 0.02, 2.1), ("crafting", 1.5, 4.6)]
)
def test_each_part_is_measured_by_where_it_began(part: str, begun: float, bad: float) -> None:
    others = {name: [0.1] * 30 for name in ("identity", "prior", "crafting") if name != part}
    health = Health({**others, part: [begun] * 10})
    assert health.good and health.worst[1] < 1
    for _ in range(10):
        health.add({**dict.fromkeys(others, 0.1), part: bad})
    assert health.worst == (part, pytest.approx(bad / max(1.5 * begun, 1.0 if part == "crafting" else 0.5)))
    assert health.worst[1] > DIVERGED and not health.good
    resumed = Health({**others, part: [begun] * 10 + [bad] * 10})
    assert resumed.worst[1] == pytest.approx(health.worst[1])
