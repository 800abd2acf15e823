"""Speed and memory of the trainer, beside diffusers' SDXL DreamBooth LoRA script and ComfyUI's Train LoRA node, in one run.

    python -m lab.benchmarks.trainer_cost --diffusers_script train_dreambooth_lora_sdxl.py --output_dir output/trainer
    python -m lab.benchmarks.trainer_cost ... --random_sdxl output/random_sdxl --side 1024 --device cuda --precision bf16
    python -m lab.benchmarks.trainer_cost ... --before ../before      # a checkout of an earlier commit, in turn with today

The script is `examples/dreambooth/train_dreambooth_lora_sdxl.py` of diffusers at the installed version or a little before it; ComfyUI is
the one in COMFYUI_PATH. Each trainer runs in a process of its own, one after the other, in several rounds; medians count.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from faceexpr_core import mini
from faceexpr_core.files import replace_file

from .comfyui_here import REPOSITORY
from .store import write_json
from .trainer_models import write_photos, write_random_sdxl
from .trainer_probe import Measured, Memory
from .trainer_runs import Task, write_task

OURS, RIVALS = "faceexpr", ("diffusers", "comfyui")
SHIPPED = "faceexpr shipped"
TRAINERS = (OURS, SHIPPED, *RIVALS)
FASTER, SLOWER, SMALLER = 1.0, 1.3, 0.9
"""What is asked: steps per second of the faster and of the slower rival, and the peak of both."""
CARDS = (6, 8, 10, 12, 16, 24, 32, 48, 80)
"""GB of usual cards."""
CONTEXT = 600 * 2**20
"""Bytes that CUDA itself takes of a card."""
LOW_VRAM_SIDE = 768
MEGABYTE, GIGABYTE = 2**20, 2**30


def measure(task: Task) -> Measured:
    """One training in a process of its own. Ends this program with the trainer's last words if it fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    if task.threads:
        environment |= {"OMP_NUM_THREADS": str(task.threads), "MKL_NUM_THREADS": str(task.threads)}
    checkout = Path(task.checkout or REPOSITORY)
    environment["PYTHONPATH"] = os.pathsep.join([str(checkout), str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    with TemporaryDirectory(dir=task.work) as work:
        given, result = Path(work) / "task.json", Path(work) / "result.json"
        write_task(replace(task, work=work), given)
        command = [sys.executable, "-m", f"{__package__}.trainer_runs", str(given), str(result)]
        ended = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, errors="replace")
        if ended.returncode or not result.is_file():
            sys.exit(f"trainer_cost: {task.trainer} failed with status {ended.returncode}:\n{ended.stderr[-4000:]}")
        return read(result.read_text())


def read(text: str) -> Measured:
    """What `Probe.write` wrote."""
    import json

    found = json.loads(text)
    return Measured(**{**found, "memory": Memory(**found["memory"])})


def median(found: Sequence[Measured]) -> Measured:
    """Each value's median over the rounds."""
    first = found[0]

    def of(values: Iterable[float]) -> float:
        return statistics.median(values)

    memory = {name: int(of(asdict(one.memory)[name] for one in found)) for name in asdict(first.memory)}
    return Measured(first.steps, of(one.seconds for one in found), of(one.rows for one in found), first.trained, Memory(**memory))


# Tables


def table(found: dict[str, Measured], cuda: bool) -> list[str]:
    """Markdown: one line a trainer, then what was asked of ours and what it is."""
    ours = found[OURS]
    kept = "torch reserved" if cuda else "whole process"
    heads = ["trainer", "steps/s", "ours is", "peak, MB", "ours is", "of the steps, MB", "ours is", f"{kept}, MB", "ours is"]
    heads += ["rows a step", "trained, M"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, one in found.items():
        memory, mine = one.memory, ours.memory
        sizes = [(memory.peak, mine.peak), (own(memory), own(mine)), (last(memory, cuda), last(mine, cuda))]
        shown = [f"{size / MEGABYTE:.0f} | {ratio(mine_size, size)}" for size, mine_size in sizes]
        speed = f"{1 / one.seconds:.3g} | {ratio(one.seconds, ours.seconds)}"
        lines.append(f"| {name} | {speed} | {' | '.join(shown)} | {one.rows:g} | {one.trained / 1e6:.2f} |")
    return [*lines, "", *verdict(found, cuda)]


def own(memory: Memory) -> int:
    """What the steps took on top of what was there."""
    return memory.peak - memory.before


def last(memory: Memory, cuda: bool) -> int:
    return memory.reserved if cuda else memory.whole


def ratio(first: float, second: float) -> str:
    return f"{first / second:.2f}x" if second else "-"


def verdict(found: dict[str, Measured], cuda: bool) -> list[str]:
    """What is asked of ours beside both rivals; [] where one is missing."""
    if not all(name in found for name in RIVALS):
        return []
    ours, rivals = found[OURS], [found[name] for name in RIVALS]
    fast, slow = (pick(one.seconds for one in rivals) / ours.seconds for pick in (min, max))
    lines = [f"Steps per second: {slow:.2f}x of the slower (asked {SLOWER}), {fast:.2f}x of the faster (asked {FASTER})."]
    for name, size in (
        ("Peak", lambda memory: memory.peak),
        ("Peak of the steps alone", own),
        ("Reserved by torch" if cuda else "Peak of the whole process", lambda memory: last(memory, cuda)),
    ):
        share = size(ours.memory) / min(max(1, size(one.memory)) for one in rivals)
        lines.append(f"{name}: {share:.2f}x of the smaller (asked {SMALLER}).")
    return lines


def low_vram(found: Measured, side: int, cuda: bool) -> str:
    """The peak of the preset, and the smallest card that it fits."""
    if not cuda:
        memory = found.memory
        return f"low-vram at {side} px: {1 / found.seconds:.3g} steps/s, {own(memory) / MEGABYTE:.0f} MB for the steps."
    needed = found.memory.reserved + CONTEXT
    card = next((size for size in CARDS if needed <= size * GIGABYTE), None)
    fits = f"fits a card with {card} GB" if card else f"fits no card up to {CARDS[-1]} GB"
    peak = f"tensors {found.memory.peak / GIGABYTE:.2f} GB, reserved {found.memory.reserved / GIGABYTE:.2f} GB"
    return f"low-vram at {side} px: {1 / found.seconds:.3g} steps/s, peak: {peak}; with CUDA's own {CONTEXT / GIGABYTE:.1f} GB it {fits}."


def compare(base: Task, trainers: Sequence[str], rounds: int, before: str = "") -> dict[str, list[Measured]]:
    """Every trainer in turn, `rounds` times; each of ours also as the checkout `before` has it."""
    tasks = {name: replace(base, trainer=name) for name in trainers}
    if before:
        tasks |= {f"{name}, before": replace(base, trainer=name, checkout=before) for name in (OURS, SHIPPED) if name in trainers}
    found: dict[str, list[Measured]] = {name: [] for name in tasks}
    for number in range(rounds):
        for name, task in tasks.items():
            found[name].append(measure(task))
            print(f"round {number + 1}, {name}: {1 / found[name][-1].seconds:.3g} steps/s", file=sys.stderr, flush=True)
    return found


def report(arguments: argparse.Namespace, work: Path) -> tuple[str, dict[str, object]]:
    """The tables, and all that was measured, as JSON can hold it."""
    cuda = arguments.device.startswith("cuda")
    before = str(arguments.before.resolve()) if arguments.before else ""
    model = Path(arguments.model or mini.path()).resolve()
    if arguments.random_sdxl is not None:
        model = arguments.random_sdxl.resolve()
        write_random_sdxl(model, device=arguments.device)
    base = Task(
        trainer=OURS,
        model=str(model),
        photos=str(work / "photos"),
        work=str(work),
        script=str(arguments.diffusers_script.resolve()) if arguments.diffusers_script else "",
        side=arguments.side,
        rank=arguments.rank,
        batch=arguments.batch,
        steps=arguments.steps,
        precision=arguments.precision,
        device=arguments.device,
        threads=arguments.threads,
    )
    write_photos(Path(base.photos), base.side)
    lines = [f"`python -m lab.benchmarks.trainer_cost {shlex.join(sys.argv[1:])}`", ""]
    values: dict[str, object] = {}
    for checkpointing in {"off": (False,), "on": (True,), "both": (False, True)}[arguments.gradient_checkpointing]:
        found = compare(replace(base, checkpointing=checkpointing), arguments.trainers, arguments.rounds, before)
        title = f"Gradient checkpointing {'on' if checkpointing else 'off'}"
        lines += [f"{title}:", "", *table({name: median(several) for name, several in found.items()}, cuda), ""]
        values[title] = {name: [asdict(one) for one in several] for name, several in found.items()}
    if arguments.low_vram_side:
        photos = work / "low_vram_photos"
        write_photos(photos, arguments.low_vram_side)
        single = measure(replace(base, trainer="low-vram", photos=str(photos), side=arguments.low_vram_side))
        lines.append(low_vram(single, arguments.low_vram_side, cuda))
        values["low-vram"] = asdict(single)
    return "\n".join(lines) + "\n", values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", type=Path, help="a folder of an SDXL pipeline as diffusers has it (Mini)")
    model.add_argument(
        "--random_sdxl", type=Path, metavar="DIR", help="SDXL's shape with random weights, made here unless it is there (7 GB)"
    )
    parser.add_argument("--diffusers_script", type=Path, help="your copy of train_dreambooth_lora_sdxl.py")
    parser.add_argument("--before", type=Path, metavar="DIR", help="a checkout of an earlier commit, to compare with")
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--side", type=int, default=mini.RESOLUTION, help="pixels of the photos")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=1, help="photos at once, 1 to 6")
    parser.add_argument("--steps", type=int, default=100, help="of a run; the first fifth is not timed")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no", help="as accelerate names it; ComfyUI's node has no other")
    parser.add_argument("--gradient_checkpointing", choices=("off", "on", "both"), default="both")
    parser.add_argument(
        "--low_vram_side", type=int, default=None, help=f"photos of the preset low-vram ({LOW_VRAM_SIDE} on CUDA); 0: leave it out"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="of every trainer; 0 as torch chooses")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output_dir", type=Path, required=True, help="for trainer_cost.md and .json")
    arguments = parser.parse_args()
    if "diffusers" in arguments.trainers and arguments.diffusers_script is None:
        parser.error("--diffusers_script is needed, or --trainers without diffusers")
    if OURS not in arguments.trainers or not 1 <= arguments.batch <= 6 or arguments.steps < 5 or arguments.rounds < 1:
        parser.error("--trainers must name faceexpr; --batch 1 to 6, --steps 5 or more, --rounds 1 or more")
    if arguments.before is not None and not (arguments.before / "faceexpr_core").is_dir():
        parser.error(f"--before {arguments.before} holds no faceexpr_core, so that today's trainer would run in its stead")
    if arguments.low_vram_side is None:
        arguments.low_vram_side = LOW_VRAM_SIDE if arguments.device.startswith("cuda") else 0
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=arguments.output_dir) as work:
        text, values = report(arguments, Path(work).resolve())
    replace_file(arguments.output_dir / "trainer_cost.md", text.encode())
    write_json(arguments.output_dir / "trainer_cost.json", values)
    print(text)


if __name__ == "__main__":
    main()
