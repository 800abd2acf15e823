"""What a run tells its host after each step, and at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

Layers = Mapping[str, tuple[Tensor, Tensor]]
"""(down [rank, in, ...], up [out, rank, ...]) by module: `unet.` or the text encoder's name, then the module's path in diffusers."""


@dataclass(frozen=True)
class Step:
    """What `on_step` is told after each optimiser step; `number` counts from 1, `unet` carries the LoRA as it is now.

    `loss` is what was minimised, `losses` its parts without their weights (NaN for one that this step did not take). `taken` steps
    took `seconds` since the run was started or resumed; `memory` is the peak in bytes, 0 where not known. `embed` is `Trainer.embed`:
    tokens to embeddings as they are now, None where the text encoders do not learn.
    """

    number: int
    total: int
    loss: float
    learning_rate: float
    unet: UNet2DConditionModel
    losses: Mapping[str, float] = field(default_factory=dict)
    taken: int = 1
    seconds: float = 0.0
    memory: int = 0
    embed: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    @property
    def remaining(self) -> float:
        """Seconds to the end at the pace so far."""
        return (self.total - self.number) * self.seconds / self.taken


@dataclass(frozen=True)
class TrainResult:
    """`layers` after `steps` optimiser steps, float32 on the CPU; each changes its module by (alpha / rank) up @ down.

    `losses`: one value a step taken, resumed ones included.

    `curves` are the parts of the loss (`identity`, `prior`, `crafting`), without their weights, NaN where a step did not take them.
    `stopped_by` is what ended the run early (the host's interrupt, a loss that is not a number, memory): save the LoRA first, then
    raise it. None after a full run. `notes` say in words what was done otherwise than asked. `optimizer` and `precision` are those that
    were used, as `optimizers` and `precision` name them. `run` is what it was made of (`fingerprint.run_of`).
    """

    layers: Layers
    alpha: float
    losses: tuple[float, ...]
    steps: int
    stopped_by: BaseException | None = None
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    optimizer: str = ""
    precision: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        return self.stopped_by is not None
