"""Memory of the device: how much is free and how much is used, giving it back, and running out of it said in a sentence."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

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


def memory_in_use(device: torch.device) -> int:
    """Bytes at the peak: of the GPU's memory that torch holds, or of this process on the CPU; 0 where that is not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def reset_peak(device: torch.device) -> None:
    """Count the peak of `memory_in_use` from here on CUDA; a process has one peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def forget_freed(device: torch.device) -> None:
    """What nothing refers to any more goes back to the card and to the system, and the peak is counted from here."""
    give_back(device)
    _trim_heap()
    reset_peak(device)


def _trim_heap() -> None:
    """The C library of Linux keeps freed memory until it is told to give it to the system."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)
