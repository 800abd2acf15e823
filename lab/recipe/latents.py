"""Cache what the U-Net learns from, one file a shard: the VAE's latents and the weights of their cells.

`python -m torch.distributed.run --nproc_per_node 2 -m lab.recipe.latents --renders D --vae O/vae --output_dir O/latents`
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from .renders import cell_weights, finished_shards


def load_latents(folder: Path, shards: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled latents float16 [N, 4, s, s] and weights float16 [N, 1, s, s] with mean 1, in the order of `shards`."""
    stored = [np.load(folder / shard.name) for shard in shards]
    return tuple(torch.cat([torch.from_numpy(one[name]) for one in stored]) for name in ("latents", "weights"))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renders", type=Path, required=True)
    parser.add_argument("--vae", required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    vae = AutoencoderKL.from_pretrained(arguments.vae).eval()
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    for path in finished_shards(arguments.renders)[rank::ranks]:
        target = arguments.output_dir / path.name
        if target.exists():
            continue
        with np.load(path) as shard, torch.no_grad():
            pictures = torch.from_numpy(shard["images"]).permute(0, 3, 1, 2).float() / 127.5 - 1
            latents = torch.cat([vae.encode(p).latent_dist.mode() for p in pictures.split(10)]) * vae.config.scaling_factor
            weights = cell_weights(torch.from_numpy(shard["parts"]).long())
        partial = target.with_suffix(".part")
        with partial.open("wb") as file:
            np.savez(file, latents=latents.half().numpy(), weights=weights.half().numpy())
        partial.replace(target)


if __name__ == "__main__":
    main()
