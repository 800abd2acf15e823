"""Muon for matrices and convolution kernels, AdamW for the rest: a short training is all that a laptop can pay for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

SMALLEST_SIDE = 16


class MuonAdamW:
    """Two torch optimisers behind one `step`. Make it after the model is wrapped for several processes: wrapping moves the parameters.

    Kernels [out, in, kh, kw] are seen by Muon as [out, in*kh*kw]; parameters of one dimension, embeddings and tensors with a side below
    SMALLEST_SIDE go to AdamW. Every process works on its share of the matrices and then hands the result to the others.
    Muon's momentum is not part of the state: it is forgotten within some twenty steps.
    """

    def __init__(
        self, named: Iterable[tuple[str, torch.nn.Parameter]], muon_rate: float, adam_rate: float, accelerator: Accelerator
    ) -> None:
        matrices: list[torch.nn.Parameter] = []
        rest: list[torch.nn.Parameter] = []
        for name, parameter in named:
            if not parameter.requires_grad:
                continue
            wide = parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel()) >= SMALLEST_SIDE
            (matrices if wide and "embed" not in name.split(".")[-2] else rest).append(parameter)
        matrices.sort(key=lambda parameter: -parameter.numel())
        ranks = accelerator.num_processes
        self.shares = [[(p, p.data.flatten(1)) for p in matrices[rank::ranks]] for rank in range(ranks)]
        if any(view.data_ptr() != p.data_ptr() for share in self.shares for p, view in share):
            raise ValueError("Muon needs parameters that can be seen as matrices without a copy")
        self.own = self.shares[accelerator.process_index]
        self.rates = (muon_rate, adam_rate)
        views = [view for _, view in self.own]
        self.muon = torch.optim.Muon(views, lr=muon_rate, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        self.adam = torch.optim.AdamW(rest, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0)

    def zero_grad(self) -> None:
        for share in self.shares:
            for parameter, _ in share:
                parameter.grad = None
        self.adam.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """`rate` multiplies the two base learning rates."""
        for optimizer, base in zip((self.muon, self.adam), self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * rate
        for parameter, view in self.own:
            if view.data_ptr() != parameter.data_ptr():
                raise RuntimeError("the parameters have moved since the optimiser was made")
            view.grad = None if parameter.grad is None else parameter.grad.flatten(1)
        self.muon.step()
        self.adam.step()
        if len(self.shares) > 1:
            for rank, share in enumerate(self.shares):
                values = broadcast(torch.cat([view.flatten() for _, view in share]), from_process=rank)
                for (_, view), part in zip(share, values.split([view.numel() for _, view in share]), strict=True):
                    if share is not self.own:
                        view.copy_(part.view_as(view))

    def state_dict(self) -> dict[str, Any]:
        return self.adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(state)
