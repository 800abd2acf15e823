"""The rendered data set in memory: pictures, part maps and what is seen in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

PART_WEIGHTS = torch.tensor([0.35, 1.0, 0.6, 3.0, 2.0, 2.5, 1.0])
"""How much a pixel counts, by the renderer's part map: background, skin, hair, eye, brow, mouth, other."""


class Renders:
    """Every finished shard of a folder; `refresh` picks up those rendered since.

    `images` uint8 [N, 128, 128, 3], `parts` uint8 [N, 128, 128], `attributes` list of N dicts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards: list[str] = []
        self.images = np.zeros((0, 128, 128, 3), np.uint8)
        self.parts = np.zeros((0, 128, 128), np.uint8)
        self.attributes: list[dict[str, Any]] = []
        self.refresh()

    def __len__(self) -> int:
        return len(self.images)

    def refresh(self) -> None:
        new = [p for p in sorted(self.folder.glob("*.npz")) if p.name not in self.shards and p.with_suffix(".jsonl").exists()]
        images, parts = [self.images], [self.parts]
        for path in new:
            with np.load(path) as shard:
                images.append(shard["images"])
                parts.append(shard["parts"])
            self.attributes += [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
            self.shards.append(path.name)
        self.images = np.concatenate(images)
        self.parts = np.concatenate(parts)

    def batch(self, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures float32 [B, 3, 128, 128] in -1..1 and part maps int64 [B, 128, 128]."""
        pictures = torch.from_numpy(self.images[index]).permute(0, 3, 1, 2).float() / 127.5 - 1
        return pictures, torch.from_numpy(self.parts[index]).long()
