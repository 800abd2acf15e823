"""Pictures as ComfyUI has them (IMAGE, float in 0..1) and as the core has them (uint8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ...faceexpr_core.fusion.donor_faces import Picture


def to_bytes(image: Tensor) -> Picture:
    """uint8 [H, W, 3], rounded, of one picture of an IMAGE: float [H, W, 3 or more], of which the first three channels count."""
    picture: Picture = (image[..., :3].float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return picture


def to_image(picture: Picture) -> Tensor:
    """IMAGE float32 [1, H, W, 3] in 0..1 of a picture uint8 [H, W, 3]."""
    return torch.from_numpy(picture.copy()).float()[None] / 255  # a copy: PyTorch takes no array that is read-only or mirrored
