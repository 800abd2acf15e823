"""Training steps of the real Trainer at SDXL's true size on a pretended card: what they take, by part.

    python -m lab.card.step --preset low-vram --side 1024
    python -m lab.card.step --preset default --set gradient_checkpointing=off --output row.json

Two steps (the second takes L_ec where the preset does, and has the optimiser's moments), 2 to 5 minutes on one core, about 1.5 GB.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceexpr_core.training.precision import compute_dtype
from faceexpr_core.training.settings import PRESETS, TrainSettings, parse_settings, preset, preset_settings
from faceexpr_core.training.trainer import Trainer
from lab.pretended import CachingAllocator, Ledger, PretendedCard, module_names

from .sets import sdxl_encoders, sdxl_unet, sets_for

GIB, MIB = 1 << 30, 1 << 20
REST = GIB
"""What is left for the CUDA context, the kernels' workspaces and the desktop: a guess."""
CARDS = (6, 8, 10, 12, 16, 24)
"""GB of usual cards."""
FINE = 64 * MIB
NAMED = {"data": "training set", "class_images": "training set", "crafting": "training set"}


def simulated(name: str, side: int, changes: dict[str, Any]) -> dict[str, Any]:
    """One row of the table (see `lab.card.table`): preset `name` with photos of `side` pixels and `changes` of its settings."""
    wanted = preset_settings(name, **changes)
    # peaks do not depend on how many batches add up, but that a second one finds gradients there; FLOPs are scaled below
    batches = 1 if wanted.prior != "off" else min(2, wanted.accumulation)
    settings = preset_settings(name, **{**changes, "accumulation": batches, "crafting_every": 2, "crafting_ramp": 0.0})
    started = time.monotonic()
    with PretendedCard("shapes", item=0.1, trace=True) as card:
        trainer = build(settings, side, card)
        ledger = card.ledger
        name_parts(trainer, ledger)
        steps = [_one_step(trainer, ledger) for _ in range(2)]
        assert ledger.trace is not None
        plain = CachingAllocator()
        plain.run(ledger.trace)
        needed = _smallest(ledger.trace, plain)
        dtype = str(trainer.parts.dtype).removeprefix("torch.")
        trained = sum(weight.numel() for weight in trainer.update.parameters)
        notes = list(trainer.notes)
    first, second = steps
    times = wanted.accumulation / batches
    crafting = (second["tflop"] - first["tflop"]) * -(-wanted.accumulation // 3) / -(-batches // 3)
    usual = first["tflop"] * times
    every = wanted.crafting_every if wanted.crafting_weight else 0
    return {
        "preset": name,
        "side": side,
        "checkpointing": _checkpointing(wanted),
        "base": getattr(wanted, "base", "full"),
        "optimizer": wanted.optimizer,
        "ema": bool(wanted.ema),
        "changes": changes,
        "dtype": dtype,
        "trained": trained,
        "allocated": max(step["peak"] for step in steps),
        "reserved": plain.reserved_peak,
        "needed": needed,
        "fits": {str(size): needed + REST <= size * GIB for size in CARDS},
        "parts": second["parts"],
        "peak_at": second["peak_at"],
        "tflop": {"step": usual, "crafting": crafting, "mean": usual + (crafting / every if every else 0.0)},
        "launches": round(first["launches"] * times),
        "waits": second["waits"],
        "copied": second["copied"],
        "largest": second["largest"],
        "waits_at": second["waits_at"],
        "notes": notes,
        "seconds_here": round(time.monotonic() - started, 1),
    }


def build(settings: TrainSettings, side: int, card: PretendedCard) -> Trainer:
    """The product's own Trainer with models and sets of SDXL's size. For use inside the card."""
    device = torch.device("cuda")
    with card.ledger.during("build"):
        dtype = compute_dtype(settings.precision, device)
        unet = sdxl_unet(dtype)
        encoders = sdxl_encoders(dtype) if settings.text_encoder else None
        return Trainer(unet, sets_for(settings, side)[0], settings, device, *sets_for(settings, side)[1:], encoders)


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


def _one_step(trainer: Trainer, ledger: Ledger) -> dict[str, Any]:
    ledger.forget_work()
    ledger.reset_peak()
    flops = ledger.flops
    roots: dict[str, torch.nn.Module] = {"unet": trainer.unet}
    with ledger.during("step"), module_names(ledger, roots):
        trainer.step()
    parts = ledger.at_peak()
    parts["activations"] = parts.pop("other", 0)
    return {
        "peak": ledger.peak,
        "parts": parts,
        "peak_at": ledger.at_peak_of,
        "tflop": (ledger.flops - flops) / 1e12,
        "launches": sum(ledger.launches.values()),
        "waits": sum(ledger.waits.values()),
        "waits_at": [[*key, count] for key, count in ledger.waits.most_common(12)],
        "copied": sum(ledger.copied.values()),
        "largest": [list(row) for row in ledger.largest_at_peak(6)],
    }


def _smallest(trace: list[tuple[int, int]], plain: CachingAllocator) -> int:
    """The fewest bytes, to 64 MiB, with which the trace runs to its end (the allocator gives back what it does not use)."""
    low, high = plain.allocated_peak, plain.reserved_peak
    while high - low > FINE:
        middle = (low + high) // 2
        low, high = (low, middle) if CachingAllocator(middle).run(trace) else (middle, high)
    return high


def _checkpointing(settings: TrainSettings) -> bool:
    return settings.gradient_checkpointing is not False  # None is on where there is a card


def told(row: dict[str, Any]) -> str:
    parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in sorted(row["parts"].items(), key=lambda one: -one[1]))
    sizes = f"tensors {row['allocated'] / GIB:.2f} GiB, reserved {row['reserved'] / GIB:.2f}, runs within {row['needed'] / GIB:.2f}"
    work = f"{row['tflop']['mean']:.1f} TFLOP and {row['launches']} launches a step, {row['waits']} waits in the last"
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
