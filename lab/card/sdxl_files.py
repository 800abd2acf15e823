"""Checkpoints of SDXL's true shape and key names with random weights, written as a stream: 7 GB on disk, less than one in memory.

Names and shapes are ComfyUI's own, of its modules built without weights. Random weights draw noise, which is enough to see that nothing
breaks at this size; speed and memory do not depend on the values.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceexpr_core import mini
from faceexpr_core.diffusers_host.pipeline import SDXL_CONFIGS

Shapes = dict[str, tuple[int, ...]]
NAMES = {torch.float16: "F16", torch.float32: "F32", torch.float8_e4m3fn: "F8_E4M3", torch.int64: "I64"}
UNET = "model.diffusion_model."
BASE: dict[str, Any] = {
    "image_size": 32,
    "out_channels": 4,
    "in_channels": 4,
    "use_spatial_transformer": True,
    "legacy": False,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "channel_mult": [1, 2, 4],
    "use_linear_in_transformer": True,
    "context_dim": 2048,
    "num_head_channels": 64,
}
REFINER: dict[str, Any] = {
    **BASE,
    "adm_in_channels": 2560,
    "model_channels": 384,
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0],
    "transformer_depth_output": [0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0],
    "transformer_depth_middle": 4,
    "channel_mult": [1, 2, 4, 4],
    "context_dim": 1280,
}
VAE = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4]}


def shapes_of(kind: str, comfyui: Path) -> Shapes:
    """Names and shapes of a single file: `base`, `inpaint` (nine channels into the U-Net) or `refiner` (another U-Net, one encoder)."""
    _import_from(comfyui)
    importlib.import_module("comfy.cli_args").args.cpu = True
    ops = importlib.import_module("comfy.ops").disable_weight_init
    supported, clips = importlib.import_module("comfy.supported_models"), importlib.import_module("comfy.sdxl_clip")
    unets = importlib.import_module("comfy.ldm.modules.diffusionmodules.openaimodel")
    vaes = importlib.import_module("comfy.ldm.models.autoencoder")
    config = dict(REFINER if kind == "refiner" else BASE)
    if kind == "inpaint":
        config["in_channels"] = 9
    family = supported.SDXLRefiner if kind == "refiner" else supported.SDXL
    clip_kind = clips.SDXLRefinerClipModel if kind == "refiner" else clips.SDXLClipModel
    with torch.device("meta"):
        unet = unets.UNetModel(**config, dtype=torch.float16, device="meta", operations=ops)
        clip = clip_kind(device="meta", dtype=torch.float16)
        vae = vaes.AutoencoderKL(ddconfig={**VAE, "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}, embed_dim=4)
    saving = family(config)
    state = saving.process_unet_state_dict_for_saving(unet.state_dict())
    state |= saving.process_clip_state_dict_for_saving(clip.state_dict())
    state |= saving.process_vae_state_dict_for_saving(vae.state_dict())
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def random_weight(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """As PyTorch starts a layer: spread by its inputs, norms at one, biases at zero."""
    if name.endswith("position_ids"):
        return torch.arange(77).expand(1, -1).contiguous()
    if len(shape) < 2:
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    inputs = 1
    for length in shape[1:]:
        inputs *= length
    return torch.randn(shape, generator=generator) * (3 * inputs) ** -0.5


def write_stream(path: Path, shapes: Shapes, dtype_of: Callable[[str], torch.dtype], make: Callable[[str], Tensor | None]) -> None:
    """A safetensors file, tensor by tensor; None from `make` leaves zeros that take no room on the disk. Whole or not at all."""
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in shapes.items():
        size = dtype_of(name).itemsize
        for length in shape:
            size *= length
        header[name] = {"dtype": NAMES[dtype_of(name)], "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    unfinished = path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name in shapes:
            tensor = make(name)
            begin, end = header[name]["data_offsets"]
            if tensor is None:
                file.seek(end - begin, os.SEEK_CUR)
            else:
                file.write(tensor.to(dtype_of(name)).contiguous().flatten().view(torch.uint8).numpy().data)
        file.truncate(8 + len(head) + offset)
    unfinished.replace(path)


def write_base(path: Path, comfyui: Path) -> None:
    """SDXL base: float16, random from seed 0."""
    shapes, generator = shapes_of("base", comfyui), torch.Generator().manual_seed(0)
    write_stream(path, shapes, _half, lambda name: random_weight(name, shapes[name], generator))


def write_empty(path: Path, kind: str, comfyui: Path) -> None:
    """`inpaint` or `refiner`, all zeros, sparse on the disk."""
    write_stream(path, shapes_of(kind, comfyui), _half, lambda name: None)


def write_fp8(path: Path, base: Path) -> None:
    """The base with its U-Net in float8_e4m3fn, as such files are traded."""
    from safetensors import safe_open

    with safe_open(base, "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)

        def dtype(name: str) -> torch.dtype:
            return torch.float8_e4m3fn if name.startswith(UNET) else _half(name)

        write_stream(path, shapes, dtype, file.get_tensor)


def write_velocity(path: Path, base: Path) -> None:
    """The base marked as predicting velocity with zero SNR, by the empty tensors that other tools read."""
    from safetensors import safe_open

    with safe_open(base, "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        marks = {"v_pred": (0,), "ztsnr": (0,)}
        write_stream(path, {**shapes, **marks}, _half, lambda name: torch.zeros(0) if name in marks else file.get_tensor(name))


def write_folder(folder: Path, base: Path, comfyui: Path) -> None:
    """The base as a diffusers folder, its tensors copied one by one under diffusers' names."""
    _import_from(comfyui)
    from safetensors import safe_open

    folder.mkdir(parents=True, exist_ok=True)
    with safe_open(base, "pt") as file:
        for part, renamed in _diffusers_names(list(file.keys())).items():
            model = "model.safetensors" if part.startswith("text_encoder") else "diffusion_pytorch_model.safetensors"
            _copy_part(folder / part / model, renamed, file)
            shutil.copy(SDXL_CONFIGS / part / "config.json", folder / part / "config.json")
    shutil.copytree(SDXL_CONFIGS / "scheduler", folder / "scheduler", dirs_exist_ok=True)
    for tokenizer in ("tokenizer", "tokenizer_2"):
        shutil.copytree(mini.path() / tokenizer, folder / tokenizer, dirs_exist_ok=True)
    shutil.copy(SDXL_CONFIGS / "model_index.json", folder / "model_index.json")


Source = tuple[str, int | None, bool]
"""A tensor of the single file, which third of its rows (None: all), and whether it is turned."""


def _copy_part(path: Path, renamed: Mapping[str, Source], file: Any) -> None:
    def read(name: str) -> Tensor:
        source, third, turned = renamed[name]
        tensor = file.get_tensor(source)
        if name.startswith(("encoder.mid_block.att", "decoder.mid_block.att")) and tensor.dim() == 4:
            tensor = tensor[:, :, 0, 0]  # the VAE's attention: a convolution of one pixel, in diffusers a projection
        if third is not None:
            tensor = tensor.chunk(3)[third]
        return tensor.T if turned else tensor

    shapes = {name: tuple(read(name).shape) for name in renamed}
    write_stream(path, shapes, _half, read)


def _import_from(comfyui: Path) -> None:
    sys.dont_write_bytecode = True  # it may be the user's own ComfyUI
    if str(comfyui) not in sys.path:
        sys.path.insert(0, str(comfyui))


def _diffusers_names(names: list[str]) -> dict[str, dict[str, Source]]:
    utils = importlib.import_module("comfy.utils")
    unet = utils.unet_to_diffusers({**BASE, "num_heads": -1})
    found: dict[str, dict[str, Source]] = {
        "unet": {new: (UNET + old, None, False) for new, old in unet.items() if UNET + old in names and not new.startswith("class_")}
    }
    first = "conditioner.embedders.0.transformer."
    found["text_encoder"] = {name.removeprefix(first): (name, None, False) for name in names if name.startswith(first)}
    found["text_encoder"].pop("text_model.embeddings.position_ids", None)
    found["text_encoder_2"] = dict(_second_encoder([name for name in names if name.startswith("conditioner.embedders.1.model.")]))
    found["vae"] = dict(_vae_names([name for name in names if name.startswith("first_stage_model.")]))
    return found


def _second_encoder(names: list[str]) -> Iterator[tuple[str, Source]]:
    """OpenCLIP's names as transformers has them."""
    plain = {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
    }
    inside = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    for name in names:
        short = name.removeprefix("conditioner.embedders.1.model.")
        if short in plain:
            yield plain[short], (name, None, False)
        elif short == "text_projection":
            yield "text_projection.weight", (name, None, True)
        elif short.startswith("transformer.resblocks."):
            number, rest = short.removeprefix("transformer.resblocks.").split(".", 1)
            layer, kind = f"text_model.encoder.layers.{number}.", rest.rsplit(".", 1)[-1]
            if rest.startswith("attn.in_proj_"):
                for third, letter in enumerate("qkv"):
                    yield f"{layer}self_attn.{letter}_proj.{rest.removeprefix('attn.in_proj_')}", (name, third, False)
            elif rest.startswith("attn.out_proj"):
                yield f"{layer}self_attn.out_proj.{kind}", (name, None, False)
            else:
                yield f"{layer}{inside[rest.rsplit('.', 1)[0]]}.{kind}", (name, None, False)


def _vae_names(names: list[str]) -> Iterator[tuple[str, Source]]:
    """The first autoencoder's names (Rombach et al.) as diffusers has them."""
    attention = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
    for name in names:
        parts = name.removeprefix("first_stage_model.").split(".")
        side = parts[0]
        if parts[1] in ("down", "up"):
            block = int(parts[2]) if parts[1] == "down" else 3 - int(parts[2])
            rest = ".".join(parts[3:]).replace("nin_shortcut", "conv_shortcut")
            rest = (
                rest.replace("block.", "resnets.")
                .replace("downsample.conv", "downsamplers.0.conv")
                .replace("upsample.conv", "upsamplers.0.conv")
            )
            yield f"{side}.{parts[1]}_blocks.{block}.{rest}", (name, None, False)
        elif parts[1] == "mid" and parts[2] == "attn_1":
            yield f"{side}.mid_block.attentions.0.{attention[parts[3]]}.{parts[4]}", (name, None, False)
        elif parts[1] == "mid":
            yield f"{side}.mid_block.resnets.{int(parts[2].removeprefix('block_')) - 1}.{'.'.join(parts[3:])}", (name, None, False)
        elif parts[1] == "norm_out":
            yield f"{side}.conv_norm_out.{parts[2]}", (name, None, False)
        else:
            yield ".".join(parts), (name, None, False)


def _half(name: str) -> torch.dtype:
    return torch.int64 if name.endswith("position_ids") else torch.float16
