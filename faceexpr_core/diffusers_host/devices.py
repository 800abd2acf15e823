"""Which device computes."""

from __future__ import annotations

import torch

from ..errors import FaceExprError
from ..training.precision import best_dtype


def best_device() -> str:
    """`cuda`, `mps`, `xpu` or what else PyTorch has been built for, where there is one; else `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    if hasattr(torch, "accelerator"):  # from PyTorch 2.6 on
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return "cpu" if found is None else found.type
    return "xpu" if torch.xpu.is_available() else "cpu"


def drawing_dtype(device: torch.device) -> torch.dtype:
    """In what pictures are drawn: float16, and float32 on the CPU and on cards whose float16 is not relied on."""
    if device.type == "cpu" or (device.type == "cuda" and best_dtype(device) == torch.float32):
        return torch.float32
    return torch.float16


def chosen_device(asked: str) -> torch.device:
    """The device called `asked`, "" for the best there is. Raises FaceExprError when it cannot be used here."""
    try:
        device = torch.device(asked or best_device())
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as reason:  # a PyTorch without CUDA asserts that it has it
        raise FaceExprError(f"The device {asked} cannot be used here; give cpu, or leave it out for the best there is.") from reason
    return device
