"""What a preset's training step needs at SDXL's size: a U-Net of its true shape with random weights, no file, no download.

    python -m lab.benchmarks.trainer_peak --preset low-vram
    python -m lab.benchmarks.trainer_peak --preset default --device cuda

Photos, words and class pictures are random too: neither memory nor speed depends on what they show. On a CPU the resident set is
measured, in bfloat16 as on a card; what a card's driver and torch's allocator add is not in it (about a gigabyte).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from faceexpr_core.diffusers_host.pipeline import SDXL_CONFIGS
from faceexpr_core.training.crafting import CraftingSet
from faceexpr_core.training.data import TrainingSet
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.settings import PRESETS, parse_settings, preset, preset_settings

from .trainer_probe import Probe

GIGABYTE = 2**30
EXPRESSIONS = 2
"""As many as the loss needs to draw one from; their number costs next to nothing."""


def photos(count: int, side: int, words: int, pooled: int) -> TrainingSet:
    """Random photos of `side` pixels with random words."""
    size = side // 8
    sizes = torch.tensor([[side, side, 0, 0, side, side]]).float().expand(count, -1)
    return TrainingSet(
        torch.randn(count, 4, size, size),
        torch.randn(count, 77, words),
        torch.randn(count, pooled),
        sizes,
        torch.ones(count, 1, size, size),
    )


def pairs(words: int, pooled: int) -> CraftingSet:
    """Random words in the place of expressions."""

    def drawn(*shape: int) -> Tensor:
        return torch.randn(EXPRESSIONS, 2, *shape)

    return CraftingSet(("a", "b"), drawn(77, words), drawn(pooled), drawn(77, words), drawn(pooled), source="random")


def measure(arguments: argparse.Namespace) -> str:
    """One line of a Markdown table."""
    from diffusers import UNet2DConditionModel

    chosen = preset(arguments.preset)
    side = arguments.side or chosen.resolution
    changes = {"gradient_checkpointing": True, **parse_settings(arguments.set)}
    precision = changes.pop("precision", "bf16")
    settings = preset_settings(arguments.preset, **changes, steps=arguments.steps, precision=precision, crafting_every=1, crafting_ramp=0.0)
    config = json.loads((SDXL_CONFIGS / "unet" / "config.json").read_text())
    with torch.device(arguments.device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16 if precision == "bf16" else torch.float16 if precision == "fp16" else torch.float32)
        unet = UNet2DConditionModel.from_config(config)
        torch.set_default_dtype(before)
    words = unet.config.cross_attention_dim
    pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    probe = Probe(arguments.steps, arguments.device)
    data = photos(2, side, words, pooled)
    crafting = pairs(words, pooled) if settings.prior == "distill" or settings.crafting_weight else None
    started = time.perf_counter()
    result = train_lora(
        unet,
        data,
        settings,
        device=arguments.device,
        class_images=photos(2, side, words, pooled) if settings.prior == "images" else None,
        crafting=crafting,
    )
    if result.stopped_by is not None:
        raise result.stopped_by
    seconds = (time.perf_counter() - started) / arguments.steps
    with TemporaryDirectory() as folder:
        probe.write(Path(folder) / "probe.json")
    memory = probe.found.memory
    weights = sum(weight.numel() * weight.element_size() for weight in unet.parameters() if not weight.requires_grad)
    cells = [
        f"`{arguments.preset}` {arguments.set}".strip(),
        str(side),
        precision,
        f"{weights / GIGABYTE:.2f}",
        f"{memory.peak / GIGABYTE:.2f}",
        f"{(memory.peak - memory.before) / GIGABYTE:.2f}",
        f"{memory.reserved / GIGABYTE:.2f}" if memory.reserved else "-",
        f"{seconds:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=tuple(PRESETS), default="low-vram")
    parser.add_argument("--set", default="", help="changes to it, such as rank=8,accumulation=1")
    parser.add_argument("--side", type=int, default=0, help="pixels (default: the preset's)")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print("| preset | pixels | precision | weights, GB | peak, GB | of the steps, GB | reserved, GB | s a step |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(measure(arguments), flush=True)


if __name__ == "__main__":
    main()
