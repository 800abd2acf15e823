"""The base model in fewer bits: what a step keeps of it, and what is left of it when a run is over."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

import bitsandbytes
import pytest
import torch
from bitsandbytes.autograd import _functions as bitsandbytes_functions
from bitsandbytes.nn import Linear8bitLt
from torch.utils.checkpoint import checkpoint
from toys import toy_unet

from faceexpr_core.training.base import _packed
from faceexpr_core.training.data import TrainingSet
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.settings import TrainSettings

WIDTH, ROWS, LAYERS = 256, 1024, 4
INPUT = 2 * WIDTH * ROWS
"""Bytes of a layer's input."""


class Allocated(ctypes.Structure):
    """glibc's mallinfo2; of its eleven numbers `uordblks` and `hblkhd` are asked for."""

    _fields_ = [(name, ctypes.c_size_t) for name in (*"abcd", "mapped", *"efg", "used", "free", "end")]


def in_use() -> int:
    told = ctypes.CDLL("libc.so.6").mallinfo2
    told.restype = Allocated
    gc.collect()
    now = told()
    return int(now.used + now.mapped)


@pytest.fixture
def as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of bitsandbytes that a card takes; on a CPU it has another one for training."""

    def matmul(A: Any, B: Any, out: Any = None, state: Any = None, threshold: float = 0.0, bias: Any = None) -> Any:
        return bitsandbytes_functions.MatMul8bitLt.apply(A, B, out, bias, state)

    monkeypatch.setattr(bitsandbytes, "matmul", matmul)


def packed(base: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    layer = torch.nn.Linear(WIDTH, WIDTH)
    return layer.to(torch.bfloat16).requires_grad_(False) if base == "full" else _packed(layer, base, torch.bfloat16).to("cpu")


class Block(torch.nn.Module):
    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> Any:
        for _ in range(3):
            x = self.layer(x * 1.01)  # an input that nothing else keeps
        return x


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc what is in use")
@pytest.mark.parametrize("base", ["full", "nf4", "int8"])
def test_gradient_checkpointing_keeps_no_input_of_a_layer(base: str, as_on_a_card: None) -> None:
    """bitsandbytes' own int8 layer kept all three of each block, so that checkpointing saved nothing."""
    blocks = [Block(packed(base, seed)) for seed in range(LAYERS)]
    x = torch.randn(1, ROWS, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    for _ in range(2):  # the first time the layers settle
        before, made = in_use(), x
        for block in blocks:
            made = checkpoint(block, made, use_reentrant=False)
        kept = in_use() - before
        made.sum().backward()
    assert kept < 1.5 * LAYERS * INPUT  # what goes from block to block, and no more; without the mend 4 times that


def test_the_int8_layer_has_bitsandbytes_output_and_gradient(as_on_a_card: None) -> None:
    ours, theirs = packed("int8"), packed("int8")
    theirs.__class__ = Linear8bitLt
    found = []
    for layer in (ours, theirs):
        x = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(3)).bfloat16().requires_grad_()
        made = layer(x)
        (made.float() ** 2).sum().backward()
        found.append((made.detach(), x.grad))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=0)


@pytest.mark.parametrize("base", ["full", "nf4", "int8"])
def test_when_a_run_is_over_nothing_of_its_base_is_left(base: str) -> None:
    """Not even until the collector comes by, for which ComfyUI waits till the whole graph is done."""

    def given(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(1))

    sizes = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).repeat(3, 1)
    data = TrainingSet(given(3, 4, 8, 8), given(3, 77, 8), given(3, 6), sizes, torch.ones(3, 1, 8, 8))
    settings = TrainSettings(rank=4, steps=2, accumulation=1, gradient_checkpointing=True, base=base, precision="bf16")
    train_lora(toy_unet(), data, settings)  # libraries keep what they made once
    gc.collect()
    gc.disable()
    try:
        before = {id(one) for one in gc.get_objects() if isinstance(one, torch.Tensor)}
        kept = train_lora(toy_unet(), data, settings)
        ours = {id(one) for pair in kept.layers.values() for one in pair}
        left = [one for one in gc.get_objects() if isinstance(one, torch.Tensor) and id(one) not in before | ours]
        assert not [one for one in left if one.dtype in (torch.uint8, torch.int8)], f"{len(left)} tensors"
    finally:
        gc.enable()
