"""Every preset on Mini and the pretended card, with numbers: near the CPU's, stopped and gone on with, few waits. Run by `make card`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import lora_of

from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.result import Step, TrainResult
from faceexpr_core.training.settings import PRESETS, TrainSettings, preset_settings
from faceexpr_core.training.state import StateFolder
from lab.card.sets import mini_models, sets_for, widths
from lab.card.step import simulated
from lab.card.validate import ALLOWED, compared, off
from lab.pretended.card import PretendedCard

GIB = 1 << 30
WAITS = 4
"""Of a step of one batch with every part of the loss, without those of bitsandbytes (one for each tensor of the LoRA)."""


def trained(
    settings: TrainSettings, device: str, states: StateFolder | None = None, on_step: Callable[[Step], None] | None = None
) -> TrainResult:
    unet, encoders = mini_models()
    data, class_images, crafting = sets_for(settings, 64, *widths(unet), counts=(3, 4, 2))
    reading = encoders if settings.text_encoder else None
    return train_lora(unet, data, settings, on_step, device, class_images=class_images, crafting=crafting, states=states, encoders=reading)


def few(preset: str, **changes: Any) -> TrainSettings:
    return preset_settings(preset, **{"steps": 3, "accumulation": 1, **changes})


@pytest.mark.parametrize("preset", PRESETS)
def test_three_steps_are_near_the_cpus(preset: str) -> None:
    on_cpu = trained(few(preset, precision="fp32", optimizer="adamw"), "cpu")
    with PretendedCard("values") as card:
        in_full = trained(few(preset, precision="fp32", optimizer="adamw"), "cuda")
        as_shipped = trained(few(preset), "cuda")
        assert card.ledger.current < card.ledger.peak
    assert in_full.losses == pytest.approx(on_cpu.losses, rel=1e-4)
    assert as_shipped.losses == pytest.approx(on_cpu.losses, rel=0.05)
    assert as_shipped.stopped_by is None and as_shipped.notes == ()
    assert {side.device.type for pair in as_shipped.layers.values() for side in pair} == {"cpu"}
    assert max(float(up.abs().max()) for _, up in as_shipped.layers.values()) > 1e-5


@pytest.mark.parametrize("preset", ["low-vram", "default"])
def test_a_card_without_bfloat16_takes_float16(preset: str) -> None:
    on_cpu = trained(few(preset, precision="fp32", optimizer="adamw"), "cpu")
    with PretendedCard("values", bf16=False):
        half = trained(few(preset), "cuda")
    assert half.precision == "fp16" and half.losses == pytest.approx(on_cpu.losses, rel=0.05)
    assert half.stopped_by is None and half.notes == ()


@pytest.mark.parametrize("base", ["nf4", "int8"])
def test_a_base_in_fewer_bits_learns_on_a_card_as_on_a_cpu(base: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = few("low-vram", steps=2, precision="bf16", optimizer="adamw", base=base)
    on_cpu = trained(settings, "cpu")
    with PretendedCard("values"):
        there = trained(settings, "cuda")
    assert there.losses == pytest.approx(on_cpu.losses, rel=0.05)
    assert {side.device.type for pair in there.layers.values() for side in pair} == {"cpu"}
    assert "inputs will be cast" not in caplog.text  # bitsandbytes says so at each call of each int8 layer on a card


@pytest.mark.parametrize(("preset", "changes"), [*((name, {}) for name in PRESETS), ("default", {"precision": "fp16"})])
def test_a_run_stopped_and_gone_on_with_is_the_same_to_the_bit(preset: str, changes: dict[str, Any], tmp_path: Path) -> None:
    def stop(step: Step) -> None:
        if step.number == 2:
            raise KeyboardInterrupt

    settings = few(preset, steps=4, **changes)
    assert settings.optimizer == "adamw8bit"
    with PretendedCard("values"):
        whole = trained(settings, "cuda")
        first = trained(settings, "cuda", StateFolder(tmp_path / "states", every=100), stop)
        assert first.steps == 2 and isinstance(first.stopped_by, KeyboardInterrupt)
        second = trained(settings, "cuda", StateFolder(tmp_path / "states", every=100))
    assert second.steps == 4 and second.losses == whole.losses and second.notes == ()
    assert all(torch.equal(lora_of(second)[key], value) for key, value in lora_of(whole).items())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_waits_no_more_often_than_said(preset: str) -> None:
    seen: list[int] = []
    with PretendedCard("values") as card:

        def count(step: Step) -> None:
            seen.append(sum(times for (what, _), times in card.ledger.waits.items() if what != "torch.cuda.synchronize"))
            card.ledger.forget_work()

        trained(few(preset, crafting_every=1, crafting_ramp=0.0), "cuda", on_step=count)
    assert max(seen[1:]) <= WAITS


def test_a_run_that_ran_out_of_memory_goes_on_with_checkpointing(tmp_path: Path) -> None:
    def settings(checkpointing: bool) -> TrainSettings:
        return few("low-vram", steps=4, gradient_checkpointing=checkpointing)

    states = StateFolder(tmp_path / "states", every=50)
    with PretendedCard("values") as card:

        def fill(step: Step) -> None:
            if step.number == 2:
                card.ledger.limit = card.ledger.current + (1 << 20)

        first = trained(settings(False), "cuda", states, fill)
        assert first.steps == 2 and "ran out of memory" in str(first.stopped_by)
        assert first.layers and states.files()
        card.ledger.limit = None
        second = trained(settings(True), "cuda", states)
        whole = trained(settings(False), "cuda")
    assert second.steps == 4 and second.stopped_by is None
    assert second.losses == pytest.approx(whole.losses, rel=1e-2)


def test_low_vram_at_1024_stays_under_6_1_gib_at_sdxls_size() -> None:
    row = simulated("low-vram", 1024, {})
    assert row["allocated"] < 6.1 * GIB and row["fits"]["8"]
    assert row["parts"]["U-Net"] == pytest.approx(2 * 2_567_463_684, rel=1e-3)
    assert sum(row["parts"].values()) == pytest.approx(row["allocated"], rel=0.01)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_count_of_bytes_is_within_10_percent_of_a_real_step(checkpointing: bool) -> None:
    assert off(compared(512, checkpointing)) <= ALLOWED
