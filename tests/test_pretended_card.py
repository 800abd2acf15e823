"""The pretended card of lab/pretended: what it counts, what it refuses, and that a training on it gives the CPU's numbers."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from toys import lora_of, toy_unet

from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.settings import TrainSettings
from lab.card.sets import sets_for, widths
from lab.pretended import engine
from lab.pretended.allocator import CachingAllocator
from lab.pretended.card import DeviceMix, PretendedCard

MIB = 1 << 20


def test_bytes_flops_and_waits_are_counted() -> None:
    with PretendedCard("shapes") as card:
        with torch.device("cuda"):
            layer = torch.nn.Linear(1024, 512, bias=False)
        rows = torch.randn(8, 1024).to("cuda")
        assert card.ledger.label(layer.parameters(), "weights") == 2 * MIB
        assert card.ledger.current == 2 * MIB + 8 * 4096
        with card.ledger.during("forward"):
            layer(rows).sum().backward()
        assert card.ledger.flops_of["forward"] == 2 * (2 * 8 * 1024 * 512)
        assert card.ledger.by_label() == {"weights": 2 * MIB, "other": 2 * MIB + 8 * 4096}  # its gradient, and the rows
        assert card.ledger.peak >= 4 * MIB + 8 * 4096
        assert [what for what, _ in card.ledger.waits] == ["to cuda"]
        float(rows.sum())
        assert card.ledger.waits["item", "?"] == 1
        del layer, rows
        assert card.ledger.current == 0


@pytest.mark.parametrize("kind", ["shapes", "values"])
def test_tensors_of_two_devices_do_not_meet(kind: str) -> None:
    with PretendedCard(kind) as card:  # type: ignore[arg-type]
        there = torch.ones(3, device="cuda")
        with pytest.raises(DeviceMix, match="at least two devices"):
            there + torch.ones(3)
        assert (there + torch.tensor(2.0)).device.type == "cuda"  # a number may
        assert torch.empty_like(torch.ones(3), device="cuda").device.type == "cuda"  # nothing is read of it but its shape
        assert card.ledger.current > 0


def test_only_pinned_and_non_blocking_uploads_do_not_wait() -> None:
    with PretendedCard("values") as card:
        plain, pinned = torch.ones(4), torch.ones(4).pin_memory()
        plain.to("cuda", non_blocking=True)
        pinned.to("cuda")
        assert sum(card.ledger.waits.values()) == 2 and not card.ledger.uploads
        assert pinned.view(2, 2).to("cuda", non_blocking=True).tolist() == [[1, 1], [1, 1]]
        assert sum(card.ledger.uploads.values()) == 1 and sum(card.ledger.waits.values()) == 3  # the last is tolist
        assert torch.empty(3, pin_memory=True).is_pinned() and not plain.is_pinned()


def test_a_card_has_its_limit_and_goes_on_after_it() -> None:
    with PretendedCard("values", limit=4 * MIB) as card:
        kept = torch.zeros(MIB // 2, device="cuda")  # 2 MiB
        with pytest.raises(torch.cuda.OutOfMemoryError, match=r"3\.00 MiB, 4\.00 MiB are the limit"):
            torch.zeros(3 * MIB // 4, device="cuda")
        assert card.ledger.current == 2 * MIB
        assert torch.zeros(MIB // 4, device="cuda").sum().item() == 0 and len(kept) == MIB // 2


def test_the_allocator_holds_segments_as_pytorchs_does() -> None:
    allocator = CachingAllocator(capacity=64 * MIB)
    half = MIB // 2
    assert allocator.run([(1, 1000), (2, 3 * MIB), (3, 35 * half)])
    assert allocator.reserved == (2 + 20 + 18) * MIB  # a small segment, a large one, one of its own
    assert allocator.allocated == 1024 + 3 * MIB + 18 * MIB  # a rest of up to 1 MiB is not split off
    allocator.release(3)
    assert allocator.take(4, 35 * half) and allocator.reserved == 40 * MIB  # from the cache
    allocator.release(4)
    assert allocator.take(5, 40 * MIB) and allocator.flushes == 1 and allocator.reserved == (2 + 20 + 40) * MIB
    assert not allocator.take(6, 20 * MIB)


@pytest.mark.long
def test_a_training_on_it_gives_the_cpus_losses_and_lora() -> None:
    unet, settings = toy_unet(), TrainSettings(rank=2, steps=3, accumulation=1, prior="distill", crafting_weight=0.05, optimizer="adamw")
    data, _, crafting = sets_for(settings, 64, *widths(unet), counts=(3, 0, 2))
    on_cpu = train_lora(copy.deepcopy(unet), data, settings, crafting=crafting)
    with PretendedCard("values") as card:
        in_full = TrainSettings(**{**vars(settings), "precision": "fp32"})
        there = train_lora(copy.deepcopy(unet), data, in_full, device="cuda", crafting=crafting)
        half = train_lora(copy.deepcopy(unet), data, settings, device="cuda", crafting=crafting)
        assert card.ledger.peak > 0 and any("trainer.py" in line for _, line in card.ledger.waits)
    assert there.losses == pytest.approx(on_cpu.losses, rel=1e-4)
    assert half.losses == pytest.approx(on_cpu.losses, rel=0.03) and half.losses != there.losses
    assert all(torch.allclose(lora_of(there)[key], value, atol=1e-5) for key, value in lora_of(on_cpu).items())
    assert {side.device.type for pair in there.layers.values() for side in pair} == {"cpu"}


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(engine.NoCompiler, match=r"apt install g\+\+"):
        engine.library()
