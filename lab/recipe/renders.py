"""The rendered data set as the recipe reads it: attributes of all, pictures of a share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

PART_WEIGHTS = torch.tensor([0.35, 1.0, 0.6, 3.0, 2.0, 2.5, 1.0])
"""How much a pixel counts, by the renderer's part map: background, skin, hair, eye, brow, mouth, other."""


def finished_shards(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("shard_*.npz")) if path.with_suffix(".jsonl").exists()]


def attributes_of(shard: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shard.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()]


class Renders:
    """Pictures and part maps of every `ranks`-th finished shard of a folder; `refresh` picks up those rendered since.

    `images` uint8 [N, side, side, 3], `parts` uint8 [N, side, side].
    """

    def __init__(self, folder: Path, side: int, rank: int = 0, ranks: int = 1) -> None:
        self.folder, self.rank, self.ranks = folder, rank, ranks
        self.shards: list[Path] = []
        self.images = np.zeros((0, side, side, 3), np.uint8)
        self.parts = np.zeros((0, side, side), np.uint8)
        self.refresh()

    def __len__(self) -> int:
        return len(self.images)

    def refresh(self) -> None:
        new = [path for path in finished_shards(self.folder)[self.rank :: self.ranks] if path not in self.shards]
        images, parts = [self.images], [self.parts]
        for path in new:
            with np.load(path) as shard:
                images.append(shard["images"])
                parts.append(shard["parts"])
        self.shards += new
        self.images, self.parts = np.concatenate(images), np.concatenate(parts)

    def batch(self, index: np.ndarray, crop: int = 0, rng: np.random.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures float32 [B, 3, S, S] in -1..1 and part maps int64 [B, S, S]; `crop` cuts squares of that side at places of `rng`."""
        images, parts = self.images[index], self.parts[index]
        if crop:
            assert rng is not None
            room = images.shape[1] - crop + 1
            tops, lefts = rng.integers(0, room, len(index)), rng.integers(0, room, len(index))
            cuts = [(slice(top, top + crop), slice(left, left + crop)) for top, left in zip(tops, lefts, strict=True)]
            images = np.stack([image[cut] for image, cut in zip(images, cuts, strict=True)])
            parts = np.stack([part[cut] for part, cut in zip(parts, cuts, strict=True)])
        return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1, torch.from_numpy(parts).long()


def cell_weights(parts: torch.Tensor) -> torch.Tensor:
    """Part maps int64 [B, S, S] -> weights of latent cells [B, 1, S/8, S/8] with mean 1."""
    weights = F.avg_pool2d(PART_WEIGHTS[parts].unsqueeze(1), 8).sqrt()
    return weights / weights.mean((1, 2, 3), keepdim=True)
