"""What the training loop does to a card, on one that is pretended: waits, uploads, where its tensors lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toys import lora_of, toy_unet

from faceexpr_core.errors import FaceExprError
from faceexpr_core.training.adapter import add_lora
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.materials import Materials
from faceexpr_core.training.result import Step, TrainResult
from faceexpr_core.training.settings import TrainSettings, preset_settings
from faceexpr_core.training.state import StateFolder
from faceexpr_core.training.trainer import Trainer
from lab.card.sets import sets_for, widths
from lab.pretended.card import PretendedCard

pytestmark = pytest.mark.long

WAITS = 4
"""Of the host for the device in a step, bitsandbytes' own not counted."""


def settings_for(**changes: object) -> TrainSettings:
    common = {"rank": 2, "steps": 4, "accumulation": 2, "prior": "distill", "crafting_weight": 0.05, "optimizer": "adamw"}
    return TrainSettings(**{**common, "caption_dropout": 0.5, "noise_offset": 0.1, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"precision": "fp16", "prior": "images"}], ids=["bf16", "fp16"])
def test_a_step_uploads_all_its_batches_at_once_and_waits_no_more_than_stated(changes: dict) -> None:
    unet, settings = toy_unet(), settings_for(**changes)
    data, images, crafting = sets_for(settings, 64, *widths(unet), counts=(3, 4, 2))
    with PretendedCard("values") as card:
        trainer = Trainer(Materials(unet, data, images, crafting), settings, torch.device("cuda"))
        for _ in range(settings.steps):
            card.ledger.forget_work()
            trainer.step()
            assert sum(card.ledger.waits.values()) <= WAITS, card.ledger.waits
            assert sum(card.ledger.uploads.values()) == 1, card.ledger.uploads
        assert {weight.device.type for weight in trainer.update.last_good} == {"cpu"}
        assert {weight.device.type for weight in trainer.update.parameters} == {"cuda"}


def test_with_shapes_alone_a_step_works_as_with_numbers() -> None:
    """The table of `faceexpr plan` is made so."""
    settings = settings_for(precision="bf16", crafting_every=1, crafting_ramp=0.0)
    counted = []
    for kind in ("values", "shapes"):
        with PretendedCard(kind, item=0.1) as card:
            unet = toy_unet()
            data, images, crafting = sets_for(settings, 64, *widths(unet), counts=(3, 0, 2))
            trainer = Trainer(Materials(unet, data, images, crafting), settings, torch.device("cuda"))
            card.ledger.forget_work()
            trainer.step()
            counted.append((card.ledger.peak, card.ledger.flops, sum(card.ledger.launches.values())))
    (peak, flops, launches), shapes = counted
    # the draws are others
    assert shapes == (pytest.approx(peak, rel=0.05), pytest.approx(flops, rel=0.25), pytest.approx(launches, rel=0.05))


def test_a_run_of_default_in_float16_goes_on_to_the_bit_with_its_scale(tmp_path: Path) -> None:
    settings = preset_settings(
        "default", precision="fp16", steps=3, accumulation=1, rank=2, text_encoder=False, gradient_checkpointing=True
    )

    def stop(step: Step) -> None:
        if step.number == 2:
            raise KeyboardInterrupt

    def trained(states: StateFolder | None = None, on_step: Callable[[Step], None] | None = None) -> TrainResult:
        unet = toy_unet()
        data, images, crafting = sets_for(settings, 64, *widths(unet), counts=(3, 4, 2))
        return train_lora(unet, data, settings, on_step, "cuda", class_images=images, crafting=crafting, states=states)

    states = StateFolder(tmp_path / "states", every=100)
    with PretendedCard("values"):
        whole, first = trained(), trained(states, stop)
        kept = states.latest()
        assert (
            kept is not None and kept.values["scaler"]["scale"] > 1 and first.steps == 2 and isinstance(first.stopped_by, KeyboardInterrupt)
        )
        second = trained(states)
    assert whole.precision == "fp16" and whole.stopped_by is None and whole.notes == second.notes == ()
    assert second.steps == 3 and second.losses == whole.losses
    assert all(torch.equal(lora_of(second)[key], value) for key, value in lora_of(whole).items())


def test_what_goes_into_the_lora_is_not_kept_in_float32_beside_it() -> None:
    """peft would cast it to float32 first, and autocast back: 0.4 GiB at SDXL's size without checkpointing."""
    unet = toy_unet()
    with PretendedCard("values"):
        unet.requires_grad_(False).to("cuda", torch.bfloat16)
        layers = add_lora(unet, 2, 2, torch.Generator().manual_seed(0))
        seen: dict[str, set[torch.dtype]] = {name: set() for name in layers}
        for name in layers:
            layer = unet.get_submodule(name)
            for part in (layer.base_layer, *layer.lora_A.values()):
                part.register_forward_pre_hook(lambda _, given, name=name: seen[name].add(given[0].dtype))
        words, pooled = widths(unet)
        added = {"text_embeds": torch.zeros(1, pooled, device="cuda"), "time_ids": torch.zeros(1, 6, device="cuda")}
        given = torch.zeros(1, 4, 8, 8, device="cuda"), torch.tensor(500, device="cuda"), torch.zeros(1, 77, words, device="cuda")
        with torch.autocast("cuda", torch.bfloat16):
            unet(*given, added_cond_kwargs=added)
    assert any(torch.bfloat16 in dtypes for dtypes in seen.values())
    assert all(len(dtypes) == 1 for dtypes in seen.values()), seen  # the LoRA is given what its layer is


def test_a_run_that_diverges_on_a_card_hands_back_the_last_good_weights() -> None:
    unet, settings = toy_unet(), settings_for(ema=0.0, accumulation=1)
    data, _, crafting = sets_for(settings, 64, *widths(unet), counts=(3, 0, 2))
    kept: list[torch.Tensor] = []

    def poison(step: Step) -> None:
        if step.number == 2:
            kept.extend(tensor.cpu() for tensor in step.unet.state_dict().values())
        if step.number == 3:
            for name, weight in step.unet.named_parameters():
                if "lora_B" in name:
                    weight.data.fill_(float("nan"))

    with PretendedCard("values"):
        whole = train_lora(toy_unet(), data, settings, device="cuda", crafting=crafting)
        result = train_lora(unet, data, settings, poison, "cuda", crafting=crafting)
    assert isinstance(result.stopped_by, FaceExprError) and "diverged: at step 4" in str(result.stopped_by)
    assert result.steps == 2 and result.losses[:3] == whole.losses[:3]
    learned = {tuple(kept_one.flatten()[:4].tolist()) for kept_one in kept}
    assert all(tuple(up.flatten()[:4].tolist()) in learned for _, up in result.layers.values())


def test_the_memory_shown_is_that_of_the_training() -> None:
    unet, settings = toy_unet(), settings_for(steps=1)
    data, _, crafting = sets_for(settings, 64, *widths(unet), counts=(3, 0, 2))
    shown: list[int] = []
    with PretendedCard("values"):
        before = torch.zeros(64 << 20, device="cuda")  # 256 MiB, as sampling before it leaves behind in the peak
        del before
        train_lora(unet, data, settings, lambda step: shown.append(step.memory), "cuda", crafting=crafting)
    assert 0 < shown[0] < 64 << 20
