"""In what numbers a run computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

AMD_WITHOUT_BF16 = ("gfx803", "gfx900", "gfx906", "gfx101", "gfx103")
"""AMD's chips up to RDNA2, which compute in no bfloat16, though PyTorch says so of all of AMD's: those of ComfyUI's
comfy/model_management.py (AMD_RDNA2_AND_OLDER_ARCH), RDNA and RDNA2 by their families."""
WRONG_IN_FP16 = ("1660", "1650", "1630", "T500", "T550", "T600", "MX550", "MX450", "CMP 30HX", "T2000", "T1000", "T1200")
"""Of the names of NVIDIA's cards that compute wrongly in float16, the GTX 16 series and its like: those of the same file
(nvidia_16_series)."""


def best_dtype(device: torch.device) -> torch.dtype:
    """What a device computes best in, of that which is known to be right there: float32 where nothing is known."""
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)  # of this very card: `torch.cuda.is_bf16_supported` asks the current one
        if torch.version.hip:
            return torch.float16 if card.gcnArchName.startswith(AMD_WITHOUT_BF16) else torch.bfloat16
        if card.major >= 8:
            return torch.bfloat16
        return torch.float32 if any(name in card.name for name in WRONG_IN_FP16) else torch.float16
    if device.type == "xpu":
        return torch.bfloat16 if torch.xpu.is_bf16_supported() else torch.float32
    if device.type == "mps":
        return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) and _torch() >= (2, 6) else torch.float32
    return torch.float32


def _torch() -> tuple[int, int]:
    """PyTorch's version: from 2.6 on its autocast knows bfloat16 on a Mac, and from 2.8 on its GradScaler works there."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def whole_on_this_card() -> bool:
    """Whether `auto` is float32 on the card of this machine; False where there is none."""
    kind = "cuda" if torch.cuda.is_available() else "xpu" if torch.xpu.is_available() else ""
    return bool(kind) and best_dtype(torch.device(kind)) == torch.float32


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the U-Net's matrix products; the LoRA itself always stays float32. What `device` cannot learn in is its best
    instead."""
    if precision == "auto" or not _learns_in(precision, device):
        return best_dtype(device)
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _learns_in(precision: str, device: torch.device) -> bool:
    if device.type == "mps":
        return {"fp16": _torch() >= (2, 8), "bf16": best_dtype(device) == torch.bfloat16}.get(precision, True)
    return precision != "fp16" or device.type != "cpu"


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Inside, products are in `dtype`. For float32 there is nothing to do: before PyTorch 2.5 even an autocast that is off raises on a
    Mac."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def name_of(dtype: torch.dtype) -> str:
    """fp32, bf16 or fp16."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


def precision_note(precision: str, device: torch.device) -> str | None:
    """Says in words why it is not the one asked for, or takes more memory than on most cards; None where there is nothing to say."""
    if precision == "fp16" and device.type == "cpu":
        return "fp16 is for GPUs; the CPU computes in float32."
    if device.type == "mps" and not _learns_in(precision, device):
        needed = {"fp16": "PyTorch 2.8", "bf16": "macOS 14 and PyTorch 2.6"}[precision]
        return f"{precision} needs {needed} or later on a Mac; it computes in {name_of(best_dtype(device))}."
    if precision == "auto" and device.type in ("cuda", "xpu") and best_dtype(device) == torch.float32:
        return "this card has no bfloat16 and its float16 is not relied on: it computes in float32, which takes twice the memory."
    return None


@contextmanager
def summed_in_float32() -> Iterator[None]:
    """Products in fp16 are summed in float32 inside, whatever the process has set (ComfyUI's --fast sums them in fp16, for drawing)."""
    products = torch.backends.cuda.matmul
    if not hasattr(products, "allow_fp16_accumulation"):  # torch before 2.7
        yield
        return
    before = products.allow_fp16_accumulation
    products.allow_fp16_accumulation = False
    try:
        yield
    finally:
        products.allow_fp16_accumulation = before
