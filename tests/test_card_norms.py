"""`lab.card.norms`: what it changes while it measures, and that it is as before afterwards."""

from __future__ import annotations

import torch
from distances import relative

from lab.card.norms import BF16, norms_in_bfloat16


def test_norms_are_computed_in_bfloat16_inside_and_as_before_outside() -> None:
    module = torch.nn.Sequential(torch.nn.GroupNorm(2, 4), torch.nn.Flatten(2), torch.nn.LayerNorm(9)).to(BF16)
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    with norms_in_bfloat16(module), torch.autocast("cpu", BF16):
        inside = module(x).detach()
    exact = module.float()(x).detach()
    assert inside.dtype == BF16 and exact.dtype == torch.float32
    assert 0 < relative(inside, exact) < 0.02
    assert not any("forward" in vars(part) for part in module)
