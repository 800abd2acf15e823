"""The formulas of the training loss, as functions of tensors.

L = L_id + lambda_pr L_prior + lambda_ec L_ec. Half precision is computed in float32, double precision stays double.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CRAFTING_FLOOR = 1e-6
"""delta of L_ec: a mean square change of the prediction below it says nothing about the expression."""
CRAFTING_FLOOR_BF16 = 6e-5
"""delta where the U-Net computes in bfloat16, four times what rounding alone makes of a change there (docs/measurements.md)."""


def min_snr_weight(snr: Tensor, gamma: float, velocity: bool = False) -> Tensor:
    """w(t) = min(SNR(t), gamma) / SNR(t) for epsilon prediction, / (SNR(t) + 1) for v-prediction (Hang et al. 2303.09556, section 3.4).

    `snr`: float [B], 0 or more (0 only with v-prediction), as `diffusers.training_utils.compute_snr` gives it. `gamma` 0 leaves every
    timestep at 1.
    """
    if gamma == 0:
        return torch.ones_like(snr)
    return snr.clamp(max=gamma) / (snr + 1 if velocity else snr)


def weighted_epsilon_loss(noise: Tensor, predicted: Tensor, mask: Tensor, snr_weight: Tensor) -> Tensor:
    """L_id = w(t) <M (eps - eps_theta)^2> for each sample: float32 [B].

    `noise`, `predicted`: [B, C, h, w]; `mask` M: [B, 1, h, w], mean 1 (see `face_weights`); `snr_weight` w(t): [B].
    DreamBooth's objective (Ruiz et al. 2208.12242) with min-SNR; the mask is ours. With v-prediction v stands where eps does.
    """
    squared = _wide(mask) * (_wide(noise) - _wide(predicted)) ** 2
    return snr_weight * squared.mean(dim=(1, 2, 3))


def prior_loss(target: Tensor, predicted: Tensor, snr_weight: Tensor) -> Tensor:
    """L_prior = w(t) <(target - eps_theta)^2> on pictures of the class that the base model drew: float32 [B].

    Prior preservation; shapes as in `weighted_epsilon_loss`. With the pictures' noise eps as the target it is DreamBooth's (Ruiz et al.
    2208.12242, equation 3). With sg eps_0, what the model without the LoRA predicts there, it is ours: eps_0 is what eps is on average
    where the model is right, so that both pull to the same place, but a few drawn pictures, wrong ones too, are not learned by heart.
    """
    return snr_weight * ((_wide(target.detach()) - _wide(predicted)) ** 2).mean(dim=(1, 2, 3))


def distillation_loss(predicted: Tensor, base: Tensor) -> Tensor:
    """L_prior without pictures = <(eps_theta - sg eps_0)^2>, both with the class's prompt: float32 [B]. Ours.

    `predicted` eps_theta and `base` eps_0 (LoRA off): [B, C, h, w]. No gradient goes into eps_0.
    """
    return ((_wide(predicted) - _wide(base.detach())) ** 2).mean(dim=(1, 2, 3))


def crafting_loss(change: Tensor, base_change: Tensor, area: Tensor | None = None, floor: float = CRAFTING_FLOOR) -> tuple[Tensor, Tensor]:
    """L_ec = |d - A d0|^2 / (2 (|A d0|^2 + delta)) + (1 - cos(d, A d0)) / 2 for each sample: float32 [B], bool [B]. Ours.

    d = eps_theta(z_t, id, e) - eps_theta(z_t, id, n) is how the personalised model changes its prediction for an expression (see
    `Parts.expression` for which of the two has a gradient),
    d0 = sg [eps_0(z_t, class, e) - eps_0(z_t, class, n)] how the base model does. `change` d, `base_change` d0: [B, C, h, w];
    `area` A: [B, 1, h, w] in 0..1, None for 1; `floor` delta. |.|^2 is the mean square, so that delta does not depend on the size.
    0 where d = A d0, 1 where the phrase has no effect (d = 0). The second value is False where |d0|^2 < delta; there L_ec is 0.
    """
    wanted = _wide(base_change.detach())
    counted = (wanted**2).mean(dim=(1, 2, 3)) >= floor
    if area is not None:
        wanted = _wide(area) * wanted
    given = _wide(change)
    dimensions = (1, 2, 3)
    size = (wanted**2).mean(dim=dimensions)
    distance = ((given - wanted) ** 2).mean(dim=dimensions) / (2 * (size + floor))
    # cosine_similarity has no finite gradient at d = 0 in every version; this has
    norms = ((given**2).mean(dim=dimensions) + floor**2).sqrt() * (size + floor**2).sqrt()
    cosine = (given * wanted).mean(dim=dimensions) / norms
    return torch.where(counted, distance + (1 - cosine) / 2, 0.0), counted


def face_weights(face: Tensor, background: float, height: int, width: int) -> Tensor:
    """M of L_id on the latent grid: 1 on the face, `background` elsewhere, rescaled to mean 1. Ours.

    `face`: float [N, H, W] in 0..1, in the pixels of the picture. Returns float32 [N, 1, height, width].
    """
    coverage = functional.interpolate(face.float()[:, None], size=(height, width), mode="area")
    weights = background + (1 - background) * coverage
    return weights / weights.mean(dim=(2, 3), keepdim=True)


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
