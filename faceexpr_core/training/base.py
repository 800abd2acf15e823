"""The base model in fewer bits while a LoRA learns on it: the U-Net's frozen linear layers in nf4 or int8, by bitsandbytes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import FaceExprError
from .adapter import put_lora
from .bits import unusable
from .libraries import refusal

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def check_base(base: str, device: torch.device) -> None:
    """Raise FaceExprError where the base cannot be kept so on the device."""
    reason = None if base == "full" else unusable(device)
    if reason is not None:
        raise FaceExprError(
            f"base is {base}, which needs the package bitsandbytes, but that {reason}. Install one that fits, or take base full."
        )


def quantise(unet: UNet2DConditionModel, base: str, device: torch.device, dtype: torch.dtype) -> None:
    """Put the linear layers of the transformers on `device` in `base`, in place and one at a time; "full" changes nothing.

    nf4: 4-bit NormalFloat with doubly quantised scales (QLoRA, Dettmers et al. 2305.14314), 0.52 bytes a number, computed in `dtype`.
    int8: LLM.int8 without outliers (Dettmers et al. 2208.07339), a byte a number, inputs rounded to 8 bits too. They hold six of seven
    of SDXL's numbers. Convolutions, norms, embeddings and the LoRA stay as they are.
    """
    if base == "full":
        return
    if base == "nf4":
        unet.is_loaded_in_4bit = True  # by these names peft knows what it puts a LoRA on
    else:
        unet.is_loaded_in_8bit = True
        logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_news)
    linear = [name for name, module in unet.named_modules() if type(module) is nn.Linear and ".attentions." in f".{name}"]
    for name in linear:
        parent, _, child = name.rpartition(".")
        owner = unet.get_submodule(parent)
        setattr(owner, child, _packed(unet.get_submodule(name), base, dtype).to(device))


def check_lora(base: str, device: torch.device) -> None:
    """Raise FaceExprError where no LoRA can be put on a base kept so on the device: tried on a layer of its own, before any work."""
    try:
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            model: Any = nn.Module()
            model.attentions = nn.ModuleList([nn.Linear(64, 64)])  # as wide as bitsandbytes' smallest block
            quantise(model, base, device, torch.float32)
            put_lora(model, ["attentions.0"], 1, 1.0, torch.Generator())
    except Exception as reason:  # peft's and bitsandbytes' own, of any kind
        raise FaceExprError(refusal(reason)) from reason


def _is_news(record: logging.LogRecord) -> bool:
    """bitsandbytes says at every call of every int8 layer that its input is cast on the way to 8 bits: thousands of lines a step."""
    return "inputs will be cast" not in record.getMessage()


def _packed(linear: nn.Linear, base: str, dtype: torch.dtype) -> nn.Module:
    from bitsandbytes import nn as packed

    from .int8 import LeanLinear8bit

    weight, sizes = linear.weight.detach().to(dtype), (linear.in_features, linear.out_features, linear.bias is not None)
    if base == "nf4":
        made: Any = packed.Linear4bit(*sizes, compute_dtype=dtype, quant_type="nf4", device="meta")
        made.weight = packed.Params4bit(weight, requires_grad=False, quant_type="nf4")
    else:
        made = LeanLinear8bit(*sizes, has_fp16_weights=False, threshold=0.0, device="meta")
        made.weight = packed.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    made.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().to(dtype), requires_grad=False)
    if dtype != torch.float32:  # autocast gives float32 to some layers, and bitsandbytes gives back the numbers it got
        made.register_forward_pre_hook(lambda module, given: (given[0].to(dtype), *given[1:]))
    return made
