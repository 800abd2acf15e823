"""What fusion of words costs at SDXL's true size, in FLOPs counted on a pretended card, the looks for the face among them.

    python -m lab.card.fusion --side 1024 --steps 20 --face 0.25 1

`--face`: the share of the picture in which the expression acts. One evaluation of the U-Net (both rows of guidance) is counted plain and
fused, and each size of picture that the VAE decodes; a run is made of these as `generate` makes it. Keys and values of the texts are left
out: they are made once for all seeds.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from math import sqrt
from typing import Any

import torch

from faceexpr_core.diffusers_host.fusion import Fusion, Rows, apply_fusion, places_of
from faceexpr_core.fusion.bank import FeatureBank
from faceexpr_core.fusion.donors import steps_in_window
from faceexpr_core.fusion.look import FIRST_SCALE, MARGIN, WHOLE
from faceexpr_core.fusion.settings import CONTEXT_SITE, FusionSettings, select_places, site_settings
from lab.benchmarks.fusion_cost import sdxl_places
from lab.pretended.card import PretendedCard

from .drawing import HALF, call, measured, sdxl_vae
from .sets import made_on, sdxl_unet

TFLOP = "tflop"
SIGMA = 3.0


def random_bank(settings: FusionSettings) -> FeatureBank:
    """Keys and values of two texts at all places of SDXL's U-Net, drawn at random: FLOPs do not depend on them."""
    places = sdxl_places(CONTEXT_SITE)
    chosen = select_places(CONTEXT_SITE, settings.layers, places)
    tokens = {
        f"{name}:{part}": torch.randn(1, places[name].grid[1], places[name].channels, dtype=HALF)
        for name in chosen
        for part in ("e:k", "e:v", "n:k", "n:v")
    }
    return FeatureBank(CONTEXT_SITE, "twin", (), tokens, {})


def face_mask(side: int, share: float) -> torch.Tensor:
    """float32 [side / 8, side / 8]: a square in the middle that covers a share of the picture."""
    size = side // 8
    mask, half = torch.zeros(size, size), round(size * sqrt(share) / 2)
    mask[size // 2 - half : size // 2 + half, size // 2 - half : size // 2 + half] = 1
    return mask


def counted(side: int, faces: list[float]) -> tuple[float, dict[float, float]]:
    """TFLOP of one evaluation of both rows of guidance: plain, and fused for each share of the picture."""
    settings = site_settings(CONTEXT_SITE)
    bank = random_bank(settings)
    with PretendedCard("shapes", item=0.1) as card, torch.no_grad():
        unet = sdxl_unet(HALF).eval()
        work = call(unet, side, rows=2)
        plain = measured(card.ledger, work)[TFLOP]
        fused = {}
        for share in faces:
            rows = Rows((1,), cfg=5.0, schedule=(SIGMA,), sigma=SIGMA)
            with apply_fusion(unet, Fusion(bank, settings, face_mask(side, share)), rows):
                fused[share] = measured(card.ledger, work)[TFLOP]
        assert set(bank.places()) <= set(places_of(unet, CONTEXT_SITE))
        return plain, fused


def decoded(sizes: list[int]) -> list[float]:
    """TFLOP of decoding square pictures of these sides."""
    with PretendedCard("shapes", item=0.1) as card, torch.no_grad():
        vae, found = sdxl_vae(HALF), []
        for side in sizes:
            with made_on("cuda", HALF):
                latents = torch.zeros(1, 4, side // 8, side // 8)
            found.append(measured(card.ledger, partial(vae.decode, latents))[TFLOP])
        return found


def table(side: int, steps: int, faces: list[float]) -> list[str]:
    plain, fused = counted(side, faces)
    first = side if side <= WHOLE else 8 * round(FIRST_SCALE * side / 8)
    again = [0 if side <= WHOLE else min(side, 8 * round((1 + 2 * MARGIN) * sqrt(share) * side / 8)) for share in faces]
    whole, look, *later = decoded([side, first, *(size or 8 for size in again)])
    acting = len(steps_in_window(_sigmas(steps), site_settings(CONTEXT_SITE).window))
    lines = [
        f"{side} px, {steps} steps: an evaluation {plain:.2f} TFLOP, decoding {whole:.2f}; fused in {acting} steps.",
        "",
        "| the expression acts in | an evaluation, fused | features at hand | and the face looked for | of it the looks, TFLOP |",
        "|---|---|---|---|---|",
    ]
    run = steps * plain + whole
    for share, size, second in zip(faces, again, later, strict=True):
        cached = run + acting * (fused[share] - plain)
        looks = look + (second if size else 0)
        cells = [f"{share:.0%} of the picture", *(f"{one / run:.3f}x" for one in (cached, cached + looks)), f"{looks:.1f}"]
        cells.insert(1, f"{fused[share] / plain:.3f}x")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _sigmas(steps: int) -> list[float]:
    """The schedule of `generate` on SDXL's noise levels."""
    from types import SimpleNamespace

    from faceexpr_core.diffusers_host.sampling import normal_schedule

    betas: Any = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return normal_schedule(SimpleNamespace(scheduler=SimpleNamespace(betas=betas)), steps).tolist()  # type: ignore[arg-type]


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
