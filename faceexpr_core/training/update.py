"""What a step does with its gradients: clipping, optimiser, learning rate, moving average; and the last weights that gave a good loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import FaceExprError
from .memory import pinned
from .optimizers import build_optimizer, optimizer_for
from .settings import TrainSettings


class Diverged(FaceExprError):
    """The loss is no longer a number, or far above where it began."""


class Update:
    """The weights that learn (`learning` of the U-Net, `reading` of the text encoders) and all that moves them.

    `changing` is True while the weights change: what is broken off then cannot be done again.
    """

    def __init__(
        self,
        learning: Sequence[torch.nn.Parameter],
        reading: Sequence[torch.nn.Parameter],
        settings: TrainSettings,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        from diffusers.training_utils import EMAModel

        self.settings, self.device = settings, device
        self.parameters = [*learning, *reading]
        self.groups = [{"params": list(learning), "lr": settings.learning_rate, "weight_decay": settings.weight_decay}]
        if reading:
            rate = settings.text_encoder_learning_rate or settings.learning_rate
            self.groups.append({"params": list(reading), "lr": rate, "weight_decay": settings.text_encoder_weight_decay})
        name, self.note = optimizer_for(settings, device)
        self.use(name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self.average = EMAModel(self.parameters, decay=settings.ema, foreach=True) if settings.ema else None
        self.last_good = [_kept(weight) for weight in self.deliverable]
        self.changing = False

    def use(self, name: str) -> None:
        """Begin with the optimiser `name` (see `optimizers`), without moments, and with the learning rate of the first step."""
        from diffusers.optimization import get_scheduler

        settings = self.settings
        self.optimizer_name, self.optimizer = name, build_optimizer(name, self.groups, self.device)
        self.rates = get_scheduler(
            "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
            self.optimizer,
            num_warmup_steps=settings.warmup,
            num_training_steps=settings.steps,
        )

    @property
    def deliverable(self) -> list[Tensor]:
        """The weights that leave the run: the moving average, or the trained ones without it."""
        return self.average.shadow_params if self.average is not None else list(self.parameters)

    def clipped_norm(self) -> Tensor:
        """The norm of the gradients, which are unscaled and clipped: a scalar."""
        self.scaler.unscale_(self.optimizer)
        return torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm or math.inf)

    def step(self) -> None:
        """Move the weights. float16 overflows now and then: its scaler skips such a step and goes on."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.rates.step()
        self.forget_gradients()
        if self.average is not None:
            self.average.step(self.parameters)

    def forget_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def keep_as_good(self) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.last_good, self.deliverable, non_blocking=True)

    def back_to_good(self) -> None:
        """The last good weights again. The host must have read a number from the device since they were kept."""
        with torch.no_grad():
            torch._foreach_copy_(self.deliverable, self.last_good)


def _kept(weight: Tensor) -> Tensor:
    """A copy on the host. That of weights on a card is pinned, so that copying to it makes nobody wait: the card's memory is dear."""
    copy = (pinned if weight.device.type == "cuda" else torch.empty)(weight.shape, dtype=weight.dtype)
    return copy.copy_(weight.detach())


def add_up(parameters: Sequence[torch.nn.Parameter], values: Sequence[Tensor]) -> None:
    """Add up the gradients and these scalars over the processes of torch.distributed, in place.

    A weight without a gradient gives zeros and gets none, so that a process whose step failed can take part, and be told of by a scalar.
    """
    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients] + [value[None] for value in values])
    torch.distributed.all_reduce(flat)
    *pieces, rest = flat.split([gradient.numel() for gradient in gradients] + [len(values)])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view_as(gradient))
    for value, piece in zip(values, rest, strict=True):
        value.copy_(piece)
