"""What PyTorch has not on a Mac's graphics chip, or had not before some version; no Mac is here, so that its answers are pretended."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from faceexpr_core import mini
from faceexpr_core.errors import FaceExprError
from faceexpr_core.fusion import grids
from faceexpr_core.fusion.injection import Attention, Call, Injection, Part
from faceexpr_core.fusion.look import Where
from faceexpr_core.fusion.recorder import Recorder
from faceexpr_core.fusion.settings import CONTEXT_SITE, site_settings
from faceexpr_core.training import bits, parts
from faceexpr_core.training.base import check_base
from faceexpr_core.training.data import TrainingSet
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.memory import enough_memory, is_out_of_memory
from faceexpr_core.training.parts import Parts
from faceexpr_core.training.precision import compute_dtype, precision_note
from faceexpr_core.training.preview import preview_latents
from faceexpr_core.training.settings import TrainSettings, preset_settings
from faceexpr_core.training.trainer import Trainer

MPS, CPU = torch.device("mps"), torch.device("cpu")
WHOLE, HALF, BRAIN = torch.float32, torch.float16, torch.bfloat16
SHORT = (
    "MPS backend out of memory (MPS allocated: 17.90 GB, other allocations: 1.20 GB, max allowed: 18.13 GB). Tried to allocate 256.00 MB "
    "on private pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable upper limit for memory allocations (may cause system failure)."
)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def refuse(*_: object, **__: object) -> NoReturn:
    raise NotImplementedError("The operator is not currently implemented for the MPS device.")


def fused_in_a_corner() -> Tensor:
    """What words make of two pictures [2, 24, 8] in four of their tokens."""
    recorder = Recorder(CONTEXT_SITE)
    for seed, which in enumerate(("e:k", "e:v", "n:k", "n:v")):
        recorder.add("output.3.0", None, which, numbers(seed, 1, 5, 8))
    corner = torch.zeros(4, 6)
    corner[:2, :2] = 0.5
    injection = Injection(recorder.bank(), replace(site_settings(CONTEXT_SITE), cap=100.0), ["output.3.0"], print)
    rows = [Part(slice(0, 2), (Where(corner),))]
    now = Call(2.0, 4.0, (14.6, 2.0, 0.0), {})
    attention = Attention(lambda rows, chosen: numbers(11, 2, 24, 8)[rows][:, chosen], torch.nn.Identity(), 2)
    return injection.add_context("output.3.0", numbers(10, 2, 24, 8), (4, 6), now, rows, attention)


def test_words_are_fused_without_index_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no kernel for MPS before PyTorch 2.8."""
    monkeypatch.setattr(torch.Tensor, "index_copy", refuse)
    before, after = numbers(10, 2, 24, 8), fused_in_a_corner()
    assert (after != before).any(-1)[0].nonzero().flatten().tolist() == [0, 1, 6, 7]


@pytest.mark.parametrize(
    ("size", "grid", "on"), [((7, 9), (3, 4), CPU), ((8, 9), (4, 4), CPU), ((8, 12), (4, 3), MPS), ((64, 64), (1, 1), MPS)]
)
def test_area_means_of_sizes_that_are_no_multiples_are_taken_on_the_cpu(size: tuple[int, int], grid: tuple[int, int], on: Any) -> None:
    assert grids.area_device(MPS, size, grid) == on
    assert grids.area_device(CPU, size, grid) == CPU and grids.area_device(torch.device("cuda:1"), size, grid) == torch.device("cuda:1")


def test_a_resize_asks_where_its_means_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answer(*given: Any) -> torch.device:
        asked.append(given)
        return CPU

    monkeypatch.setattr(grids, "area_device", answer)
    assert grids.grid_mask(torch.ones(7, 9), (3, 4)).eq(1).all() and asked == [(CPU, (7, 9), (3, 4))]
    grids.grid_mask(torch.ones(2, 3), (4, 6))
    assert len(asked) == 1  # not for what grows


@pytest.mark.parametrize(
    ("version", "macos_14", "fp16", "bf16"),
    [
        ("2.4.1", True, WHOLE, WHOLE),
        ("2.5.0", True, WHOLE, WHOLE),
        ("2.7.1", True, BRAIN, BRAIN),
        ("2.7.1", False, WHOLE, WHOLE),
        ("2.8.0", True, HALF, BRAIN),
        ("2.11.0+cpu", False, HALF, WHOLE),
    ],
)
def test_what_cannot_be_learned_in_is_told(
    monkeypatch: pytest.MonkeyPatch, version: str, macos_14: bool, fp16: torch.dtype, bf16: torch.dtype
) -> None:
    """Before 2.8 GradScaler asks MPS for float64, which it has not; bfloat16 needs macOS 14 and PyTorch 2.6."""
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: macos_14)
    assert preset_settings("paper").precision == "fp16"
    names = {WHOLE: "fp32", HALF: "fp16", BRAIN: "bf16"}
    for asked, found in (("fp16", fp16), ("bf16", bf16)):
        assert compute_dtype(asked, MPS) == found
        note = precision_note(asked, MPS)
        assert (note is None) is (names[found] == asked)
        assert note is None or (note.startswith(f"{asked} ") and note.endswith(f"it computes in {names[found]}."))
    assert compute_dtype("fp32", MPS) == WHOLE and precision_note("fp32", MPS) is precision_note("auto", MPS) is None
    assert compute_dtype("fp16", CPU) == WHOLE and compute_dtype("bf16", CPU) == BRAIN


FEW = TrainSettings(rank=4, steps=2, batch_size=1, accumulation=1, ema=0, precision="fp32")


def photos() -> TrainingSet:
    sizes = torch.tensor([[128.0, 128.0, 0.0, 0.0, 128.0, 128.0]]).repeat(3, 1)
    return TrainingSet(numbers(1, 3, 4, 8, 8), numbers(2, 3, 77, 96), numbers(3, 3, 64), sizes, torch.ones(3, 1, 8, 8))


@pytest.fixture(scope="module")
def shipped() -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(mini.path() / "unet", torch_dtype=torch.float32)


def test_float32_needs_no_autocast(shipped: UNet2DConditionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before PyTorch 2.5 autocast raises on MPS, also where it is switched off."""
    unet = copy.deepcopy(shipped)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "autocast", refuse)
        assert len(train_lora(unet, photos(), FEW).losses) == 2
        assert preview_latents(unet, numbers(4, 2, 77, 96), numbers(5, 2, 64), 64, 64, steps=2).isfinite().all()
        patched.setattr(parts, "embed_tokens", lambda encoders, tokens: (torch.ones(1, 77, 8), torch.ones(1, 8)))
        run: Any = SimpleNamespace(encoders=(), dtype=torch.float32)
        assert Parts.embed(run, torch.ones(1, 2, 1, 77, dtype=torch.long))[0].shape == (1, 77, 8)
        with pytest.raises(NotImplementedError):
            train_lora(copy.deepcopy(shipped), photos(), replace(FEW, precision="bf16"))


def test_memory_that_runs_out_is_told_in_a_macs_words(shipped: UNet2DConditionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (SHORT, "Invalid buffer size: 24.00 GiB"):
        assert is_out_of_memory(RuntimeError(words))
        with (
            pytest.raises(FaceExprError, match=r"^The device ran out of memory while drawing: .*Activity Monitor") as told,
            enough_memory("drawing"),
        ):
            raise RuntimeError(words)
        assert not [word for word in ("nvidia-smi", "nf4", "the card", "WATERMARK") if word in str(told.value)]

    def short(self: Trainer) -> NoReturn:
        raise RuntimeError(SHORT)

    monkeypatch.setattr(Trainer, "step", short)
    with pytest.raises(FaceExprError, match=r"^The device ran out of memory while training .*Activity Monitor") as told:
        train_lora(copy.deepcopy(shipped), photos(), FEW)
    assert not [word for word in ("nvidia-smi", "nf4", "the card", "WATERMARK") if word in str(told.value)]
    assert "or switch gradient checkpointing on, and run the same again" in str(told.value)


@pytest.mark.parametrize("words", ["XPU out of memory. Tried to allocate 2.00 GiB.", "HIP out of memory. Tried to allocate 2.00 GiB."])
def test_only_nvidias_cards_are_shown_by_nvidia_smi(words: str) -> None:
    with pytest.raises(FaceExprError, match="close what else uses the card") as told, enough_memory("drawing"):
        raise RuntimeError(words)
    assert "nvidia-smi" not in str(told.value) and ("nf4" in str(told.value)) is words.startswith("HIP")


def test_packed_weights_were_not_tried_on_macs() -> None:
    assert bits.unusable(MPS) == bits.NOT_TRIED
    with pytest.raises(FaceExprError, match=r"base is nf4, .* not tried on cards of this kind"):
        check_base("nf4", MPS)
    check_base("full", MPS)
