"""What it would save and cost to compute norms in bfloat16 while a LoRA learns; autocast computes them, and what follows, in float32.

    python -m lab.card.norms --side 1024

Bytes and launches of one batch of L_id at SDXL's true size without checkpointing, on a pretended card; and on Mini, whose numbers a CPU
computes as the card's autocast would have them, how far a prediction, the change from one text to another (which L_ec learns from) and the
gradients are from those in float32 with the same weights. Two minutes of one free core.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from faceexpr_core.diffusers_host.encoding import encode_prompts
from faceexpr_core.diffusers_host.pipeline import load_pipeline
from faceexpr_core.training.adapter import add_lora
from lab.pretended.card import PretendedCard

from .sets import POOLED, WORDS, sdxl_unet

GIB = 1 << 30
BF16 = torch.bfloat16
RANK, UP = 16, 0.02
"""The LoRA; its second weights are drawn with this deviation, so that every gradient is there."""
TEXTS = ("a photo of a woman, happy expression", "a photo of a woman, neutral expression")


@contextmanager
def norms_in_bfloat16(unet: nn.Module) -> Iterator[None]:
    """Inside, group and layer norms are computed without autocast, with what they are given in bfloat16."""
    norms = [module for module in unet.modules() if isinstance(module, nn.GroupNorm | nn.LayerNorm)]

    def outside(module: nn.Module) -> Any:
        forward = module.forward

        def run(x: Tensor) -> Tensor:
            with torch.autocast(x.device.type, enabled=False):
                return forward(x.to(BF16))

        return run

    for module in norms:
        module.forward = outside(module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in norms:
            del module.forward


def called(unet: Any, latents: Tensor, words: Tensor, pooled: Tensor, dtype: torch.dtype) -> Tensor:
    """A prediction as `training.parts` asks for it, float32."""
    side = 8.0 * latents.shape[-1]
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[side, side, 0, 0, side, side]], device=latents.device).repeat(len(words), 1)}
    with torch.autocast(latents.device.type, dtype, enabled=dtype != torch.float32):
        return unet(latents, torch.tensor(500, device=latents.device), words, added_cond_kwargs=added).sample.float()


def taken(side: int, narrow: bool) -> tuple[int, int]:
    """Bytes over the weights and launches of one batch forth and back."""
    with PretendedCard("shapes", item=0.1) as card:
        unet = learning(sdxl_unet(BF16))
        latents, words, pooled = (
            torch.zeros(*shape, device="cuda") for shape in ((1, 4, side // 8, side // 8), (1, 77, WORDS), (1, POOLED))
        )
        card.ledger.reset_peak()
        card.ledger.forget_work()
        before = card.ledger.current
        with norms_in_bfloat16(unet) if narrow else nullcontext():
            called(unet, latents, words, pooled, BF16).square().mean().backward()
        return card.ledger.peak - before, sum(card.ledger.launches.values())


def learning(unet: Any) -> Any:
    """The U-Net with a LoRA, the same for the same U-Net."""
    unet.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for _, up in add_lora(unet, RANK, RANK, generator).values():
        up.data.copy_(UP * torch.randn(up.shape, generator=generator))
    return unet.train()


def numbers(device: str, narrow: bool) -> dict[str, Tensor]:
    """Of Mini, with weights in bfloat16 whatever it computes in: `prediction`, `change`, `gradient`."""
    pipe = load_pipeline("mini")
    hidden, pooled = encode_prompts(pipe, TEXTS)
    dtype = torch.float32 if device == "cpu" else BF16
    unet = learning(torch.nn.Module.to(torch.nn.Module.to(pipe.unet, BF16), device, dtype))
    latents = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(1)).repeat(2, 1, 1, 1)
    with norms_in_bfloat16(unet) if narrow else nullcontext():
        predicted = called(unet, latents.to(device), hidden.to(device), pooled.to(device), dtype)
        predicted.square().mean().backward()
    gradients = [weight.grad.flatten() for weight in unet.parameters() if weight.grad is not None]
    return {
        "prediction": predicted[1].detach().cpu(),
        "change": (predicted[0] - predicted[1]).detach().cpu(),
        "gradient": torch.cat(gradients).cpu(),
    }


def errors() -> dict[str, tuple[float, float]]:
    """Of each number, as a share of it: as autocast computes, and with norms in bfloat16."""
    exact = numbers("cpu", narrow=False)
    with PretendedCard("values"):
        wide, narrow = numbers("cuda", narrow=False), numbers("cuda", narrow=True)
    return {name: tuple(float((found[name] - one).norm() / one.norm()) for found in (wide, narrow)) for name, one in exact.items()}  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024)
    side = parser.parse_args().side
    warnings.filterwarnings("ignore")
    print("| error on Mini | norms in float32 | norms in bfloat16 |\n|---|---|---|")
    for name, (wide, narrow) in errors().items():
        print(f"| {name} | {wide:.2%} | {narrow:.2%} |", flush=True)
    (wide, many), (narrow, few) = taken(side, narrow=False), taken(side, narrow=True)
    print(f"| at SDXL's size, {side} px: GiB over the weights | {wide / GIB:.2f} | {narrow / GIB:.2f} |\n| launches | {many:,} | {few:,} |")


if __name__ == "__main__":
    main()
