"""Memory of the device: how much is free and how much is used, giving it back, and running out of it said in a sentence."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

from ..errors import FaceExprError

SYSTEM_SHORT = (
    "That is the system's memory (RAM), not the card's. Close other programs, or give the system more swap (on Windows a larger page file: "
    "System, Advanced system settings, Performance, Advanced, Virtual memory), and run it again."
)
_SAID = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "error_out_of_device_memory",  # Intel's
    "error_out_of_resources",
    "error_out_of_host_memory",
    "invalid buffer size",  # Apple's, of one tensor that is too large
)
_SAID_BY = {
    "mps": ("mps backend", "invalid buffer size"),
    "xpu": ("xpu out of memory", "level_zero", "error_out_of_device_memory", "error_out_of_resources"),
    "hip": ("hip out of memory", "hip error"),
}
"""What tells whose memory is short; NVIDIA's where nothing does."""
_SAID_OF_THE_SYSTEM = ("defaultcpuallocator", "alloc_cpu", "error_out_of_host_memory")


def is_out_of_memory(reason: BaseException) -> bool:
    """Whether an error says that memory is short: CUDA's, or what PyTorch raises for the CPU, MPS, XPU, cuBLAS and cuDNN."""
    if isinstance(reason, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(reason, RuntimeError) and any(words in str(reason).lower() for words in _SAID)


def is_the_systems(reason: BaseException) -> bool:
    """Whether the memory that `is_out_of_memory` found short is the system's, and not a card's."""
    if isinstance(reason, MemoryError):
        return True
    return any(words in str(reason).lower() for words in _SAID_OF_THE_SYSTEM)


@contextmanager
def enough_memory(doing: str) -> Iterator[None]:
    """Memory that runs out inside is a FaceExprError: `... ran out of memory while <doing>`."""
    try:
        yield
    except Exception as reason:
        if not is_out_of_memory(reason):
            raise
        what, advice = ("The system", SYSTEM_SHORT) if is_the_systems(reason) else ("The device", _smaller(reason))
        raise FaceExprError(f"{what} ran out of memory while {doing}: {first_line(reason)} {advice}") from reason


def _smaller(reason: BaseException) -> str:
    nf4 = ", or base nf4" if knows_nf4(reason) else ""
    return f"Take the preset low-vram{nf4}, batch size 1 with more accumulation, smaller photos, a lower rank; close {to_close(reason)}."


def knows_nf4(reason: BaseException) -> bool:
    """Whether a base in nf4 was tried on the kind of device whose memory is short."""
    return _short_of(reason) not in ("mps", "xpu")


def to_close(reason: BaseException) -> str:
    """What to close so that the device whose memory is short has more."""
    kind = _short_of(reason)
    if kind == "mps":
        return "other programs, which share the Mac's memory (Activity Monitor shows it)"
    return f"what else uses the card{' (`nvidia-smi` shows it)' if kind == 'cuda' else ''}"


def _short_of(reason: BaseException) -> str:
    said = str(reason).lower()
    return next((kind for kind, words in _SAID_BY.items() if any(word in said for word in words)), "cuda")


def first_line(reason: BaseException) -> str:
    """An error's first line with its full stop; CUDA's goes on with advice of its own, and that of MPS may bring down the system."""
    line = next(iter(str(reason).splitlines()), "") or type(reason).__name__
    line = line.partition(" Use PYTORCH_MPS")[0]
    return line if line.endswith(".") else f"{line}."


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take on a card, those that PyTorch keeps for it included; None where there is no card, or it does
    not say."""
    found = _free_and_total(device)
    if found is None:
        return None
    card = _card(device)
    return int(found[0] + card.memory_reserved(device) - card.memory_allocated(device))


def room_on(device: torch.device, rest: int) -> int | None:
    """Bytes that a training may take on a card: what is free, but never the last `rest` of all; None as `free_memory` has it."""
    free, found = free_memory(device), _free_and_total(device)
    return None if free is None or found is None else max(0, min(free, found[1] - rest))


def card_name(device: torch.device) -> str:
    """`NVIDIA GeForce RTX 4070, 11.1 of 12.0 GB free`; the name alone where the card does not say what is free."""
    found, name = _free_and_total(device), str(_card(device).get_device_name(device))
    return name if found is None else f"{name}, {found[0] / 2**30:.1f} of {found[1] / 2**30:.1f} GB free"


def _card(device: torch.device) -> Any:
    """PyTorch's module for this kind of card, None where it counts no memory."""
    return {"cuda": torch.cuda, "xpu": torch.xpu}.get(device.type)


def _free_and_total(device: torch.device) -> tuple[int, int] | None:
    card = _card(device)
    try:
        return None if card is None else card.mem_get_info(device)
    except (RuntimeError, AttributeError):
        if device.type == "cuda":
            raise
        return None  # Intel's cards within a processor do not tell, nor do PyTorch's versions before 2.6


def give_back(device: torch.device) -> None:
    """What nothing refers to any more goes back to the card, and pinned memory to the system."""
    gc.collect()
    if (empty := getattr(getattr(torch, device.type, None), "empty_cache", None)) is not None:
        empty()
    if device.type == "cuda" and hasattr(torch._C, "_host_emptyCache"):
        torch._C._host_emptyCache()


def pinned(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """An empty tensor on the host in memory that a card reads without making anybody wait; in plain memory where there is no more of
    that."""
    try:
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
    except RuntimeError:
        return torch.empty(tuple(shape), dtype=dtype)


def memory_in_use(device: torch.device) -> int:
    """Bytes at the peak: of the GPU's memory that torch holds, or of this process on the CPU; 0 where that is not known."""
    if (card := _card(device)) is not None:
        return int(card.max_memory_reserved(device))
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def reset_peak(device: torch.device) -> None:
    """Count the peak of `memory_in_use` from here on a card; a process has one peak."""
    if (card := _card(device)) is not None:
        card.reset_peak_memory_stats(device)


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
