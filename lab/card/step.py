"""A training step of the real Trainer at SDXL's true size on a pretended card: what it takes, by part.

    python -m lab.card.step --preset low-vram --side 1024
    python -m lab.card.step --preset default --set gradient_checkpointing=off --output row.json

One step with every part of the loss is run; a second one, which has the optimiser's moments from the start, is made from its trace.
One to three minutes of one free core, about 1 GB.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceexpr_core.training.materials import Materials
from faceexpr_core.training.precision import compute_dtype
from faceexpr_core.training.settings import PRESETS, TrainSettings, parse_settings, preset, preset_settings
from faceexpr_core.training.trainer import Trainer
from lab.pretended.allocator import CachingAllocator
from lab.pretended.card import PretendedCard
from lab.pretended.ledger import Ledger, module_names

from .sets import sdxl_encoders, sdxl_unet, sets_for

GIB, MIB = 1 << 30, 1 << 20
REST = GIB
"""What is left for the CUDA context, the kernels' workspaces and the desktop: a guess."""
CARDS = (6, 8, 10, 12, 16, 24)
"""GB of usual cards."""
FINE = 64 * MIB
NAMED = {"data": "training set", "class_images": "training set", "crafting": "training set"}


@dataclass
class Calls:
    """The U-Net's calls in a step: with gradient, and without, with what the latter took."""

    learning: int = 0
    looking: int = 0
    flops: int = 0
    launches: int = 0

    def split(self, total: float, looked: float, batches: int, crafts: bool) -> tuple[float, float]:
        """Of `total`, what one batch takes of L_id and the prior, and what L_ec takes: three calls without gradient and one with."""
        if not crafts:
            return total / batches, 0.0
        once = looked / self.looking
        crafting = 3 * once + (total - looked) / self.learning
        return (total - crafting) / batches, crafting


def simulated(name: str, side: int, changes: dict[str, Any]) -> dict[str, Any]:
    """One row of the table (see `lab.card.table`): preset `name` with photos of `side` pixels and `changes` of its settings."""
    wanted = preset_settings(name, **changes)
    # peaks do not depend on how many batches add up, but that a second one finds gradients there; FLOPs are scaled below
    batches = 1 if wanted.prior != "off" else min(2, wanted.accumulation)
    settings = preset_settings(name, **{**changes, "accumulation": batches, "crafting_every": 1, "crafting_ramp": 0.0})
    started = time.monotonic()
    with PretendedCard("shapes", item=0.1, trace=True) as card:
        trainer, ledger = build(settings, side, card), card.ledger
        name_parts(trainer, ledger)
        calls = _count_calls(trainer.unet, ledger)
        assert ledger.trace is not None
        built = len(ledger.trace)
        ledger.forget_work()
        ledger.reset_peak()
        flops = ledger.flops
        with ledger.during("step"), module_names(ledger, {"unet": trainer.unet}):
            trainer.step()
        trace = twice(ledger.trace, built)
        parts = ledger.at_peak()
        parts["optimiser"] = ledger.by_label().get("optimiser", 0)
        parts["activations"] = parts.pop("other", 0)
        flops, launches = ledger.flops - flops, sum(ledger.launches.values())
        allocated = peak_of(trace)
        plain = CachingAllocator()
        plain.run(trace)
        needed = _smallest(trace, plain)
        dtype = str(trainer.parts.dtype).removeprefix("torch.")
        trained = sum(weight.numel() for weight in trainer.update.parameters)
    crafts, thirds = settings.crafting_weight > 0, -(-wanted.accumulation // 3)
    usual, crafting = calls.split(flops, calls.flops, batches, crafts)
    usual, crafting = usual * wanted.accumulation, crafting * thirds
    kernels, more = calls.split(launches, calls.launches, batches, crafts)
    return {
        "preset": name,
        "side": side,
        "checkpointing": settings.gradient_checkpointing is not False,  # None is on where there is a card
        "base": getattr(wanted, "base", "full"),
        "optimizer": wanted.optimizer,
        "ema": bool(wanted.ema),
        "changes": changes,
        "dtype": dtype,
        "trained": trained,
        "allocated": allocated,
        "reserved": plain.reserved_peak,
        "needed": needed,
        "fits": {str(size): needed + REST <= size * GIB for size in CARDS},
        "parts": parts,
        "peak_at": ledger.at_peak_of,
        "tflop": {
            "step": usual / 1e12,
            "crafting": crafting / 1e12,
            "mean": (usual + (crafting / wanted.crafting_every if crafts else 0.0)) / 1e12,
        },
        "launches": {"step": round(kernels * wanted.accumulation), "crafting": round(more * thirds)},
        "waits_at": [[*key, count] for key, count in ledger.waits.most_common(12)],
        "largest": [list(row) for row in ledger.largest_at_peak(6)],
        "seconds_here": round(time.monotonic() - started, 1),
    }


def twice(trace: list[tuple[int, int]], start: int) -> list[tuple[int, int]]:
    """The trace with its part from `start` on, a step, done once more; what the step left behind is there from then on."""
    step = trace[start:]
    born = {number for number, size in step if size >= 0}
    passing = born & {number for number, size in step if size < 0}
    offset = 1 + max((number for number, _ in trace), default=0)
    return [*trace, *((number + offset, size) for number, size in step if number in passing)]


def peak_of(trace: list[tuple[int, int]]) -> int:
    sizes: dict[int, int] = {}
    now = peak = 0
    for number, size in trace:
        if size < 0:
            now -= sizes.pop(number, 0)
        else:
            sizes[number] = size
            now += size
            peak = max(peak, now)
    return peak


def _count_calls(unet: torch.nn.Module, ledger: Ledger) -> Calls:
    calls, before = Calls(), [0, 0]

    def enter(*_: Any) -> None:
        before[:] = [ledger.flops, sum(ledger.launches.values())]

    def leave(*_: Any) -> None:
        if torch.is_grad_enabled():
            calls.learning += 1
            return
        calls.looking += 1
        calls.flops += ledger.flops - before[0]
        calls.launches += sum(ledger.launches.values()) - before[1]

    unet.register_forward_pre_hook(enter)
    unet.register_forward_hook(leave)
    return calls


def build(settings: TrainSettings, side: int, card: PretendedCard) -> Trainer:
    """The product's own Trainer with models and sets of SDXL's size. For use inside the card."""
    device = torch.device("cuda")
    with card.ledger.during("build"):
        dtype = compute_dtype(settings.precision, device)
        unet = sdxl_unet(dtype)
        encoders = sdxl_encoders(dtype) if settings.text_encoder else None
        return Trainer(Materials(unet, *sets_for(settings, side), encoders), settings, device)


def name_parts(trainer: Trainer, ledger: Ledger) -> None:
    """Label what lies on the card for the whole run."""
    ledger.label((weight for weight in trainer.unet.parameters() if not weight.requires_grad), "U-Net")
    ledger.label(trainer.unet.buffers(), "U-Net")
    ledger.label(trainer.update.parameters, "LoRA")
    if trainer.parts.encoders is not None:
        for encoder in trainer.parts.encoders.parts.values():
            ledger.label([*encoder.parameters(), *encoder.buffers()], "text encoders")
    if trainer.update.average is not None:
        ledger.label(trainer.update.average.shadow_params, "EMA")
    ledger.label(trainer.update.last_good, "last good")
    for attribute, name in NAMED.items():
        part = getattr(trainer.parts, attribute)
        if part is not None:
            ledger.label((value for value in vars(part).values() if isinstance(value, Tensor)), name)
    for weight in trainer.update.parameters:
        weight.register_post_accumulate_grad_hook(_label_gradient(ledger))

    def stepped(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        ledger.label(_tensors(optimizer.state), "optimiser")

    trainer.update.optimizer.register_step_post_hook(stepped)


def _label_gradient(ledger: Ledger) -> Callable[[Tensor], None]:
    def label(weight: Tensor) -> None:
        ledger.label([weight.grad], "gradients")

    return label


def _tensors(branch: Any) -> list[Tensor]:
    if isinstance(branch, Tensor):
        return [branch]
    return [leaf for value in branch.values() for leaf in _tensors(value)] if hasattr(branch, "values") else []


def _smallest(trace: list[tuple[int, int]], plain: CachingAllocator) -> int:
    """The fewest bytes, to 64 MiB, with which the trace runs to its end (the allocator gives back what it does not use)."""
    low, high = plain.allocated_peak, plain.reserved_peak
    while high - low > FINE:
        middle = (low + high) // 2
        low, high = (low, middle) if CachingAllocator(middle).run(trace) else (middle, high)
    return high


def told(row: dict[str, Any]) -> str:
    parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in sorted(row["parts"].items(), key=lambda one: -one[1]))
    sizes = f"tensors {row['allocated'] / GIB:.2f} GiB, reserved {row['reserved'] / GIB:.2f}, runs within {row['needed'] / GIB:.2f}"
    work = f"{row['tflop']['mean']:.1f} TFLOP and {row['launches']['step']} launches a step"
    how = "on" if row["checkpointing"] else "off"
    return f"{row['preset']} {row['side']} px, checkpointing {how}, base {row['base']}, {row['optimizer']}: {sizes} ({parts}); {work}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=tuple(PRESETS), default="low-vram")
    parser.add_argument("--side", type=int, default=0, help="pixels (default: the preset's)")
    parser.add_argument("--set", default="", help="changes to its settings, such as rank=8,optimizer=adamw")
    parser.add_argument("--output", type=Path, help="JSON with all that was counted")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    side = arguments.side or preset(arguments.preset).resolution
    row = simulated(arguments.preset, side, parse_settings(arguments.set))
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(row, indent=1))
    print(told(row), flush=True)
    for size, times, what in row["largest"]:
        print(f"  {size / MIB:8.1f} MiB in {times} of {what}")
    for what, where, count in row["waits_at"]:
        print(f"  {count:5d} waits: {what} at {where}")


if __name__ == "__main__":
    main()
