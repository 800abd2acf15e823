"""What drawing and encoding take of a card beside training, at SDXL's true size on a pretended one.

    python -m lab.card.drawing --sides 512 768 1024

One picture with guidance as `faceexpr generate` and class pictures draw it (two rows through the U-Net), as previews do (the U-Net that
learns), and the VAE, whole and in tiles of 512 pixels.

    python -m lab.card.drawing --whole 1024

The most that `faceexpr generate` takes for a picture on a card on which its parts take turns, beside what `faceexpr plan` says.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from faceexpr_core.diffusers_host import sampling
from faceexpr_core.diffusers_host.pipeline import SDXL_CONFIGS, _tokenizers
from faceexpr_core.diffusers_host.placement import manage
from faceexpr_core.fusion.run import Run
from faceexpr_core.text import ExpressionPrompt
from faceexpr_core.training.plan import drawing_peak
from faceexpr_core.training.preview import preview_latents
from faceexpr_core.training.settings import preset_settings
from lab.pretended.card import PretendedCard
from lab.pretended.ledger import Ledger

from .sets import POOLED, WORDS, made_on, sdxl_config, sdxl_encoders, sdxl_unet, widths
from .step import build

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


def previews(sides: Sequence[int]) -> list[dict[str, float]]:
    """Bytes and TFLOP of a preview's step at each of these sides, drawn by the U-Net that learns, over what lies there."""
    words, pooled = torch.zeros(2, 77, WORDS), torch.zeros(2, POOLED)
    with PretendedCard("shapes", item=0.1) as card:
        unet = build(preset_settings("low-vram", accumulation=1), sides[0], card).unet
        return [measured(card.ledger, partial(preview_latents, unet, words, pooled, side, side, steps=1)) for side in sides]


def generated(side: int) -> int:
    """The most bytes on a card of `drawing_peak` while the command line draws a picture, by the product's own code, in two steps."""
    pipe = sdxl_pipeline()
    with PretendedCard("shapes", item=0.1, total=round(1.01 * drawing_peak(side))) as card:
        manage(pipe, torch.device("cuda"))
        words = ExpressionPrompt("a photo of a woman", ("a photo of a woman, happy expression",), (1.0,))
        sampling.generate(pipe, words, Run(steps=2, width=side, height=side))
        return card.ledger.peak


def sdxl_pipeline() -> Any:
    """SDXL's shape as diffusers loads it onto the host; its weights are memory that nobody has written to, which takes none."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    parts = {"unet": sdxl_unet(HALF, "meta"), **sdxl_encoders(HALF, "meta").parts, "vae": sdxl_vae(torch.float32, "meta")}
    scheduler = EulerDiscreteScheduler.from_pretrained(SDXL_CONFIGS / "scheduler", local_files_only=True)
    tokenizers = dict(zip(("tokenizer", "tokenizer_2"), _tokenizers(), strict=True))
    made = {name: part.to_empty(device="cpu") for name, part in parts.items()}
    return StableDiffusionXLPipeline(**made, **tokenizers, scheduler=scheduler)


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


def sdxl_vae(dtype: torch.dtype, device: str = "cuda") -> Any:
    """SDXL's VAE with random weights."""
    from diffusers import AutoencoderKL

    with made_on(device, dtype):
        return AutoencoderKL.from_config(sdxl_config("vae")).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 768, 1024])
    parser.add_argument("--whole", type=int, default=0, metavar="PIXELS", help="a whole picture, instead of the parts")
    parser.add_argument("--output", type=Path, help="JSON with the keys `weights` and `drawing` of lab.card.table's format")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    if arguments.whole:
        peak, planned = generated(arguments.whole), drawing_peak(arguments.whole)
        print(f"generate, {arguments.whole} px: {peak / GIB:.2f} GiB at the peak, {planned / GIB:.2f} planned")
        return
    found: dict[str, Any] = {"weights": weights(), "drawing": [taken(side) for side in arguments.sides]}
    for row, one in zip(found["drawing"], previews(arguments.sides), strict=True):
        row["preview, 1 with guidance"] = one
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(found, indent=1))
    print({name: f"{size / GIB:.2f} GiB" for name, size in found["weights"].items()})
    for row in found["drawing"]:
        for name, one in row.items():
            if name != "side":
                print(f"{row['side']} px, {name}: +{one['bytes'] / GIB:.2f} GiB, {one['tflop']:.1f} TFLOP")


if __name__ == "__main__":
    main()
