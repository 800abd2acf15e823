"""The system's memory (RAM): whether what a run copies there has room."""

from __future__ import annotations

import torch
from torch import nn

GB = 1 << 30


def weights_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of a model's weights in this dtype, wherever they lie; those on the meta device too."""
    return sum(weight.numel() for weight in model.parameters()) * dtype.itemsize


def short_of_ram(what: str, needed: int) -> str | None:
    """A warning that `what`, of so many bytes, is more than the system has free; None where it has room, or does not say."""
    import psutil

    try:
        free = psutil.virtual_memory().available
    except (OSError, RuntimeError):  # psutil's, where /proc is not as it knows it
        return None
    if needed <= free:
        return None
    return (
        f"{what} takes {needed / GB:.1f} GB of the system's memory (RAM), of which {free / GB:.1f} GB are free: the rest goes to the swap "
        "(on Windows the page file), which is slow, and where that is too small the run ends. Close other programs."
    )
