"""Cache the VAE's latents of every render, one file a shard.

`python -m torch.distributed.run --nproc_per_node 2 -m lab.recipe.latents --renders D --vae O/vae --output_dir O/latents`
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL


def load_latents(folder: Path, shards: list[str]) -> torch.Tensor:
    """Scaled latents float32 [N, 4, 16, 16], in the order of `shards`."""
    return torch.cat([torch.from_numpy(np.load(folder / f"{Path(name).stem}.npy")).float() for name in shards])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renders", required=True)
    parser.add_argument("--vae", required=True)
    parser.add_argument("--output_dir", required=True)
    arguments = parser.parse_args()
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    vae = AutoencoderKL.from_pretrained(arguments.vae).eval()
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    for path in sorted(Path(arguments.renders).glob("*.npz"))[rank::ranks]:
        target = output_dir / f"{path.stem}.npy"
        if target.exists():
            continue
        with np.load(path) as shard, torch.no_grad():
            pictures = torch.from_numpy(shard["images"]).permute(0, 3, 1, 2).float() / 127.5 - 1
            latents = torch.cat([vae.encode(p).latent_dist.mode() for p in pictures.split(10)]) * vae.config.scaling_factor
        partial = target.with_suffix(".part")
        with partial.open("wb") as file:
            np.save(file, latents.half().numpy())
        partial.replace(target)


if __name__ == "__main__":
    main()
