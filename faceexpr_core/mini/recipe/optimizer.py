"""Muon for matrices and convolution kernels, AdamW for the rest: a short training is all that a laptop can pay for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def as_matrix(tensor: torch.Tensor) -> torch.Tensor:
    """[out, ...] -> [out, rest], without a copy for contiguous and for channels-last tensors."""
    if tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.flatten(1)


class MuonAdamW:
    """Two torch optimisers behind one `step`.

    Kernels [out, in, kh, kw] are seen by Muon as [out, in*kh*kw]. `rate` multiplies the two base learning rates.
    Parameters of one dimension, embeddings and tensors with a side below `smallest_side` go to AdamW.
    """

    def __init__(
        self, named: Iterable[tuple[str, torch.nn.Parameter]], muon_rate: float, adam_rate: float, smallest_side: int = 16
    ) -> None:
        matrices, rest = [], []
        for name, parameter in named:
            if not parameter.requires_grad:
                continue
            wide = parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel()) >= smallest_side
            (matrices if wide and "embed" not in name.rsplit(".", 2)[-2] else rest).append(parameter)
        self.matrices = matrices
        self.views = [as_matrix(p.data) for p in matrices]
        if any(v.data_ptr() != p.data_ptr() for v, p in zip(self.views, matrices, strict=True)):
            raise ValueError("Muon needs parameters that can be seen as matrices without a copy")
        self.rates = (muon_rate, adam_rate)
        self.muon = torch.optim.Muon(self.views, lr=muon_rate, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        self.adam = torch.optim.AdamW(rest, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0)

    def zero_grad(self) -> None:
        for parameter in self.matrices:
            parameter.grad = None
        self.adam.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        for optimizer, base in zip((self.muon, self.adam), self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * rate
        for view, parameter in zip(self.views, self.matrices, strict=True):
            grad = parameter.grad
            if grad is not None and grad.stride() != parameter.stride():
                grad = torch.empty_like(parameter).copy_(grad)
            view.grad = None if grad is None else as_matrix(grad)
        self.muon.step()
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
