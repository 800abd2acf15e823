"""Memory of the device: how much is free, and running out of it said in a sentence."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import FaceExprError

SMALLER = (
    "Take the preset low-vram, or batch size 1 with more accumulation, smaller photos, a lower rank; "
    "close what else uses the card (`nvidia-smi` shows it)."
)
_SAID = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed")


def is_out_of_memory(reason: BaseException) -> bool:
    """Whether an error says that memory is short: CUDA's, or what PyTorch raises for the CPU, MPS, cuBLAS and cuDNN."""
    if isinstance(reason, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(reason, RuntimeError) and any(words in str(reason).lower() for words in _SAID)


@contextmanager
def enough_memory(doing: str) -> Iterator[None]:
    """Memory that runs out inside is a FaceExprError: `... ran out of memory while <doing>`."""
    try:
        yield
    except Exception as reason:
        if not is_out_of_memory(reason):
            raise
        raise FaceExprError(f"The device ran out of memory while {doing}: {first_line(reason)} {SMALLER}") from reason


def first_line(reason: BaseException) -> str:
    """An error's first line with its full stop; CUDA's goes on with advice of its own."""
    line = next(iter(str(reason).splitlines()), "") or type(reason).__name__
    return line if line.endswith(".") else f"{line}."


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take on a card, those that PyTorch keeps for it included; None where there is no card."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def room_on(device: torch.device, rest: int) -> int | None:
    """Bytes that a training may take on a card: what is free, but never the last `rest` of all; None where there is no card."""
    free = free_memory(device)
    return None if free is None else max(0, min(free, torch.cuda.mem_get_info(device)[1] - rest))


def card_name(device: torch.device) -> str:
    """`NVIDIA GeForce RTX 4070, 11.1 of 12.0 GB free`."""
    free, total = torch.cuda.mem_get_info(device)
    return f"{torch.cuda.get_device_name(device)}, {free / 2**30:.1f} of {total / 2**30:.1f} GB free"


def give_back(device: torch.device) -> None:
    """What nothing refers to any more goes back to the card."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
