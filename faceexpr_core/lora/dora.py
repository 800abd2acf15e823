"""DoRA (Liu et al. 2402.09353): a weight's direction from a low-rank change, its magnitude learned apart."""

from __future__ import annotations

import torch
from torch import Tensor


def decomposed(weight: Tensor, change: Tensor, magnitude: Tensor) -> Tensor:
    """m (W + D) / |W + D|, the paper's equation 5, with the norm of each row or column of W + D, whichever `magnitude` is for.

    `weight` and `change` D (scaled already) [out, in, ...]; `magnitude` [out, 1, ...] as PEFT and newer LyCORIS have it, or
    [1, in, 1, ...]. ComfyUI 0.3.75 divides by the norm of W's rows instead, so that its rows come out longer than m.
    """
    changed = weight + change
    axes = [axis for axis in range(weight.ndim) if magnitude.shape[axis] == 1]
    norm = torch.linalg.vector_norm(changed, dim=axes, keepdim=True)
    return changed * (magnitude / (norm + torch.finfo(norm.dtype).eps))
