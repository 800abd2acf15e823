"""Train Mini's VAE on renders.

`python -m torch.distributed.run --nproc_per_node 2 -m lab.recipe.vae --renders D --output_dir O --minutes 35`

Loss: L1 over a Laplacian pyramid, each pixel weighted by the part of the face it shows. Latents get noise of a few per cent of their own
spread, so that neighbouring latents decode alike; the scale itself is free and ends up in `scaling_factor`.
With `--decoder_only` the encoder is frozen: latents cached before stay valid while the decoder goes on improving.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers import AutoencoderKL
from diffusers.training_utils import EMAModel

from . import shape
from .optimizer import MuonAdamW
from .renders import PART_WEIGHTS, Renders

LATENT_NOISE = 0.05


def laplacian_l1(difference: torch.Tensor, weight: torch.Tensor, levels: int = 4) -> torch.Tensor:
    """Weighted L1 of `difference` [B, 3, H, W], and of each band of its Laplacian pyramid; `weight` [B, 1, H, W]."""
    total = 4.0 * (difference.abs() * weight).mean()
    for level in range(levels):
        coarse = F.avg_pool2d(difference, 2) if level < levels - 1 else None
        band = difference if coarse is None else difference - F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + (band.abs() * weight).mean() * (2.0 if level == 0 else 1.0)
        if coarse is not None:
            difference, weight = coarse, F.avg_pool2d(weight, 2)
    return total


class NoisyAutoencoder(torch.nn.Module):
    """Pictures [B, 3, H, W] -> reconstruction through noisy latents, and the latents' spread."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latents = self.vae.encode(pictures).latent_dist.mode()
        spread = latents.detach().std()
        return self.vae.decode(latents + LATENT_NOISE * spread * torch.randn_like(latents)).sample, spread


def freeze_variance(vae: AutoencoderKL) -> None:
    """Mini's encoder is deterministic: the log variance it gives is a constant."""
    with torch.no_grad():
        vae.quant_conv.weight[4:].zero_()
        vae.quant_conv.bias[4:].fill_(-8.0)


def latent_spread(vae: AutoencoderKL, renders: Renders, count: int = 256) -> float:
    with torch.no_grad():
        pictures, _ = renders.batch(np.arange(0, len(renders), max(1, len(renders) // count))[:count])
        return torch.cat([vae.encode(p).latent_dist.mode() for p in pictures.split(16)]).std().item()


def save(vae: AutoencoderKL, ema: EMAModel, renders: Renders, output_dir: Path, rescale: bool) -> None:
    ema.store(vae.parameters())
    ema.copy_to(vae.parameters())
    freeze_variance(vae)
    if rescale:  # latents cached before keep their scale while the decoder alone is trained
        vae.register_to_config(scaling_factor=round(1 / latent_spread(vae, renders), 6))
    vae.save_pretrained(output_dir / "vae")
    ema.restore(vae.parameters())
    freeze_variance(vae)


def train(arguments: argparse.Namespace) -> None:
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(arguments.seed)
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    renders = Renders(Path(arguments.renders))
    vae = AutoencoderKL.from_pretrained(arguments.resume) if arguments.resume else shape.vae()
    freeze_variance(vae)
    if arguments.decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    trained = [p for p in vae.parameters() if p.requires_grad]
    ema = EMAModel(vae.parameters(), decay=0.998, use_ema_warmup=True, power=0.8)
    model = accelerator.prepare_model(NoisyAutoencoder(vae))
    optimizer = MuonAdamW(vae.named_parameters(), arguments.learning_rate, arguments.learning_rate / 5, accelerator)
    rng = np.random.default_rng([arguments.seed, accelerator.process_index])
    torch.manual_seed(arguments.seed + accelerator.process_index)
    started, step, running, progress = time.time(), 0, 0.0, 0.0
    while progress < 1:
        rate = min(1, (step + 1) / 50) * (0.01 + 0.99 * min(1, (1 - progress) / (1 - arguments.decay_from)))
        pictures, parts = renders.batch(rng.integers(0, len(renders), arguments.batch))
        if rng.random() < 0.5:
            pictures, parts = pictures.flip(-1), parts.flip(-1)
        decoded, spread = model(pictures)
        weight = PART_WEIGHTS[parts].unsqueeze(1)
        loss = laplacian_l1(decoded - pictures, weight / weight.mean())
        optimizer.zero_grad()
        accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step(rate)
        ema.step(vae.parameters())
        step += 1
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        elapsed = time.time() - started
        if step % 5 == 0:
            progress = broadcast(torch.tensor(elapsed / (arguments.minutes * 60))).item()
        if step % 100 == 0 and accelerator.is_main_process:
            psnr = -10 * math.log10(F.mse_loss(decoded, pictures).item() / 4)
            pictures_a_second = step * arguments.batch * accelerator.num_processes / elapsed
            print(
                f"{elapsed / 60:6.1f} min  step {step}  loss {running:.4f}  psnr {psnr:.2f} dB  {pictures_a_second:.1f}/s  "
                f"std {spread.item():.2f}  renders {len(renders)}",
                flush=True,
            )
        if step % 200 == 0:
            renders.refresh()
        if (step % 500 == 0 or progress >= 1) and accelerator.is_main_process:
            save(vae, ema, renders, output_dir, rescale=not arguments.decoder_only)
    accelerator.end_training()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renders", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--batch", type=int, default=3, help="pictures a process and step")
    parser.add_argument("--learning_rate", type=float, default=3e-3, help="of Muon; AdamW gets a fifth")
    parser.add_argument("--decay_from", type=float, default=0.3, help="the share of the time after which the learning rate falls, linearly")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", help="a vae directory to start from")
    parser.add_argument("--decoder_only", action="store_true")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
