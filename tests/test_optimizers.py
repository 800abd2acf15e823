"""The optimiser's state goes to disk and comes back whole, whatever library it is from."""

from __future__ import annotations

import json

import bitsandbytes
import pytest
import torch
from torch import Tensor

from faceexpr_core.training.optimizers import join_state, split_state

MAKERS = {"torch": torch.optim.AdamW, "bitsandbytes": bitsandbytes.optim.AdamW8bit}


def steps(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter], numbers: range) -> None:
    for number in numbers:
        for index, weight in enumerate(weights):
            weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(100 * number + index))
        optimizer.step()


def fresh(maker: str) -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
    """Weights of which the first is large enough for 8-bit moments, the second is not."""
    weights = [torch.nn.Parameter(torch.ones(128, 64)), torch.nn.Parameter(torch.ones(16))]
    return weights, MAKERS[maker](weights, lr=1e-2)


@pytest.mark.parametrize("maker", MAKERS)
def test_an_optimizer_that_was_put_down_and_taken_up_goes_on_to_the_bit(maker: str) -> None:
    weights, optimizer = fresh(maker)
    steps(optimizer, weights, range(5))
    tensors, values = split_state(optimizer)
    assert all(isinstance(tensor, Tensor) for tensor in tensors.values())
    kept = json.loads(json.dumps(values))
    if maker == "bitsandbytes":
        assert sum(tensor.dtype == torch.uint8 for tensor in tensors.values()) == 2

    again, other = fresh(maker)
    with torch.no_grad():
        for there, here in zip(again, weights, strict=True):
            there.copy_(here)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    other.load_state_dict({"state": join_state(tensors, kept), "param_groups": other.state_dict()["param_groups"]})
    steps(optimizer, weights, range(5, 9))
    steps(other, again, range(5, 9))
    assert all(torch.equal(there, here) for there, here in zip(again, weights, strict=True))
