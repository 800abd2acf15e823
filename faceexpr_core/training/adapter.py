"""The LoRA on the U-Net: where it sits, its first weights, and how to switch it off."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ..errors import FaceExprError
from .libraries import leave_out_broken

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTIONS = ("conv1", "conv2")
"""The 3 x 3 convolutions of the ResNet blocks."""


def add_lora(
    unet: UNet2DConditionModel,
    rank: int,
    alpha: float,
    generator: torch.Generator,
    blocks: Sequence[str] = (),
    convolutions: bool = False,
    first: str = "kaiming",
) -> dict[str, tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """Put a trainable LoRA (Hu et al. 2106.09685) on attention projections: name of the projection -> (down [r, in], up [out, r]).

    With `convolutions` also on the 3 x 3 convolutions of the ResNet blocks: down [r, in, 3, 3], up [out, r, 1, 1], as LoCon does.
    `blocks` are parts of the U-Net such as `down.1`, `middle`, `up`; () is all. Down is drawn from `generator` as `first` says:
    `kaiming`, uniform with a = sqrt 5 as in Hu et al.'s code, or `gaussian` of a standard deviation of 1 / rank, as the trainer that the
    paper's authors published and diffusers' scripts have it: on SDXL 11 to 15 times as large, and so is what a step of Adam changes. Up is
    0. float32, whatever the U-Net's dtype.
    Raises FaceExprError when one of `blocks` holds nothing to learn.
    """
    return put_lora(unet, lora_targets(unet, blocks, convolutions), rank, alpha, generator, first)


def put_lora(
    model: torch.nn.Module, names: Sequence[str], rank: int, alpha: float, generator: torch.Generator, first: str = "kaiming"
) -> dict[str, tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """`add_lora` on the layers of any model that have these names. Inputs that are not float32 need autocast around the call."""
    leave_out_broken()
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer, layer

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(names))
    # named here, since peft's own search asks every library of other layers, of which an old one raises
    plain: dict[type[torch.nn.Module], type[torch.nn.Module]] = {torch.nn.Conv2d: layer.Conv2d}
    if {type(model.get_submodule(name)) for name in names} <= {torch.nn.Linear, torch.nn.Conv2d}:
        plain[torch.nn.Linear] = layer.Linear  # else some are bitsandbytes', which are linear layers too
    config._register_custom_module(plain)
    # peft draws its own initial weights from the global generator: give it back untouched.
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(config, model)
    layers = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False  # autocast does; by way of float32 it is the same to the bit, and more memory
            down, up = module.lora_A["default"], module.lora_B["default"]
            device = down.weight.device
            initial = torch.empty(down.weight.shape)
            if first == "gaussian":
                torch.nn.init.normal_(initial, std=1 / rank, generator=generator)
            else:
                torch.nn.init.kaiming_uniform_(initial, a=math.sqrt(5), generator=generator)
            down.weight = torch.nn.Parameter(initial.to(device))
            up.weight = torch.nn.Parameter(torch.zeros(up.weight.shape, device=device))
            layers[name] = (down.weight, up.weight)
    return layers


@contextmanager
def without_lora(unet: UNet2DConditionModel, layers: Iterable[str]) -> Iterator[None]:
    """Inside, `unet` is the base model: the LoRA on these projections is switched off, and on again at the end. Nothing is copied."""
    modules = [unet.get_submodule(name) for name in layers]
    for module in modules:
        module.enable_adapters(False)
    try:
        yield
    finally:
        for module in modules:
            module.enable_adapters(True)


def lora_targets(unet: UNet2DConditionModel, blocks: Sequence[str] = (), convolutions: bool = False) -> list[str]:
    """Names of the attention projections, and convolutions if asked, in these parts of the U-Net (() is all).

    Raises FaceExprError for a part without any.
    """
    endings = (*TARGETS, *(f".{name}" for name in CONVOLUTIONS)) if convolutions else TARGETS
    names = [name for name, _ in unet.named_modules() if name.endswith(endings)]
    if not blocks:
        return names
    prefixes = tuple(_prefix(block) for block in blocks)
    chosen = [name for name in names if name.startswith(prefixes)]
    for block, prefix in zip(blocks, prefixes, strict=True):
        if not any(name.startswith(prefix) for name in names):
            places = sorted({_place(name) for name in names})
            what = "nothing to learn" if convolutions else "no attention"
            raise FaceExprError(f"blocks names {block}, where this U-Net has {what}; it has some in {', '.join(places)}.")
    return chosen


def _prefix(block: str) -> str:
    kind, _, number = block.partition(".")
    if kind == "middle":
        return "mid_block."
    return f"{kind}_blocks.{number}." if number else f"{kind}_blocks."


def _place(name: str) -> str:
    kind, number = name.split(".")[:2]
    return "middle" if kind == "mid_block" else f"{kind.removesuffix('_blocks')}.{number}"


def lora_shapes(unet: UNet2DConditionModel, blocks: Sequence[str] = (), convolutions: bool = False) -> dict[str, torch.Size]:
    """`lora_targets` of a U-Net that is as it was loaded, with the shapes [out, in, ...] of their weights. Raises as that does."""
    return {name: unet.get_parameter(f"{name}.weight").shape for name in lora_targets(unet, blocks, convolutions)}


def lora_numbers(shapes: Iterable[torch.Size], rank: int) -> int:
    """How many numbers a LoRA of this rank on weights of these shapes holds, alphas included."""
    return sum((shape[0] + shape[1:].numel()) * rank + 1 for shape in shapes)
