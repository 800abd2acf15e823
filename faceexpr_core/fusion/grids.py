"""Maps of a picture brought to a U-Net's grids of tokens, and to those of latents."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FaceExprError
from ..expressions import REGIONS

Grid = tuple[int, int]
"""Height and width in tokens; tokens are row-major."""


def grid_mask(mask: Tensor, grid: Grid) -> Tensor:
    """A mask [H, W], or one for each row [B, H, W], brought to (h, w): the mean over each token's area, or bilinear where the mask is the
    smaller. float32 in 0..1."""
    if mask.dim() not in (2, 3) or 0 in mask.shape:
        raise FaceExprError(f"the mask has shape {tuple(mask.shape)}; it needs height and width, or one of these for each picture.")
    rows = mask.float()[None] if mask.dim() == 2 else mask.float()
    resized = resize(rows[:, None], grid)[:, 0].clamp(0, 1)
    return resized[0] if mask.dim() == 2 else resized


def paste_latent(given: Tensor, drawn: Tensor, mask: Tensor, free: Tensor | None = None) -> Tensor:
    """A picture's latent [C, h, w] with `drawn`, another of its size, mixed in by what `mask` (float [H, W] in 0..1) has of each token's
    area; equal to the bit where that is 0, and where `free` [H, W] lets nothing change."""
    grid = (int(given.shape[-2]), int(given.shape[-1]))
    share = grid_mask(mask, grid).to(given)
    if free is not None:
        share = share * (grid_mask(free, grid) > 0).to(given)
    return torch.where(share > 0, torch.lerp(given, drawn, share), given)


def grid_regions(regions: Tensor, grid: Grid) -> Tensor:
    """A map of region numbers [H, W] brought to (h, w) as tokens, int64 [h w]: the region that covers most of each token."""
    covered = torch.stack([resize((regions == number).float()[None, None], grid)[0, 0] for number in range(len(REGIONS) + 1)])
    return covered.argmax(0).flatten()


def grid_of(count: int, latent: Grid) -> Grid:
    """(h, w) of `count` tokens in a U-Net that halves a latent of size (h, w), odd sizes rounded up. Raises FaceExprError."""
    grid = latent
    while grid[0] * grid[1] > count and grid != (1, 1):
        grid = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
    if grid[0] * grid[1] != count:
        raise FaceExprError(f"{count} tokens are no level of a U-Net on latents of {latent[0]} x {latent[1]}.")
    return grid


def resize(maps: Tensor, grid: Grid) -> Tensor:
    """[B, C, H, W] -> [B, C, h, w]: area means downwards, bilinear upwards."""
    if maps.shape[-2:] == grid:
        return maps
    if maps.shape[-2] >= grid[0] and maps.shape[-1] >= grid[1]:
        device = area_device(maps.device, (int(maps.shape[-2]), int(maps.shape[-1])), grid)
        return F.interpolate(maps.to(device), size=grid, mode="area").to(maps.device)
    return F.interpolate(maps, size=grid, mode="bilinear", align_corners=False)


def area_device(device: torch.device, size: Grid, grid: Grid) -> torch.device:
    """Where the area means of maps that lie on `device` are taken: on a Mac's graphics chip only of sizes that are multiples of the
    grid's."""
    multiples = size[0] % grid[0] == size[1] % grid[1] == 0
    return device if device.type != "mps" or multiples else torch.device("cpu")
