"""In what numbers a run computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the U-Net's matrix products; the LoRA itself always stays float32. fp16 means float32 on the CPU."""
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if precision == "fp16" and device.type == "cpu":
        return torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def name_of(dtype: torch.dtype) -> str:
    """fp32, bf16 or fp16."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


def precision_note(precision: str, device: torch.device) -> str | None:
    """Says in words why it is not the one asked for; None if it is."""
    return "fp16 is for GPUs; the CPU computes in float32." if precision == "fp16" and device.type == "cpu" else None


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
