"""Weights out of a MODEL or CLIP, fit for autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from torch import Tensor

from ...faceexpr_core.errors import FaceExprError
from ...faceexpr_core.training.libraries import leave_out_broken
from .models import require_sdxl

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

BYPASS = "bypass_lora"
"""ComfyUI's key of the injections by which a LoRA acts beside the weights."""


def export_unet(model: Any, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """A private diffusers copy of an SDXL MODEL's U-Net, its LoRAs and other weight patches applied.

    On CPU, in eval mode, without gradients; made outside inference mode, so that autograd may run through it. The MODEL is not changed.
    Raises FaceExprError as `empty_unet` does, and for weights in whole numbers.
    """
    unet = empty_unet(model, "The export of weights")
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    weights = {}
    with torch.inference_mode():
        load_to_read(model)
        for name in unet.state_dict():
            value = read_weight(model, f"diffusion_model.{names[name]}")
            if not value.is_floating_point():
                raise FaceExprError(
                    f"The MODEL holds {name} as whole numbers ({value.dtype}), quantised in a way that is not known here. To learn from "
                    "its weights, load the checkpoint itself; the LoRA fits the quantised MODEL too."
                )
            with torch.inference_mode(False):
                weights[name] = value.detach().clone().to(dtype)
    with torch.inference_mode(False):
        unet.load_state_dict(weights, strict=True, assign=True)
        return unet.eval().requires_grad_(False)


def empty_unet(model: Any, node: str) -> UNet2DConditionModel:
    """diffusers' U-Net for the weights of an SDXL MODEL, on the meta device.

    Raises FaceExprError for another MODEL, a pruned one, and one that holds its weights packed, as those from GGUF files do.
    """
    leave_out_broken()
    from diffusers import UNet2DConditionModel

    require_sdxl(model, node)
    config = model.model.model_config.unet_config
    with torch.inference_mode(False), torch.device("meta"):
        unet = UNet2DConditionModel(**diffusers_unet_config(config))
    names = comfy.utils.unet_to_diffusers(config)
    for name, empty in unet.state_dict().items():
        held = comfy.utils.get_attr(model.model, f"diffusion_model.{names[name]}").size()  # ComfyUI-GGUF's `shape` is the unpacked one
        if held != empty.size():
            raise FaceExprError(
                f"{node} got a MODEL that is quantised: it holds {name} as {list(held)} instead of {list(empty.size())}, as one from a "
                "GGUF file does. To learn from its weights, load the checkpoint itself; the LoRA fits the quantised MODEL too."
            )
    return unet


def weights_alone(model: Any) -> Any:
    """The MODEL as its weights make it, LoRAs and other patches of them included, sampled as it is; whatever else nodes put onto it
    (FreeU, IPAdapter, guidance ...) is left out. The MODEL is not changed."""
    alone = model.clone()
    alone.model_options = {"transformer_options": {}}
    alone.object_patches = {name: part for name, part in model.object_patches.items() if name == "model_sampling"}
    for others in (alone.weight_wrapper_patches, alone.attachments, alone.additional_models, alone.injections):
        others.clear()
    for kinds in (alone.callbacks, alone.wrappers):
        for others in kinds.values():
            others.clear()
    return alone


def load_to_read(patcher: Any) -> None:
    """Have ComfyUI load a patcher's module, so that `read_weight` can follow."""
    # where ComfyUI may have dynamic VRAM, it refuses to patch ahead
    comfy.model_management.load_models_gpu([patcher], force_patch_weights=not hasattr(patcher, "is_dynamic"))


def require_loras_in_weights(patcher: Any, what: str, node: str) -> None:
    """Raise FaceExprError where a LoRA lies beside a patcher's weights (ComfyUI's bypass mode), which its weights do not tell."""
    if patcher.injections.get(BYPASS):
        raise FaceExprError(
            f"{node} got a {what} with a LoRA in bypass mode, which is not in its weights: it would not be learned on. Load that LoRA with "
            f"Load LoRA, or connect the {what} before it."
        )


def read_weight(patcher: Any, name: str) -> Tensor:
    """A loaded patcher's weight on the CPU by its name in the module: LoRAs and other patches applied, no longer quantised."""
    _, _, convert = comfy.model_patcher.get_key_weight(patcher.model, name)
    with torch.inference_mode():
        if name in patcher.patches and name not in patcher.backup:
            weight = patcher.patch_weight_to_device(name, device_to=patcher.load_device, return_weight=True)
        else:
            weight = comfy.utils.get_attr(patcher.model, name)
        return (weight if convert is None else convert(weight, inplace=False)).to("cpu")


def diffusers_unet_config(config: dict[str, Any]) -> dict[str, Any]:
    """diffusers' `UNet2DConditionModel` arguments for ComfyUI's arguments of an SDXL U-Net.

    Raises FaceExprError for pruned variants (SSD-1B, Vega).
    """
    levels = len(config["channel_mult"])
    blocks = config["num_res_blocks"][0]
    depths = config["transformer_depth"][::blocks]
    uniform = (
        config["num_res_blocks"] == [blocks] * levels
        and config["transformer_depth"] == [depth for depth in depths for _ in range(blocks)]
        and config["transformer_depth_output"] == [depth for depth in depths for _ in range(blocks + 1)]
        and config["transformer_depth_middle"] == depths[-1]
    )
    if not uniform:
        raise FaceExprError(
            f"this MODEL is a pruned SDXL (transformer depths {config['transformer_depth']} and {config['transformer_depth_output']}); "
            "a complete one is needed: SDXL base or a model made from it."
        )
    widths = [config["model_channels"] * factor for factor in config["channel_mult"]]
    return {
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "block_out_channels": widths,
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        "layers_per_block": blocks,
        "transformer_layers_per_block": [max(depth, 1) for depth in depths],
        "attention_head_dim": [width // config["num_head_channels"] for width in widths],
        "cross_attention_dim": config["context_dim"],
        "use_linear_projection": config["use_linear_in_transformer"],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": config["adm_in_channels"],
    }
