"""The optimiser of the LoRA's weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import torch

from .train_settings import TrainSettings

NO_CUDA = "8-bit AdamW needs an NVIDIA GPU; plain AdamW is used. It takes six more bytes for each number of the LoRA."
NOT_INSTALLED = "8-bit AdamW needs the package bitsandbytes, which is not installed; plain AdamW is used."


def build_optimizer(
    parameters: Sequence[torch.nn.Parameter], settings: TrainSettings, device: torch.device
) -> tuple[torch.optim.Optimizer, str | None]:
    """AdamW (Loshchilov and Hutter 1711.05101), its moments in 8 bits (Dettmers et al. 2110.02861) where asked for and possible.

    The second value says in words why it is not the one asked for; None if it is.
    """
    rate, decay, note = settings.learning_rate, settings.weight_decay, None
    if settings.optimizer == "adamw8bit":
        if device.type != "cuda":
            note = NO_CUDA
        elif importlib.util.find_spec("bitsandbytes") is None:
            note = NOT_INSTALLED
        else:
            import bitsandbytes

            return bitsandbytes.optim.AdamW8bit(list(parameters), lr=rate, weight_decay=decay), None
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=device.type in ("cpu", "cuda")), note
