"""The formulas of the training loss, as functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def min_snr_weight(snr: Tensor, gamma: float) -> Tensor:
    """w(t) = min(SNR(t), gamma) / SNR(t), for epsilon prediction (Hang et al. 2303.09556, section 3.4).

    `snr`: float [B], above 0, as `diffusers.training_utils.compute_snr` gives it. `gamma` 0 leaves every timestep at 1.
    """
    if gamma == 0:
        return torch.ones_like(snr)
    return snr.clamp(max=gamma) / snr


def weighted_epsilon_loss(noise: Tensor, predicted: Tensor, mask: Tensor, snr_weight: Tensor) -> Tensor:
    """L_id = w(t) <M (eps - eps_theta)^2> for each sample: float32 [B].

    `noise`, `predicted`: [B, C, h, w]; `mask` M: [B, 1, h, w], mean 1 (see `face_weights`); `snr_weight` w(t): [B].
    DreamBooth's objective (Ruiz et al. 2208.12242) with min-SNR; the mask is ours.
    """
    squared = mask.float() * (noise.float() - predicted.float()) ** 2
    return snr_weight * squared.mean(dim=(1, 2, 3))


def face_weights(face: Tensor, background: float, height: int, width: int) -> Tensor:
    """M of L_id on the latent grid: 1 on the face, `background` elsewhere, rescaled to mean 1. Ours.

    `face`: float [N, H, W] in 0..1, in the pixels of the picture. Returns float32 [N, 1, height, width].
    """
    coverage = functional.interpolate(face.float()[:, None], size=(height, width), mode="area")
    weights = background + (1 - background) * coverage
    return weights / weights.mean(dim=(2, 3), keepdim=True)
