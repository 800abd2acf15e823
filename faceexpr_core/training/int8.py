"""Linear layers in 8 bits that keep nothing of their inputs for the backward pass. Ours, on bitsandbytes' layers."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.nn import Linear8bitLt
from torch import Tensor


class LeanLinear8bit(Linear8bitLt):
    """bitsandbytes' layer of a frozen base without outliers. Its own keeps every input where gradient checkpointing does not see it, so
    that checkpointing saved nothing; the gradient needs the weights alone."""

    def forward(self, x: Tensor) -> Tensor:
        plain = super().forward
        if not (torch.is_grad_enabled() and x.requires_grad):
            return plain(x)
        made: Tensor = _Through.apply(x, plain, self.state)
        return made


class _Through(torch.autograd.Function):
    """What `forward` gives, with the gradient of a linear layer of the weights CB SCB / 127."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Any, state: Any) -> Tensor:
        made: Tensor = forward(x)
        ctx.state, ctx.dtype = state, x.dtype
        return made

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        weight = ctx.state.CB.to(ctx.dtype).mul_(ctx.state.SCB.unsqueeze(1) / 127)
        return grad.to(ctx.dtype) @ weight, None, None
