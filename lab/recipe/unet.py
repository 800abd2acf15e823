"""Train Mini's U-Net and text encoders, together, on cached latents and captions made anew for every step.

`python -m torch.distributed.run --nproc_per_node 2 -m lab.recipe.unet --renders D --latents L --vocabulary V --output_dir O`

SDXL's schedule, epsilon prediction, min-SNR weights (Hang et al. 2303.09556), each latent cell weighted by the part of the face it shows.
Words that captions never use keep random embeddings of one size, so that any trigger word is a code of its own.
A state is written every ten minutes; `--resume` goes on from it, with the learning rate's course starting again.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel, compute_snr

from lab.mannequins.captions import caption

from . import shape
from .latents import load_latents
from .optimizer import MuonAdamW
from .pipeline import tokenizers
from .renders import PART_WEIGHTS, Renders

EMPTY_CAPTION_SHARE = 0.1
NAMED_SHARE = 0.08
NAMES = 300
MIN_SNR_GAMMA = 5.0
EMBEDDING_SIZE = 0.02


class Denoiser(torch.nn.Module):
    """The parts of SDXL that learn here, in one forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = shape.text_encoder_l()
        self.text_encoder_2 = shape.text_encoder_g()
        self.unet = shape.unet()
        for encoder in (self.text_encoder, self.text_encoder_2):
            table = text_model(encoder).embeddings.token_embedding.weight
            with torch.no_grad():
                table.copy_(EMBEDDING_SIZE * torch.sign(torch.randn_like(table)))
        unused = text_model(self.text_encoder)  # SDXL reads the layer before the last; L's pooled state is not used
        unused.encoder.layers[-1].requires_grad_(False)
        unused.final_layer_norm.requires_grad_(False)

    def forward(
        self, ids: torch.Tensor, ids_2: torch.Tensor, noisy: torch.Tensor, timesteps: torch.Tensor, time_ids: torch.Tensor
    ) -> torch.Tensor:
        """Token ids int64 [B, 77] twice, latents [B, 4, 16, 16], timesteps [B], size ids [B, 6] -> epsilon [B, 4, 16, 16]."""
        states = self.text_encoder(ids, output_hidden_states=True).hidden_states[-2]
        output = self.text_encoder_2(ids_2, output_hidden_states=True)
        context = torch.cat([states, output.hidden_states[-2]], -1)
        return self.unet(noisy, timesteps, context, added_cond_kwargs={"text_embeds": output.text_embeds, "time_ids": time_ids}).sample


def text_model(encoder: torch.nn.Module) -> Any:
    return getattr(encoder, "text_model", encoder)


def rare_words(tokenizer: Any, rng: np.random.Generator) -> list[str]:
    """Words of one token and two usual triggers: the model learns to take them for a name that it does not know."""
    words = sorted(word[:-4] for word in tokenizer.get_vocab() if word.endswith("</w>") and word[:-4].isascii() and word[:-4].isalpha())
    return ["ohwx", "sks", *rng.choice([word for word in words if len(word) > 3], NAMES).tolist()]


def named(text: str, name: str) -> str:
    """`a photo of a young woman, ...` -> `a photo of <name> woman, ...`."""
    return re.sub(r" of an? (?:young |middle-aged |old )?", f" of {name} ", text, count=1)


def cell_weights(parts: torch.Tensor) -> torch.Tensor:
    """Part maps int64 [B, 128, 128] -> weights [B, 1, 16, 16] with mean 1."""
    weights = F.avg_pool2d(PART_WEIGHTS[parts].unsqueeze(1), 8).sqrt()
    return weights / weights.mean((1, 2, 3), keepdim=True)


def size_ids(rng: np.random.Generator, count: int) -> torch.Tensor:
    """SDXL's size ids: half of them Mini's own, half any photo's, so that the ids of a real photo do no harm."""
    ids = np.tile(np.array([128, 128, 0, 0, 128, 128], np.float32), (count, 1))
    strange = rng.random(count) < 0.5
    ids[strange, :2] = np.exp(rng.uniform(math.log(96), math.log(2048), (strange.sum(), 1)))
    ids[strange, 2:4] = rng.integers(0, 512, (strange.sum(), 2)) * (rng.random((strange.sum(), 1)) < 0.5)
    return torch.from_numpy(ids)


def train(arguments: argparse.Namespace) -> None:
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(arguments.seed)
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    renders = Renders(Path(arguments.renders))
    latents = load_latents(Path(arguments.latents), renders.shards)
    tokenizer, tokenizer_2 = tokenizers(Path(arguments.vocabulary))
    names = rare_words(tokenizer, np.random.default_rng(arguments.seed))
    denoiser = Denoiser()
    trained = [p for p in denoiser.parameters() if p.requires_grad]
    model = accelerator.prepare_model(denoiser)
    optimizer = MuonAdamW(denoiser.named_parameters(), arguments.learning_rate, arguments.learning_rate / 2.5, accelerator)
    ema = EMAModel(denoiser.parameters(), decay=0.9995, use_ema_warmup=True, power=0.75)
    step, before = 0, 0.0
    if arguments.resume:
        state = torch.load(arguments.resume, weights_only=True, mmap=True)
        denoiser.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
        step, before = state["step"], state["minutes"]
    schedule = DDPMScheduler.from_config(shape.scheduler().config)
    rng = np.random.default_rng([arguments.seed, step, accelerator.process_index])
    torch.manual_seed(arguments.seed + step + 1000 * accelerator.process_index)
    started, first, running, progress, saved = time.time(), step, 0.0, 0.0, 0.0
    while progress < 1:
        warmed = min(1.0, (step - first + 1) / 100)
        decayed = 1.0 if progress < arguments.decay_from else (1 - progress) / (1 - arguments.decay_from)
        rate = warmed * (0.01 + 0.99 * decayed)
        index = rng.integers(0, len(latents), arguments.batch)
        captions = [caption(renders.attributes[i], rng) if rng.random() >= EMPTY_CAPTION_SHARE else "" for i in index]
        captions = [named(text, str(rng.choice(names))) if text and rng.random() < NAMED_SHARE else text for text in captions]
        ids, ids_2 = (t(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids for t in (tokenizer, tokenizer_2))
        timesteps = torch.randint(0, 1000, (arguments.batch,))
        clean = latents[index]
        noise = torch.randn_like(clean)
        noisy = schedule.add_noise(clean, noise, timesteps)
        epsilon = model(ids, ids_2, noisy, timesteps, size_ids(rng, arguments.batch))
        snr = compute_snr(schedule, timesteps)
        min_snr = (snr.clamp(max=MIN_SNR_GAMMA) / snr).view(-1, 1, 1, 1)
        weight = cell_weights(torch.from_numpy(renders.parts[index]).long())
        loss = (min_snr * weight * (epsilon - noise).square()).mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step(rate)
        ema.step(denoiser.parameters())
        step += 1
        running = loss.item() if running == 0 else 0.99 * running + 0.01 * loss.item()
        elapsed = (time.time() - started) / 60
        if step % 5 == 0:
            progress = broadcast(torch.tensor(elapsed / arguments.minutes)).item()
        if step % 100 == 0 and accelerator.is_main_process:
            speed = (step - first) * arguments.batch * accelerator.num_processes / elapsed / 60
            print(f"{before + elapsed:6.1f} min  step {step}  loss {running:.4f}  {speed:.1f}/s", flush=True)
        if accelerator.is_main_process and (elapsed - saved > 10 or progress >= 1):
            saved = elapsed
            state = {
                "model": denoiser.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.state_dict(),
                "step": step,
                "minutes": before + elapsed,
            }
            torch.save(state, output_dir / "state.part")
            (output_dir / "state.part").replace(output_dir / "state.pt")
    accelerator.end_training()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renders", required=True)
    parser.add_argument("--latents", required=True)
    parser.add_argument("--vocabulary", required=True, help="a folder with CLIP's vocab.json and merges.txt")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=32, help="pictures a process and step")
    parser.add_argument("--learning_rate", type=float, default=2e-3, help="of Muon; AdamW gets two fifths")
    parser.add_argument("--decay_from", type=float, default=0.3, help="the share of the time after which the learning rate falls, linearly")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", help="a state.pt")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
