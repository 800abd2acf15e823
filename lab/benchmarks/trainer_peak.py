"""What a preset's training step needs at SDXL's size: models of its true shape with random weights, no file, no download.

    python -m lab.benchmarks.trainer_peak --preset low-vram
    python -m lab.benchmarks.trainer_peak --preset default --device cuda

Photos, words and class pictures are random too: neither memory nor speed depends on what they show. On a CPU the resident set is
measured, in bfloat16 as on a card; what a card's driver and torch's allocator add is not in it (about a gigabyte).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.precision import compute_dtype
from faceexpr_core.training.settings import PRESETS, parse_settings, preset, preset_settings
from lab.card.sets import sdxl_encoders, sdxl_unet, sets_for, widths

from .trainer_probe import Probe

GIGABYTE = 2**30


def measure(arguments: argparse.Namespace) -> str:
    """One line of a Markdown table."""
    chosen = preset(arguments.preset)
    side = arguments.side or chosen.resolution
    changes = {"gradient_checkpointing": True, **parse_settings(arguments.set)}
    precision = changes.pop("precision", "bf16")
    settings = preset_settings(arguments.preset, **changes, steps=arguments.steps, precision=precision, crafting_every=1, crafting_ramp=0.0)
    dtype = compute_dtype(precision, torch.device(arguments.device))
    unet = sdxl_unet(dtype, arguments.device)
    encoders = sdxl_encoders(dtype, arguments.device) if settings.text_encoder else None
    data, class_images, crafting = sets_for(settings, side, *widths(unet), counts=(2, 2, 2))
    probe = Probe(arguments.steps, arguments.device)
    started = time.perf_counter()
    result = train_lora(unet, data, settings, device=arguments.device, class_images=class_images, crafting=crafting, encoders=encoders)
    if result.stopped_by is not None:
        raise result.stopped_by
    seconds = (time.perf_counter() - started) / arguments.steps
    with TemporaryDirectory() as folder:
        probe.write(Path(folder) / "probe.json")
    memory = probe.found.memory
    frozen = [unet, *([] if encoders is None else encoders.parts.values())]
    weights = sum(weight.nbytes for model in frozen for weight in model.parameters() if not weight.requires_grad)
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
