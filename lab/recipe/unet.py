"""Train Mini's U-Net and text encoders, together, on cached latents and captions made anew for every step.

`python -m torch.distributed.run --nproc_per_node 2 -m lab.recipe.unet --renders D --latents L --vocabulary V --output_dir O`

SDXL's schedule, epsilon prediction, min-SNR weights (Hang et al. 2303.09556), each latent cell weighted by the part of the face it shows.
Names are bound to looks (`names.py`); words that captions never use keep random embeddings of one size, so that any trigger word is a
code of its own.
The same command goes on where an earlier session was stopped (`state.pt`); `--minutes` are those of all sessions.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers import DDPMScheduler
from diffusers.models.attention_processor import AttnProcessor
from diffusers.training_utils import EMAModel, compute_snr

from . import shape
from .latents import load_latents
from .names import caption_of, name_words
from .optimizer import MuonAdamW
from .pipeline import tokenizers
from .renders import attributes_of, finished_shards
from .state import Clock, course, read, write

EMPTY_CAPTION_SHARE = 0.1
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
            encoder.set_attn_implementation("eager")
        self.unet.set_attn_processor(AttnProcessor())  # a CPU's fused attention is slow in the backward pass
        unused = text_model(self.text_encoder)  # SDXL reads the layer before the last; L's pooled state is not used
        unused.encoder.layers[-1].requires_grad_(False)
        unused.final_layer_norm.requires_grad_(False)

    def forward(
        self, ids: torch.Tensor, ids_2: torch.Tensor, noisy: torch.Tensor, timesteps: torch.Tensor, time_ids: torch.Tensor
    ) -> torch.Tensor:
        """Token ids int64 [B, 77] twice, latents [B, 4, s, s], timesteps [B], size ids [B, 6] -> epsilon [B, 4, s, s]."""
        states = self.text_encoder(ids, output_hidden_states=True).hidden_states[-2]
        output = self.text_encoder_2(ids_2, output_hidden_states=True)
        context = torch.cat([states, output.hidden_states[-2]], -1)
        return self.unet(noisy, timesteps, context, added_cond_kwargs={"text_embeds": output.text_embeds, "time_ids": time_ids}).sample


def text_model(encoder: torch.nn.Module) -> Any:
    return getattr(encoder, "text_model", encoder)


def size_ids(rng: np.random.Generator, count: int) -> torch.Tensor:
    """SDXL's size ids: half of them Mini's own, half any photo's, so that the ids of a real photo do no harm."""
    side = shape.RESOLUTION
    ids = np.tile(np.array([side, side, 0, 0, side, side], np.float32), (count, 1))
    strange = rng.random(count) < 0.5
    ids[strange, :2] = np.exp(rng.uniform(math.log(96), math.log(2048), (strange.sum(), 1)))
    ids[strange, 2:4] = rng.integers(0, 512, (strange.sum(), 2)) * (rng.random((strange.sum(), 1)) < 0.5)
    return torch.from_numpy(ids)


def train(arguments: argparse.Namespace) -> None:
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if arguments.bf16 else "no")
    torch.manual_seed(arguments.seed)
    output_dir, state_file = arguments.output_dir, arguments.output_dir / "state.pt"
    output_dir.mkdir(parents=True, exist_ok=True)
    shards = [shard for shard in finished_shards(arguments.renders) if (arguments.latents / shard.name).is_file()]
    attributes = [one for shard in shards for one in attributes_of(shard)]
    latents, cells = load_latents(arguments.latents, shards)
    tokenizer, tokenizer_2 = tokenizers(arguments.vocabulary)
    words = name_words(tokenizer)
    denoiser = Denoiser()
    trained = [p for p in denoiser.parameters() if p.requires_grad]
    if arguments.compile:
        denoiser.unet.compile()
    model = accelerator.prepare_model(denoiser)
    optimizer = MuonAdamW(denoiser.named_parameters(), arguments.learning_rate, arguments.learning_rate / 2.5, accelerator)
    ema = EMAModel(denoiser.parameters(), decay=0.9995, use_ema_warmup=True, power=0.75)
    before = read(state_file)
    if before is not None:
        denoiser.load_state_dict(before["model"])
        optimizer.load_state_dict(before["optimizer"])
        ema.load_state_dict(before["ema"])
    step = first = 0 if before is None else before["step"]
    clock = Clock(arguments.minutes, 0.0 if before is None else before["minutes"])
    schedule = DDPMScheduler.from_config(shape.scheduler().config)
    rng = np.random.default_rng([arguments.seed, step, accelerator.process_index])
    torch.manual_seed(arguments.seed + step + 1000 * accelerator.process_index)
    running, progress = 0.0, clock.progress
    while progress < 1:
        index = rng.integers(0, len(latents), arguments.batch)
        captions = ["" if rng.random() < EMPTY_CAPTION_SHARE else caption_of(attributes[i], words, rng) for i in index]
        ids, ids_2 = (t(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids for t in (tokenizer, tokenizer_2))
        timesteps = torch.randint(0, 1000, (arguments.batch,))
        clean = latents[index].float()
        noise = torch.randn_like(clean)
        with accelerator.autocast():
            epsilon = model(ids, ids_2, schedule.add_noise(clean, noise, timesteps), timesteps, size_ids(rng, arguments.batch))
        snr = compute_snr(schedule, timesteps)
        min_snr = (snr.clamp(max=MIN_SNR_GAMMA) / snr).view(-1, 1, 1, 1)
        loss = (min_snr * cells[index].float() * (epsilon.float() - noise).square()).mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step(course(progress, arguments.decay_from, step - first))
        ema.step(denoiser.parameters())
        step += 1
        running = loss.item() if not running else 0.99 * running + 0.01 * loss.item()
        if step % 5 == 0:
            progress = broadcast(torch.tensor(clock.progress)).item()
        if step % 100 == 0 and accelerator.is_main_process:
            speed = (step - first) * arguments.batch * accelerator.num_processes / clock.here / 60
            print(f"{clock.done:6.1f} min  step {step}  loss {running:.4f}  {speed:.1f}/s  pictures {len(latents)}", flush=True)
        if step % 5 == 0 and accelerator.is_main_process and (clock.due() or progress >= 1):
            state = {"model": denoiser.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.state_dict()}
            write(state_file, {**state, "step": step, "minutes": clock.done})
    accelerator.end_training()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renders", type=Path, required=True)
    parser.add_argument("--latents", type=Path, required=True)
    parser.add_argument("--vocabulary", type=Path, required=True, help="a folder with CLIP's vocab.json and merges.txt")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=240, help="in all sessions together")
    parser.add_argument("--batch", type=int, default=32, help="pictures a process and step")
    parser.add_argument("--learning_rate", type=float, default=2e-3, help="of Muon; AdamW gets two fifths")
    parser.add_argument("--decay_from", type=float, default=0.3, help="the share of the time after which the learning rate falls, linearly")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="matrix products in bfloat16: faster where the CPU has it")
    parser.add_argument("--compile", action="store_true", help="the U-Net by torch.compile: minutes at the start, then faster")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
