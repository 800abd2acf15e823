"""Train Mini's VAE on renders.

`python -m torch.distributed.run --nproc_per_node 2 -m lab.recipe.vae --renders D --output_dir O --minutes 90`

Loss: L1 over a Laplacian pyramid, each pixel weighted by the part of the face it shows. Latents get noise of a few per cent of their own
spread, so that neighbouring latents decode alike; the scale itself is free and ends up in `scaling_factor`.
With `--decoder_only` the encoder is frozen: latents cached before stay valid while the decoder goes on improving.
The same command goes on where an earlier session was stopped (`state.pt`); `--minutes` are those of all sessions. Each process holds its
share of the renders. `--crop` trains on random squares, which cost less; the last tenth of the time sees whole pictures.
"""

from __future__ import annotations

import argparse
import math
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
from .state import Clock, course, read, write

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
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if arguments.bf16 else "no")
    torch.manual_seed(arguments.seed)
    output_dir, state_file = arguments.output_dir, arguments.output_dir / "state.pt"
    output_dir.mkdir(parents=True, exist_ok=True)
    renders = Renders(arguments.renders, shape.RESOLUTION, accelerator.process_index, accelerator.num_processes)
    vae = AutoencoderKL.from_pretrained(arguments.start_from) if arguments.start_from else shape.vae()
    freeze_variance(vae)
    if arguments.decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    trained = [p for p in vae.parameters() if p.requires_grad]
    ema = EMAModel(vae.parameters(), decay=0.998, use_ema_warmup=True, power=0.8)
    model = accelerator.prepare_model(NoisyAutoencoder(vae))
    optimizer = MuonAdamW(vae.named_parameters(), arguments.learning_rate, arguments.learning_rate / 5, accelerator)
    before = read(state_file)
    if before is not None:
        vae.load_state_dict(before["model"])
        optimizer.load_state_dict(before["optimizer"])
        ema.load_state_dict(before["ema"])
    step = first = 0 if before is None else before["step"]
    clock = Clock(arguments.minutes, 0.0 if before is None else before["minutes"])
    rng = np.random.default_rng([arguments.seed, step, accelerator.process_index])
    torch.manual_seed(arguments.seed + step + 1000 * accelerator.process_index)
    running, progress = 0.0, clock.progress
    while progress < 1:
        whole = not arguments.crop or progress > 0.9
        count = max(1, arguments.batch * arguments.crop**2 // shape.RESOLUTION**2) if whole and arguments.crop else arguments.batch
        pictures, parts = renders.batch(rng.integers(0, len(renders), count), 0 if whole else arguments.crop, rng)
        if rng.random() < 0.5:
            pictures, parts = pictures.flip(-1), parts.flip(-1)
        with accelerator.autocast():
            decoded, spread = model(pictures)
        decoded = decoded.float()
        weight = PART_WEIGHTS[parts].unsqueeze(1)
        loss = laplacian_l1(decoded - pictures, weight / weight.mean())
        optimizer.zero_grad()
        accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step(course(progress, arguments.decay_from, step - first, warm=50))
        ema.step(vae.parameters())
        step += 1
        running = loss.item() if not running else 0.98 * running + 0.02 * loss.item()
        if step % 5 == 0:
            progress = broadcast(torch.tensor(clock.progress)).item()
        if step % 100 == 0 and accelerator.is_main_process:
            psnr = -10 * math.log10(F.mse_loss(decoded, pictures).item() / 4)
            speed = (step - first) * accelerator.num_processes * arguments.batch / clock.here / 60
            told = f"{clock.done:6.1f} min  step {step}  loss {running:.4f}  psnr {psnr:.2f} dB  {speed:.1f}/s"
            print(f"{told}  std {spread.item():.2f}  renders {len(renders)}", flush=True)
        if step % 200 == 0:
            renders.refresh()
        if step % 20 == 0 and accelerator.is_main_process and (clock.due() or progress >= 1):
            state = {"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.state_dict()}
            write(state_file, {**state, "step": step, "minutes": clock.done})
            save(vae, ema, renders, output_dir, rescale=not arguments.decoder_only)
    if accelerator.is_main_process:
        save(vae, ema, renders, output_dir, rescale=not arguments.decoder_only)
    accelerator.end_training()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renders", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=90, help="in all sessions together")
    parser.add_argument("--batch", type=int, default=6, help="pictures, or crops, a process and step")
    parser.add_argument("--crop", type=int, default=128, help="side of the squares cut out, 0 for whole pictures")
    parser.add_argument("--learning_rate", type=float, default=3e-3, help="of Muon; AdamW gets a fifth")
    parser.add_argument("--decay_from", type=float, default=0.3, help="the share of the time after which the learning rate falls, linearly")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="convolutions in bfloat16: faster where the CPU has it")
    parser.add_argument("--start_from", help="a vae directory whose weights to begin with")
    parser.add_argument("--decoder_only", action="store_true")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
