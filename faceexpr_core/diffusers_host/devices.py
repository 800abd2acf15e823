"""Which device computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import FaceExprError

if TYPE_CHECKING:
    pass


def best_device() -> str:
    """`cuda` or `mps` where there is one, else `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def chosen_device(asked: str) -> torch.device:
    """The device called `asked`, "" for the best there is. Raises FaceExprError when it cannot be used here."""
    try:
        device = torch.device(asked or best_device())
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as reason:  # a PyTorch without CUDA asserts that it has it
        raise FaceExprError(f"The device {asked} cannot be used here; give cpu, or leave it out for the best there is.") from reason
    return device
