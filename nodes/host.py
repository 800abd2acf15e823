"""The one place that knows ComfyUI's internals: weights out of a MODEL, Mini into one, conditioning, sampling, progress, folders."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import folder_paths
import latent_preview
import torch
from comfy_api.latest import io
from torch import Tensor

from ..faceexpr_core import mini
from ..faceexpr_core.errors import FaceExprError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from PIL import Image

Conditioning = list[list[Any]]
"""ComfyUI's CONDITIONING: `[[H float [B, T, C], {"pooled_output": p [B, P], ...}], ...]`."""

Combine = Callable[[Sequence[Tensor]], Tensor]

Interrupted = comfy.model_management.InterruptProcessingException
"""Raised by `Progress.update` when the user pressed cancel."""

PREVIEW_SIDE = 512

EMPTY_SCALES = ("downscale_ratio_spacial", "downscale_ratio_temporal")
"""What newer ComfyUI notes on an empty latent, for models whose latents have another scale."""

CLIP_SHAPE = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
)
"""What ComfyUI's CLIP reads of a transformers config."""


# Folders


def model_folders() -> list[Path]:
    """Where the pack's own model files (MediaPipe, YuNet, SFace) may lie: `faceexpr` of extra_model_paths.yaml, then models/faceexpr."""
    registered, _ = folder_paths.folder_names_and_paths.get("faceexpr", ([], set()))
    return [Path(folder) for folder in (*registered, Path(folder_paths.models_dir) / "faceexpr")]


def loras_folder() -> Path:
    """The first of ComfyUI's loras folders; LoRA files are saved there."""
    return Path(folder_paths.get_folder_paths("loras")[0])


def input_folder() -> Path:
    return Path(folder_paths.get_input_directory())


def features_folder() -> Path:
    """Where expression features are saved and looked for."""
    return Path(folder_paths.models_dir) / "faceexpr_features"


def file_in(folder: Path, name: str, suffix: str, argument: str) -> Path:
    """The file in `folder` that `name`, with or without its suffix, means. Raises FaceExprError for no file name, or one that leads out."""
    root = folder.resolve()
    cleaned = name.strip().removesuffix(suffix).replace("\\", "/")
    if not Path(cleaned).name or re.search(r'[<>:"|?*\x00-\x1f]', cleaned) or cleaned.endswith(("/", ".")):
        raise FaceExprError(f"{argument} {name!r} is no file name; give one such as smiles/wide.")
    path = Path(os.path.realpath(root / f"{cleaned}{suffix}"))
    if not path.is_relative_to(root):
        raise FaceExprError(f"{argument} {name!r} leads out of {root}; give a name inside it, such as smiles/wide.")
    return path


def advanced(*widgets: Any) -> tuple[Any, ...]:
    """Inputs that the web page shows only when asked."""
    for widget in widgets:
        widget.optional = True
        widget.extra_dict = {**widget.extra_dict, "advanced": True}
    return widgets


def require_choices(node: type[io.ComfyNode], **given: Any) -> None:
    """Raise FaceExprError for a value, given by its widget's name, that is not in that list of the node; ComfyUI lets any pass."""
    for widget in node.define_schema().inputs:
        if isinstance(widget, io.Combo.Input) and widget.id in given and given[widget.id] not in widget.options:
            raise FaceExprError(f"{widget.id} is {given[widget.id]!r}; choose one of {', '.join(widget.options)}.")


# Which model is this


def is_sdxl(model: Any) -> bool:
    """True for a MODEL with the SDXL base U-Net (refiner, inpainting and pix2pix variants are not)."""
    inner = getattr(model, "model", None)
    if not isinstance(inner, comfy.model_base.SDXL):
        return False
    return inner.model_config.unet_config.get("in_channels") == 4


def require_sdxl(model: Any, node: str, *, epsilon: bool = False) -> None:
    """Raise FaceExprError unless `model` is an SDXL MODEL; with `epsilon` (training), also unless it predicts noise."""
    if model is None:
        raise FaceExprError(f"{node} got no MODEL. Connect the MODEL output of an SDXL checkpoint loader or of FaceExpr Mini.")
    if not is_sdxl(model):
        given = model_name(model)
        raise FaceExprError(
            f"{node} got a MODEL of type {given}; it needs an SDXL base model. "
            "Load an SDXL checkpoint (or FaceExpr Mini) and connect its MODEL."
        )
    kind = model.model.model_type
    if epsilon and kind != comfy.model_base.ModelType.EPS:
        raise FaceExprError(
            f"{node} got an SDXL MODEL that predicts {kind.name.lower()}; it needs one that predicts noise (epsilon), as SDXL base does."
        )


def require_sdxl_clip(clip: Any, node: str) -> None:
    """Raise FaceExprError unless `clip` holds SDXL's two text encoders."""
    encoder = getattr(clip, "cond_stage_model", None)
    if not isinstance(encoder, comfy.sdxl_clip.SDXLClipModel):
        given = "nothing" if encoder is None else f"a CLIP of type {type(encoder).__name__}"
        raise FaceExprError(
            f"{node} got {given}; it needs SDXL's two text encoders. "
            "Connect the CLIP output of an SDXL checkpoint loader or of FaceExpr Mini."
        )


def model_name(model: Any) -> str:
    config = getattr(getattr(model, "model", None), "model_config", None)
    return type(model).__name__ if config is None else type(config).__name__


# FaceExpr Mini


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
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    vae = comfy.sd.VAE(sd=_read_weights(folder), config={"params": {"ddconfig": shape, "embed_dim": config["latent_channels"]}})
    for module in vae.first_stage_model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.num_groups = config["norm_num_groups"]  # ComfyUI builds every VAE with 32
    return vae


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
        "channel_mult": [width // widths[0] for width in widths],
        "use_linear_in_transformer": config["use_linear_projection"],
        "context_dim": config["cross_attention_dim"],
        "num_head_channels": head_channels.pop(),
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
    }


def _read_config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def _read_weights(folder: Path) -> dict[str, Tensor]:
    name = "model.safetensors" if (folder / "model.safetensors").is_file() else "diffusion_pytorch_model.safetensors"
    return comfy.utils.load_torch_file(str(folder / name), safe_load=True)


# Weights and tensors out of ComfyUI, fit for autograd


def export_unet(model: Any, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """A private diffusers copy of an SDXL MODEL's U-Net, its LoRAs and other weight patches applied.

    On CPU, in eval mode, without gradients; made outside inference mode, so that autograd may run through it. The MODEL is not changed.
    """
    from diffusers import UNet2DConditionModel

    require_sdxl(model, "The export of weights")
    config = model.model.model_config.unet_config
    with torch.inference_mode(False), torch.device("meta"):
        unet = UNet2DConditionModel(**diffusers_unet_config(config))
    names = comfy.utils.unet_to_diffusers(config)
    weights = {}
    with torch.inference_mode():
        load_to_read(model)
        for name in unet.state_dict():
            value = read_weight(model, f"diffusion_model.{names[name]}")
            with torch.inference_mode(False):
                weights[name] = value.detach().clone().to(dtype)
    with torch.inference_mode(False):
        unet.load_state_dict(weights, strict=True, assign=True)
        return unet.eval().requires_grad_(False)


def load_to_read(patcher: Any) -> None:
    """Have ComfyUI load a patcher's module, so that `read_weight` can follow."""
    # where ComfyUI may have dynamic VRAM, it refuses to patch ahead
    comfy.model_management.load_models_gpu([patcher], force_patch_weights=not hasattr(patcher, "is_dynamic"))


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
            "a complete SDXL base checkpoint is needed."
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


def encode_text(clip: Any, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Embed prompts with ComfyUI's SDXL CLIP, LoRAs included: H float32 [B, T, C] and pooled float32 [B, P], on CPU, fit for autograd.

    T is 77, or 77 n when a prompt is longer. Shorter prompts are then repeated to the common length, which cross-attention does not notice.
    """
    with torch.inference_mode():
        encoded = [clip.encode_from_tokens(clip.tokenize(prompt), return_pooled=True) for prompt in prompts]
    length = math.lcm(*(hidden.shape[1] for hidden, _ in encoded))
    with torch.inference_mode(False):
        hidden = [_plain(hidden).repeat(1, length // hidden.shape[1], 1) for hidden, _ in encoded]
        return torch.cat(hidden), torch.cat([_plain(pooled) for _, pooled in encoded])


def encode_images(model: Any, vae: Any, images: Tensor) -> Tensor:
    """IMAGE float [N, H, W, 3] in 0..1 -> latents float32 [N, 4, H/8, W/8] in the scale that MODEL works in, on CPU, fit for autograd."""
    with torch.inference_mode():
        latents = model.model.process_latent_in(vae.encode(images[..., :3]))
    with torch.inference_mode(False):
        return _plain(latents)


def decode_latents(model: Any, vae: Any, latents: Tensor) -> Tensor:
    """Latents [N, 4, h, w] in MODEL's scale -> IMAGE float32 [N, 8h, 8w, 3] in 0..1."""
    with torch.inference_mode():
        return vae.decode(model.model.process_latent_out(latents))


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().to("cpu", torch.float32)


# Conditioning


def count_tokens(clip: Any, text: str) -> tuple[int, ...]:
    """Tokens of `text` in each text encoder, start, end and padding not counted; ComfyUI's weighting syntax and embeddings understood."""
    return tuple(sum(map(_tokens_in_chunk, chunks)) for chunks in clip.tokenize(text).values())


def _tokens_in_chunk(chunk: Sequence[tuple[Any, ...]], end: int = 49407) -> int:
    tokens = [entry[0] for entry in chunk]
    return next(index for index, token in enumerate(tokens) if isinstance(token, int) and token == end) - 1


def encode_conditioning(clip: Any, text: str) -> Conditioning:
    """What ComfyUI's own CLIP Text Encode gives for `text`."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def combine_conditioning(parts: Sequence[Conditioning], combine: Combine, combine_pooled: Combine) -> Conditioning:
    """Entry by entry, `combine` the H of each part and `combine_pooled` their pooled embeddings; all else comes from the first part."""
    combined = []
    for entries in zip(*parts, strict=True):
        hidden = combine([entry[0] for entry in entries])
        pooled = combine_pooled([entry[1]["pooled_output"] for entry in entries])
        combined.append([hidden, {**entries[0][1], "pooled_output": pooled}])
    return combined


# Sampling


def first_latent(model: Any, latent: dict[str, Any]) -> Tensor:
    """The samples of `latent` as KSampler takes them: an empty latent gets the channels and the size that MODEL has for such a picture."""
    scales = {name: latent[name] for name in EMPTY_SCALES if name in latent}
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"], **scales)


def sample(
    model: Any,
    positive: Conditioning,
    negative: Conditioning,
    latent: dict[str, Any],
    *,
    seed: int,
    steps: int,
    cfg: float,
    sampler: str,
    scheduler: str,
    denoise: float,
    guider: Any = None,
) -> dict[str, Any]:
    """ComfyUI's KSampler, latent for latent; `guider` (a CFGGuider with its conditioning set) takes the place of plain CFG."""
    if guider is None:
        from nodes import common_ksampler  # type: ignore[attr-defined]  # ComfyUI's nodes.py

        return common_ksampler(model, seed, steps, cfg, sampler, scheduler, positive, negative, latent, denoise=denoise)[0]
    samples = first_latent(model, latent)
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    schedule = comfy.samplers.KSampler(
        model, steps, model.load_device, sampler=sampler, scheduler=scheduler, denoise=denoise, model_options=model.model_options
    )
    result = guider.sample(
        noise,
        samples,
        comfy.samplers.sampler_object(schedule.sampler),
        schedule.sigmas,
        latent.get("noise_mask"),
        latent_preview.prepare_callback(model, steps),
        not comfy.utils.PROGRESS_BAR_ENABLED,
        seed,
    )
    rest = {name: value for name, value in latent.items() if name not in EMPTY_SCALES}
    return {**rest, "samples": result.to(comfy.model_management.intermediate_device())}


class ExpressionGuider(comfy.samplers.CFGGuider):
    """Classifier-free guidance with a third, neutral conditioning (method: epsilon mode).

    `mix(D_n, D_e)` gives the conditional prediction from the neutral and the expression one. ComfyUI's denoised x - sigma eps is affine
    in eps, so a mix of weights that add to one means the same for both.
    """

    def __init__(
        self,
        model: Any,
        positive: Conditioning,
        negative: Conditioning,
        neutral: Conditioning,
        cfg: float,
        mix: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__(model)
        self.inner_set_conds({"positive": positive, "negative": negative, "neutral": neutral})
        self.set_cfg(cfg)
        self._mix = mix

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None) -> Tensor:
        options = {} if model_options is None else model_options

        def predict(conds: Sequence[Any], args: dict[str, Any]) -> Sequence[Tensor]:
            inner = options.get("sampler_calc_cond_batch_function")
            if inner is None:
                return comfy.samplers.calc_cond_batch(self.inner_model, list(conds), x, timestep, options)
            return inner({**args, "conds": list(conds), "model_options": options})

        def evaluate(args: dict[str, Any]) -> list[Tensor]:
            expression, unconditional = predict(args["conds"], args)
            # a call of its own: patches of other packs (IPAdapter, InstantID ...) know a first and a second kind of row, and no third
            neutral, _ = predict([self.conds["neutral"], None], args)
            return [self._mix(neutral, expression), unconditional]

        return super().predict_noise(x, timestep, {**options, "sampler_calc_cond_batch_function": evaluate}, seed)


# Progress


class Progress:
    """ComfyUI's progress bar of the running node, with preview pictures and the user's cancel button."""

    def __init__(self, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total)
        self._total = total

    def update(self, value: int, preview: Image.Image | None = None) -> None:
        """Show `value` of the total and, if given, a picture. Raises `Interrupted` when the user pressed cancel."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(value, self._total, None if preview is None else ("JPEG", preview, PREVIEW_SIDE))


def progress(total: int) -> Progress:
    return Progress(total)
