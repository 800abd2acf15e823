"""FaceExpr Mini as ComfyUI's own MODEL, CLIP and VAE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.ldm.modules.diffusionmodules.model as vae_blocks
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ...faceexpr_core import mini
from ...faceexpr_core.errors import FaceExprError

CLIP_SHAPE = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
)
"""What ComfyUI's CLIP reads of a transformers config."""


class Multiple(float):
    """A level's width over the first one's, as ComfyUI takes it, whose products are whole: of 64, 160 is no whole number of times."""

    def __mul__(self, width: float) -> int:  # type: ignore[override]
        return round(float(self) * width)

    __rmul__ = __mul__  # type: ignore[assignment]


class MiniLatents(comfy.latent_formats.LatentFormat):
    """Latents in the scale of the pipeline's own VAE: model latent = (VAE latent - shift) * scale."""

    def __init__(self, scale: float, shift: float) -> None:
        self.scale_factor = scale
        self.shift_factor = shift
        self.latent_rgb_factors = None
        self.taesd_decoder_name = None

    def process_in(self, latent: Tensor) -> Tensor:
        return (latent - self.shift_factor) * self.scale_factor

    def process_out(self, latent: Tensor) -> Tensor:
        return latent / self.scale_factor + self.shift_factor


def load_mini(directory: Path | None = None) -> tuple[Any, comfy.sd.CLIP, comfy.sd.VAE]:
    """Build (MODEL, CLIP, VAE) from Mini's diffusers pipeline directory (any narrow SDXL pipeline with a uniform head width works).

    Builds ComfyUI's own SDXL classes at Mini's width; ComfyUI's table of supported models is left alone.
    """
    directory = mini.path() if directory is None else directory
    if not (directory / "model_index.json").is_file():
        raise FaceExprError(f"no FaceExpr Mini in {directory}: model_index.json is missing. Install the pack again, with its files.")
    vae_config = _read_config(directory / "vae")
    latents = MiniLatents(vae_config["scaling_factor"], vae_config.get("shift_factor") or 0.0)
    return _mini_model(directory / "unet", latents), _mini_clip(directory), _mini_vae(directory / "vae", vae_config)


def _mini_model(folder: Path, latents: MiniLatents) -> comfy.model_patcher.ModelPatcher:
    config = comfy_unet_config(_read_config(folder))
    names = comfy.utils.unet_to_diffusers(config)
    weights = {names[key]: value for key, value in _read_weights(folder).items()}
    management = comfy.model_management
    device, parameters = management.get_torch_device(), sum(value.numel() for value in weights.values())

    model_config = comfy.supported_models.SDXL(config)
    model_config.unet_config["num_head_channels"] = config["num_head_channels"]  # its constructor sets SDXL's 64
    model_config.latent_format = latents
    supported = list(model_config.supported_inference_dtypes)
    dtype = management.unet_dtype(model_params=parameters, supported_dtypes=supported, weight_dtype=torch.float16)
    model_config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, supported))
    load_device = management.unet_inital_load_device(parameters, dtype)
    model = comfy.model_base.SDXL(model_config, model_type=comfy.model_base.ModelType.EPS, device=load_device)
    model.load_model_weights(weights, "")
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=management.unet_offload_device())


def _mini_clip(directory: Path) -> comfy.sd.CLIP:
    options, weights = {}, {}
    for letter, name in (("l", "text_encoder"), ("g", "text_encoder_2")):
        config = _read_config(directory / name)
        options[f"clip_{letter}_model_config"] = {key: config[key] for key in CLIP_SHAPE}
        for key, value in _read_weights(directory / name).items():
            # transformers 5 saves CLIPTextModel without this prefix, earlier versions and the projecting model with it
            prefix = "" if key.startswith(("text_model.", "text_projection.")) else "text_model."
            weights[f"clip_{letter}.transformer.{prefix}{key}"] = value
        # ComfyUI projects L too, though SDXL never reads the result
        weights.setdefault(f"clip_{letter}.transformer.text_projection.weight", torch.eye(config["hidden_size"], dtype=torch.float16))
    target = comfy.supported_models_base.ClipTarget(comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel)
    parameters = sum(value.numel() for value in weights.values())
    embeddings = folder_paths.get_folder_paths("embeddings")
    clip = comfy.sd.CLIP(target, embedding_directory=embeddings, parameters=parameters, model_options=options)
    missing, unexpected = clip.load_sd(weights, full_model=True)
    wrong = [key for key in (*missing, *unexpected) if ".logit_scale" not in key]
    if wrong:
        raise FaceExprError(
            f"Mini's text encoders do not fit this ComfyUI: {len(wrong)} weights differ, the first is {wrong[0]}. "
            "Please report it with ComfyUI's version."
        )
    return clip


def _mini_vae(folder: Path, config: dict[str, Any]) -> comfy.sd.VAE:
    widths = config["block_out_channels"]
    shape = {
        "double_z": True,
        "z_channels": config["latent_channels"],
        "resolution": config["sample_size"],
        "in_channels": config["in_channels"],
        "out_ch": config["out_channels"],
        "ch": widths[0],
        "ch_mult": [Multiple(width / widths[0]) for width in widths],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    with _vae_groups(config["norm_num_groups"]):
        return comfy.sd.VAE(sd=_read_weights(folder), config={"params": {"ddconfig": shape, "embed_dim": config["latent_channels"]}})


@contextmanager
def _vae_groups(count: int) -> Iterator[None]:
    """ComfyUI builds every VAE with 32 groups, into which 48 channels do not go."""
    normalize: Any = vae_blocks.Normalize
    given = normalize.__defaults__
    normalize.__defaults__ = (count,)
    try:
        yield
    finally:
        normalize.__defaults__ = given


def comfy_unet_config(config: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI's U-Net arguments for a diffusers `UNet2DConditionModel` config of SDXL's architecture."""
    widths, depths = config["block_out_channels"], config["transformer_layers_per_block"]
    levels, blocks = len(widths), config["layers_per_block"]
    depths = [depths] * levels if isinstance(depths, int) else list(depths)
    depths = [depth if kind.startswith("CrossAttn") else 0 for depth, kind in zip(depths, config["down_block_types"], strict=True)]
    # diffusers' attention_head_dim of SDXL is the number of heads
    head_channels = {width // heads for width, heads in zip(widths, config["attention_head_dim"], strict=True)}
    if len(head_channels) != 1:
        raise FaceExprError(f"this U-Net has attention heads of {sorted(head_channels)} channels; ComfyUI's SDXL needs one width for all.")
    return {
        "use_checkpoint": False,
        "image_size": 32,
        "out_channels": config["out_channels"],
        "use_spatial_transformer": True,
        "legacy": False,
        "num_classes": "sequential",
        "adm_in_channels": config["projection_class_embeddings_input_dim"],
        "in_channels": config["in_channels"],
        "model_channels": widths[0],
        "num_res_blocks": [blocks] * levels,
        "transformer_depth": [depth for depth in depths for _ in range(blocks)],
        "transformer_depth_output": [depth for depth in depths for _ in range(blocks + 1)],
        "transformer_depth_middle": depths[-1],
        "channel_mult": [Multiple(width / widths[0]) for width in widths],
        "use_linear_in_transformer": config["use_linear_projection"],
        "context_dim": config["cross_attention_dim"],
        "num_head_channels": head_channels.pop(),
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
    }


def _read_config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _read_weights(folder: Path) -> dict[str, Tensor]:
    name = "model.safetensors" if (folder / "model.safetensors").is_file() else "diffusion_pytorch_model.safetensors"
    return comfy.utils.load_torch_file(str(folder / name), safe_load=True)
