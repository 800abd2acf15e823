"""What drawing and encoding take of a card beside training, at SDXL's true size on a pretended one.

    python -m lab.card.drawing --sides 512 768 1024

One picture with guidance as `faceexpr generate`, class pictures and previews draw it (two rows through the U-Net), and the VAE, whole
and in tiles of 512 pixels.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lab.pretended.card import PretendedCard
from lab.pretended.ledger import Ledger

from .sets import made_on, sdxl_config, sdxl_encoders, sdxl_unet, widths

GIB = 1 << 30
HALF = torch.float16
TILE = 512


def weights() -> dict[str, int]:
    """Bytes of SDXL's parts in float16; the VAE in float32, as it is kept (it overflows in float16)."""
    with PretendedCard("shapes"):
        parts = {"unet": sdxl_unet(HALF), **sdxl_encoders(HALF).parts, "vae": sdxl_vae(torch.float32)}
        return {name: sum(weight.nbytes for weight in part.parameters()) for name, part in parts.items()}


def taken(side: int) -> dict[str, Any]:
    """Bytes over the weights, and TFLOP, of each call at pictures of `side` pixels."""
    with PretendedCard("shapes", item=0.1) as card, torch.no_grad():
        found = {"unet, 1 with guidance": measured(card.ledger, call(sdxl_unet(HALF).eval(), side, rows=2))}
        for dtype in (torch.float32, torch.float16):
            name = str(dtype).removeprefix("torch.")
            for tiled in (False, True):
                how = f"tiled {name}" if tiled else name
                found |= {f"vae {what} {how}": one for what, one in _vae_calls(card.ledger, side, dtype, tiled).items()}
    return {"side": side, **found}


def call(unet: Any, side: int, rows: int) -> Callable[[], object]:
    """An evaluation of the U-Net for so many rows of pictures of `side` pixels."""
    wide, pooled = widths(unet)
    with made_on("cuda", HALF):
        latents, words = torch.zeros(rows, 4, side // 8, side // 8), torch.zeros(rows, 77, wide)
        added = {"text_embeds": torch.zeros(rows, pooled), "time_ids": torch.zeros(rows, 6)}
        step = torch.ones(())
    return lambda: unet(latents, step, words, added_cond_kwargs=added).sample


def _vae_calls(ledger: Ledger, side: int, dtype: torch.dtype, tiled: bool) -> dict[str, dict[str, float]]:
    vae = sdxl_vae(dtype)
    if tiled:
        vae.enable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // 8  # diffusers takes 1024, which is the whole picture
    with made_on("cuda", dtype):
        latents, pixels = torch.zeros(1, 4, side // 8, side // 8), torch.zeros(1, 3, side, side)
    return {
        "decode": measured(ledger, lambda: vae.decode(latents).sample),
        "encode": measured(ledger, lambda: vae.encode(pixels).latent_dist.mode()),
    }


def measured(ledger: Ledger, work: Callable[[], object]) -> dict[str, float]:
    """Bytes over what there was before, at the peak, and TFLOP."""
    ledger.reset_peak()
    before, flops = ledger.current, ledger.flops
    work()
    return {"bytes": ledger.peak - before, "tflop": (ledger.flops - flops) / 1e12}


def sdxl_vae(dtype: torch.dtype) -> Any:
    """SDXL's VAE with random weights, on the pretended card."""
    from diffusers import AutoencoderKL

    with made_on("cuda", dtype):
        return AutoencoderKL.from_config(sdxl_config("vae")).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 768, 1024])
    parser.add_argument("--output", type=Path, help="JSON with the keys `weights` and `drawing` of lab.card.table's format")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    found: dict[str, Any] = {"weights": weights(), "drawing": [taken(side) for side in arguments.sides]}
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(found, indent=1))
    print({name: f"{size / GIB:.2f} GiB" for name, size in found["weights"].items()})
    for row in found["drawing"]:
        for name, one in row.items():
            if name != "side":
                print(f"{row['side']} px, {name}: +{one['bytes'] / GIB:.2f} GiB, {one['tflop']:.1f} TFLOP")


if __name__ == "__main__":
    main()
