"""The pretended card's count of bytes against reality: a training step of a mid-size U-Net of SDXL's kind, run for real on the CPU.

    python -m lab.card.validate --side 512

In float32, with and without checkpointing: what the step takes over what was there, by the resident set (with glibc giving back what is
freed at once), by the CPU allocator's own account (torch.profiler), and by the pretended card. Linux only; two minutes of one free core.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from faceexpr_core.training.materials import Materials
from faceexpr_core.training.settings import preset_settings
from faceexpr_core.training.trainer import Trainer
from lab.pretended.card import PretendedCard

from .sets import sets_for

MIB = 1 << 20
ALLOWED = 0.10
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "1000000"}
SHAPE: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (128, 256, 512),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 4),
    "attention_head_dim": (2, 4, 8),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def compared(side: int, checkpointing: bool) -> dict[str, int]:
    """Bytes that a step takes, each counted in a process of its own: `resident`, `allocator`, `simulated`."""
    found: dict[str, int] = {}
    for what in ("real", "simulated"):
        arguments = ["--what", what, "--side", str(side), "--checkpointing", str(int(checkpointing))]
        command = [sys.executable, "-m", "lab.card.validate", *arguments]
        done = subprocess.run(command, env={**os.environ, **AT_ONCE}, capture_output=True, text=True)
        line = next((line for line in done.stdout.splitlines() if line.startswith("{")), None)
        if line is None:
            raise RuntimeError(done.stderr[-3000:])
        found |= json.loads(line)
    return found


def off(found: dict[str, int]) -> float:
    """How far the simulation is from the nearer and from the farther of both real counts: the larger share."""
    return max(abs(found["simulated"] / found[name] - 1) for name in ("resident", "allocator"))


def _trainer(device: str, side: int, checkpointing: bool) -> Trainer:
    from diffusers import UNet2DConditionModel

    changes = {"precision": "fp32", "optimizer": "adamw", "accumulation": 1, "rank": 8, "crafting_every": 1, "crafting_ramp": 0.0}
    settings = preset_settings("low-vram", **changes, gradient_checkpointing=checkpointing)
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(**SHAPE)
    data, _, crafting = sets_for(settings, side, counts=(4, 0, 12))
    return Trainer(Materials(unet, data, crafting=crafting), settings, torch.device(device))


def _real(side: int, checkpointing: bool) -> dict[str, int]:
    from torch.profiler import ProfilerActivity, profile

    trainer = _trainer("cpu", side, checkpointing)
    trainer.step()  # the optimiser's state is there from now on
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    trainer.step()
    resident = _status("VmHWM") - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        trainer.step()
    events = seen.profiler.kineto_results.events()  # type: ignore[union-attr]
    sizes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    total = peak = 0
    for _, size in sizes:
        total += size
        peak = max(peak, total)
    return {"resident": resident, "allocator": peak}


def _simulated(side: int, checkpointing: bool) -> dict[str, int]:
    with PretendedCard("shapes", item=0.1) as card:
        trainer = _trainer("cuda", side, checkpointing)
        trainer.step()
        card.ledger.reset_peak()
        before = card.ledger.current
        trainer.step()
        return {"simulated": card.ledger.peak - before}


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return 1024 * int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=512, help="pixels")
    parser.add_argument("--checkpointing", type=int, choices=(0, 1), help="only with, or only without it")
    parser.add_argument("--what", choices=("real", "simulated"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    if arguments.what:
        count = {"real": _real, "simulated": _simulated}[arguments.what]
        print(json.dumps(count(arguments.side, bool(arguments.checkpointing))))
        return
    print("| checkpointing | resident set, MiB | allocator, MiB | simulated, MiB | off by |\n|---|---|---|---|---|")
    worst = 0.0
    for checkpointing in (False, True) if arguments.checkpointing is None else (bool(arguments.checkpointing),):
        found = compared(arguments.side, checkpointing)
        worst = max(worst, off(found))
        sizes = " | ".join(f"{found[name] / MIB:.1f}" for name in ("resident", "allocator", "simulated"))
        print(f"| {'on' if checkpointing else 'off'} | {sizes} | {off(found):.1%} |", flush=True)
    if worst > ALLOWED:
        sys.exit(f"The simulation is off by {worst:.0%}, more than {ALLOWED:.0%}.")


if __name__ == "__main__":
    main()
