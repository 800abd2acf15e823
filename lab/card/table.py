"""The table of what training takes of a card, which the product ships for `faceexpr plan` and the preset `auto`.

    python -m lab.card.table                              # every row that is not there yet; half an hour on one core
    python -m lab.card.table --presets low-vram --sides 1024 --bases full nf4
    python -m lab.card.table --show                       # the shipped table as Markdown, nothing simulated

Each row is simulated in a process of its own (`lab.card.step`) and kept in build/card_table, so that a broken-off run goes on.

FORMAT of faceexpr_core/training/card_table.json (all sizes in bytes, nothing rounded):
  format    "faceexpr.card_table/1"
  made_by   the command; `simulated`: true, for no card was at hand
  versions  of torch, diffusers, transformers, peft, bitsandbytes
  rest      what `needed` leaves out: CUDA's context, the kernels' workspaces, the desktop; a guess
  weights   SDXL's parts: unet, text_encoder, text_encoder_2 (float16), vae (float32)
  drawing   for each side: what a call takes over the weights, {name: {bytes, tflop}}: "unet, 1 with guidance" (a sampling step of one
            picture), "vae decode float32", "vae decode tiled float32" (tiles of 512 pixels), "vae encode float16" ...
  rows      one a simulated run:
    preset, side (pixels of the photos), checkpointing, base (full, nf4, int8), optimizer, ema (bool)   what was simulated: the key
    changes     settings that differ from the preset's, as `parse_settings` reads them
    dtype       of the U-Net's matrix products; `trained`: how many numbers learn
    allocated   the peak of tensors from the second step on
    reserved    what PyTorch's caching allocator would hold on a card without limit
    needed      the fewest bytes with which that allocator gets through: a card fits if needed + rest <= its memory
    parts       what there was at the peak: U-Net, text encoders, LoRA, gradients, optimiser, EMA, "training set", and activations,
                which is all the rest. They add up to about `allocated`.
    tflop       step (without L_ec), crafting (what a step with L_ec has more), mean (over the run, its ramp not counted)
    launches    kernels: step (without L_ec), crafting
Other settings than a row's: EMA off is `parts["EMA"]` less; a rank r in place of the preset's scales LoRA, gradients, optimiser and EMA
by r / rank; activations grow with batch_size * side^2, so that a side between two rows lies on the straight line between them over
side^2.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from faceexpr_core.training.settings import PRESETS

from .step import CARDS, GIB, REST

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FORMAT = "faceexpr.card_table/1"
SHIPPED = REPOSITORY / "faceexpr_core" / "training" / "card_table.json"
KEPT = REPOSITORY / "build" / "card_table"
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "bitsandbytes")
SIDES = (512, 768, 1024)
DROPPED = ("largest", "waits_at", "seconds_here", "peak_at", "fits")
"""Of a simulated row, what the product does not need."""


def settings_text(checkpointing: bool, base: str, optimizer: str, ema: bool) -> str:
    """The changes to a preset, as `--set` takes them."""
    changes = {"gradient_checkpointing": "on" if checkpointing else "off"}
    if base != "full":
        changes["base"] = base
    if optimizer != "preset":
        changes["optimizer"] = optimizer
    if not ema:
        changes["ema"] = "0"
    return ",".join(f"{name}={value}" for name, value in changes.items())


def row_file(preset: str, side: int, changes: str) -> Path:
    return KEPT / f"{preset}_{side}_{changes.replace(',', '_').replace('=', '-')}.json"


def simulate(preset: str, side: int, changes: str) -> dict[str, Any]:
    """A row, from its file if it is there. Raises RuntimeError with the simulation's last words."""
    path = row_file(preset, side, changes)
    if not path.is_file():
        command = [sys.executable, "-m", "lab.card.step", "--preset", preset, "--side", str(side), "--set", changes, "--output", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        if done.returncode or not path.is_file():
            raise RuntimeError(f"{preset} {side} {changes}: {done.stderr[-2000:]}")
        print(done.stdout.splitlines()[0], flush=True)
    return json.loads(path.read_text())


def drawing(sides: tuple[int, ...]) -> dict[str, Any]:
    """Weights and drawing, from their file if it is there."""
    path = KEPT / f"drawing_{'_'.join(map(str, sides))}.json"
    if not path.is_file():
        command = [sys.executable, "-m", "lab.card.drawing", "--sides", *map(str, sides), "--output", str(path)]
        subprocess.run(command, check=True, cwd=REPOSITORY)
    return json.loads(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=tuple(PRESETS), default=list(PRESETS))
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES))
    parser.add_argument("--checkpointing", nargs="+", choices=("on", "off"), default=["on", "off"])
    parser.add_argument("--bases", nargs="+", choices=("full", "nf4", "int8"), default=["full"])
    parser.add_argument("--optimizers", nargs="+", choices=("preset", "adamw", "adamw8bit"), default=["preset"])
    parser.add_argument("--ema", nargs="+", choices=("on", "off"), default=["on"])
    parser.add_argument("--output", type=Path, default=SHIPPED)
    parser.add_argument("--show", action="store_true", help="print the table in --output")
    arguments = parser.parse_args()
    if arguments.show:
        print(markdown(json.loads(arguments.output.read_text())))
        return
    KEPT.mkdir(parents=True, exist_ok=True)
    failed = []
    wanted = product(arguments.presets, arguments.sides, arguments.checkpointing, arguments.bases, arguments.optimizers, arguments.ema)
    for preset, side, checkpointing, base, optimizer, ema in wanted:
        changes = settings_text(checkpointing == "on", base, optimizer, ema == "on")
        try:
            simulate(preset, side, changes)
        except RuntimeError as reason:
            failed.append(str(reason))
            print(f"failed: {reason}", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"{len(failed)} rows failed; {arguments.output} stays as it was.")
    write(arguments.output, drawing(SIDES))


def write(path: Path, beside: dict[str, Any]) -> None:
    """Every row that was simulated so far, as the product ships it."""
    rows = [json.loads(file.read_text()) for file in sorted(KEPT.glob("*_*_gradient_checkpointing-*.json"))]
    order = {name: number for number, name in enumerate(PRESETS)}
    rows.sort(key=lambda row: (order[row["preset"]], row["side"], not row["checkpointing"], row["base"], row["optimizer"], not row["ema"]))
    table = {
        "format": FORMAT,
        "made_by": "python -m lab.card.table",
        "simulated": True,
        "versions": {name: version(name) for name in LIBRARIES},
        "rest": REST,
        **beside,
        "rows": [{name: value for name, value in row.items() if name not in DROPPED} for row in rows],
    }
    path.write_text(json.dumps(table, indent=1) + "\n")


def markdown(table: dict[str, Any]) -> str:
    """The rows for docs/speed_and_memory.md, sizes in GiB."""
    lines = [
        "| preset, px | checkpointing | tensors | of them activations | reserved | runs within | card | TFLOP a step | launches a step |"
    ]
    lines.append("|---" * 9 + "|")
    for row in table["rows"]:
        sizes = [row["allocated"], row["parts"]["activations"], row["reserved"], row["needed"]]
        cards = [size for size in CARDS if row["needed"] + table["rest"] <= size * GIB]
        cells = [f"{row['preset']} {row['side']}", "on" if row["checkpointing"] else "off", *(f"{size / GIB:.2f}" for size in sizes)]
        cells += [f"{cards[0]} GB" if cards else "more", f"{row['tflop']['mean']:.1f}", f"{row['launches']['step']:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
