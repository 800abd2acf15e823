"""A quick look at what a U-Net draws while it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


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
) -> Tensor:
    """Draw one picture with Euler in few steps, its noise from `seed` alone: latents float32 [1, 4, height/8, width/8] on the CPU.

    `prompt_embeds` [2, T, C] and `pooled` [2, P]: the prompt, then what guidance leads away from. `height`, `width` in pixels.
    The trainer's random generator and the U-Net's mode are left alone.
    """
    from diffusers import EulerDiscreteScheduler

    device = unet.device
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    scheduler.set_timesteps(steps, device=device)
    noise = torch.randn(1, unet.config.in_channels, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    latents = noise.to(device) * scheduler.init_noise_sigma
    added = {
        "text_embeds": pooled.to(device),
        "time_ids": torch.tensor([[height, width, 0, 0, height, width]] * 2, dtype=torch.float32, device=device),
    }
    context = prompt_embeds.to(device)
    with torch.autocast(device.type, unet.dtype, enabled=unet.dtype != torch.float32):
        for timestep in scheduler.timesteps:
            both = scheduler.scale_model_input(latents, timestep).expand(2, -1, -1, -1)
            positive, negative = unet(both, timestep, context, added_cond_kwargs=added).sample.float().chunk(2)
            latents = scheduler.step(negative + guidance * (positive - negative), timestep, latents).prev_sample
    return latents.cpu()
