"""What fusion of words costs at SDXL's true size, in FLOPs counted on a pretended card, the looks for the face among them.

    python -m lab.card.fusion --side 1024 --steps 20 --face 0.25 1

`--face`: the share of the picture in which the expression acts. One evaluation of the U-Net (both rows of guidance) is counted plain and
fused, and each size of picture that the VAE decodes; a run is made of these as `generate` makes it. Keys and values of the texts are left
out: they are made once for all seeds.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from math import sqrt
from types import SimpleNamespace
from typing import Any

import torch

from faceexpr_core.diffusers_host.fusion import Fusion, Rows, apply_fusion, transformer_blocks
from faceexpr_core.diffusers_host.pipeline import SDXL_CONFIGS
from faceexpr_core.diffusers_host.sampling import normal_schedule
from faceexpr_core.fusion.bank import FeatureBank
from faceexpr_core.fusion.donors import steps_in_window
from faceexpr_core.fusion.look import FIRST_SCALE, MARGIN, WHOLE
from faceexpr_core.fusion.settings import CONTEXT_SITE, FusionSettings, select_places, site_settings
from lab.pretended.card import PretendedCard

from .drawing import HALF, call, measured, sdxl_vae
from .sets import made_on, sdxl_unet

TFLOP = "tflop"
TOKENS = 77
SIGMA = 3.0


def random_bank(unet: Any, settings: FusionSettings) -> FeatureBank:
    """Keys and values of two texts at the U-Net's places that `settings` name, drawn at random: FLOPs do not depend on them."""
    widths = {name: block.attn2.to_k.out_features for name, block in transformer_blocks(unet).items()}
    chosen = select_places(CONTEXT_SITE, settings.layers, widths)
    parts = ("e:k", "e:v", "n:k", "n:v")
    tokens = {f"{name}:{part}": torch.randn(1, TOKENS, widths[name], dtype=HALF) for name in chosen for part in parts}
    return FeatureBank(CONTEXT_SITE, "twin", (), tokens, {})


def face_mask(side: int, share: float) -> torch.Tensor:
    """float32 [side / 8, side / 8]: a square in the middle that covers a share of the picture."""
    size = side // 8
    mask, half = torch.zeros(size, size), round(size * sqrt(share) / 2)
    mask[size // 2 - half : size // 2 + half, size // 2 - half : size // 2 + half] = 1
    return mask


def counted(side: int, faces: list[float], made: Callable[[torch.dtype], Any] = sdxl_unet) -> tuple[float, dict[float, float]]:
    """TFLOP of one evaluation of both rows of guidance: plain, and fused for each share of the picture. `made`: the U-Net, on the card."""
    settings = site_settings(CONTEXT_SITE)
    with PretendedCard("shapes", item=0.1) as card, torch.no_grad():
        unet = made(HALF).eval()
        bank = random_bank(unet, settings)
        work = call(unet, side, rows=2)
        plain = measured(card.ledger, work)[TFLOP]
        fused = {}
        for share in faces:
            rows = Rows((1,), cfg=5.0, schedule=(SIGMA,), sigma=SIGMA)
            with apply_fusion(unet, Fusion(bank, settings, face_mask(side, share)), rows):
                fused[share] = measured(card.ledger, work)[TFLOP]
        return plain, fused


def decoded(sizes: set[int]) -> dict[int, float]:
    """TFLOP of decoding square pictures, by their sides."""
    with PretendedCard("shapes", item=0.1) as card, torch.no_grad():
        vae, found = sdxl_vae(HALF), {}
        for side in sizes:
            with made_on("cuda", HALF):
                latents = torch.zeros(1, 4, side // 8, side // 8)
            found[side] = measured(card.ledger, partial(vae.decode, latents))[TFLOP]
        return found


def looks(side: int, share: float) -> list[int]:
    """Sides of the pictures that are decoded to see the face: as `fusion.look` does it, a large one at first in less, then around
    the face."""
    first = side if side <= WHOLE else FIRST_SCALE * side
    return [8 * round(size / 8) for size in (first, min(side, (1 + 2 * MARGIN) * sqrt(share) * side))]


def table(side: int, steps: int, faces: list[float]) -> list[str]:
    plain, fused = counted(side, faces)
    decode = decoded({side, *(size for share in faces for size in looks(side, share))})
    acting = len(steps_in_window(_sigmas(steps), site_settings(CONTEXT_SITE).window))
    lines = [
        f"{side} px, {steps} steps: an evaluation {plain:.2f} TFLOP, decoding {decode[side]:.2f}; fused in {acting} steps.",
        "",
        "| the expression acts in | an evaluation, fused | features at hand | and the face looked for | of it the looks, TFLOP |",
        "|---|---|---|---|---|",
    ]
    run = steps * plain + decode[side]
    for share in faces:
        cached, seen = run + acting * (fused[share] - plain), sum(decode[size] for size in looks(side, share))
        ratios = [f"{one:.3f}x" for one in (fused[share] / plain, cached / run, (cached + seen) / run)]
        lines.append(f"| {share:.0%} of the picture | {' | '.join(ratios)} | {seen:.1f} |")
    return lines


def _sigmas(steps: int) -> list[float]:
    """The schedule of `generate` on SDXL's noise levels."""
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler.from_pretrained(SDXL_CONFIGS / "scheduler", local_files_only=True)
    pipe: Any = SimpleNamespace(scheduler=scheduler)
    return normal_schedule(pipe, steps).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--face", type=float, nargs="+", default=[0.1, 0.25, 1.0])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    print("\n".join(table(arguments.side, arguments.steps, arguments.face)))


if __name__ == "__main__":
    main()
