"""LoRA files of random weights that fit Mini, under kohya's keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from faceexpr_core import mini

MIDDLE = "mid_block.attentions.0.transformer_blocks.0.attn1.to_v"
PROJECTIONS = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
UNET = mini.path() / "unet" / "diffusion_pytorch_model.safetensors"


def every_projection() -> list[str]:
    """All attention projections of Mini's U-Net, by diffusers' names."""
    with safe_open(UNET, "pt") as weights:
        return [key.removesuffix(".weight") for key in weights.keys() if key.endswith(PROJECTIONS)]  # noqa: SIM118


def write_lora(
    path: Path,
    metadata: Mapping[str, str] | None = None,
    *,
    layers: Sequence[str] = (MIDDLE,),
    spread: float = 0.04,
    rank: int = 4,
    seed: int = 0,
) -> Path:
    """Write a LoRA that moves each weight of these layers by a random number with the standard deviation `spread`."""
    random = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    with safe_open(UNET, "pt") as weights:
        for layer in layers:
            rows, columns = weights.get_slice(f"{layer}.weight").get_shape()
            key = "lora_unet_" + layer.replace(".", "_")
            tensors |= {
                f"{key}.lora_down.weight": torch.randn(rank, columns, generator=random),
                f"{key}.lora_up.weight": spread * rank**-0.5 * torch.randn(rows, rank, generator=random),
                f"{key}.alpha": torch.tensor(float(rank)),
            }
    save_file(tensors, path, dict(metadata or {}) or None)
    return path
