"""A U-Net small enough for finite differences, with SDXL's kinds of blocks; and the LoRA of a run as its file has it."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

from faceexpr_core.lora.kohya import to_kohya
from faceexpr_core.training.result import TrainResult


def toy_unet() -> UNet2DConditionModel:
    """SDXL's kinds of blocks at 8 and 16 channels, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            attention_head_dim=(1, 2),
            norm_num_groups=4,
            cross_attention_dim=8,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 + 6 * 4,
        )


def lora_of(result: TrainResult) -> dict[str, torch.Tensor]:
    """kohya's keys, float32 on the CPU."""
    return to_kohya(result.layers, result.alpha)
