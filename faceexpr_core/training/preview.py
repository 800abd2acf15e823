"""A quick look at what a U-Net draws while it learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..schedule import BETAS
from .precision import autocast

if TYPE_CHECKING:
    import numpy as np
    from diffusers import UNet2DConditionModel

PREVIEW_EXPRESSIONS = ("neutral", "happy", "sad", "surprised")
"""What a preview sheet shows, from left to right and top to bottom."""


@torch.inference_mode()
def preview_latents(
    unet: UNet2DConditionModel,
    prompt_embeds: Tensor,
    pooled: Tensor,
    height: int,
    width: int,
    steps: int = 10,
    guidance: float = 4.0,
    seed: int = 0,
    prediction: str = "epsilon",
    zero_snr: bool = False,
) -> Tensor:
    """Draw one picture with Euler in few steps, its noise from `seed` alone: latents float32 [1, 4, height/8, width/8] on the CPU.

    `prompt_embeds` [2, T, C] and `pooled` [2, P]: the prompt, then what guidance leads away from. `height`, `width` in pixels.
    `prediction` and `zero_snr` as in TrainSettings. The trainer's random generator and the U-Net's mode are left alone.
    """
    from diffusers import EulerDiscreteScheduler

    device = unet.device
    scheduler = EulerDiscreteScheduler(
        beta_start=BETAS[0],
        beta_end=BETAS[1],
        beta_schedule="scaled_linear",
        timestep_spacing="trailing" if zero_snr else "leading",
        steps_offset=1,
        prediction_type=prediction,
        rescale_betas_zero_snr=zero_snr,
    )
    scheduler.set_timesteps(steps, device=device)
    scheduler.set_begin_index(0)  # to look the first step up it would wait for the device
    noise = torch.randn(1, unet.config.in_channels, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    latents = noise.to(device) * scheduler.init_noise_sigma
    added = {
        "text_embeds": pooled.to(device),
        "time_ids": torch.tensor([[height, width, 0, 0, height, width]] * 2, dtype=torch.float32, device=device),
    }
    context = prompt_embeds.to(device)
    with autocast(device, unet.dtype):
        for timestep in scheduler.timesteps:
            both = scheduler.scale_model_input(latents, timestep).expand(2, -1, -1, -1)
            positive, negative = unet(both, timestep, context, added_cond_kwargs=added).sample.float().chunk(2)
            latents = scheduler.step(negative + guidance * (positive - negative), timestep, latents).prev_sample
    return latents.cpu()


def contact_sheet(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures uint8 [H, W, 3] of one size in rows, as near to a square as can be: uint8 [rows H, columns W, 3], white at the end."""
    import numpy as np

    height, width = pictures[0].shape[:2]
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
    return sheet
