"""The whole path at SDXL's full size: a checkpoint of its true shape with random weights, through ComfyUI and the command line.

    python -m lab.card.sdxl_size                # every phase that is not done yet; about 20 minutes of one free core, 25 GB of disk
    python -m lab.card.sdxl_size --only write generate --side 256
    python -m lab.card.sdxl_size --report       # the table alone

At 1024 px on a card, 256 px on a CPU. What is done stands in FOLDER/progress.json, with seconds and memory; a phase that failed is
told and tried again at the next call. Memory is the process's own (and its children's), without the mapped checkpoint.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPOSITORY / "scripts"))

from .sdxl_phases import PHASES, Place, needed  # noqa: E402
from .watched import Taken, available  # noqa: E402

FOLDER = REPOSITORY / "build" / "sdxl_size"
GIB = 1 << 30


@dataclass
class Done:
    """A phase that has run: what it showed, or why it `failed`."""

    told: str
    seconds: float
    host: int
    card: int
    device: str
    side: int
    failed: bool
    day: str


def read(folder: Path) -> dict[str, Done]:
    path = folder / "progress.json"
    return {name: Done(**one) for name, one in json.loads(path.read_text()).items()} if path.is_file() else {}


def keep(folder: Path, done: dict[str, Done]) -> None:
    (folder / "progress.json").write_text(json.dumps({name: asdict(one) for name, one in done.items()}, indent=1))


def table(done: dict[str, Done]) -> str:
    """Markdown: one line a phase, in the order in which they stand in PHASES."""
    lines = ["| phase | device, px | minutes | memory, GiB | on the card, GiB | what was seen |", "|---|---|---|---|---|---|"]
    for name in (one for one in PHASES if one in done):
        one = done[name]
        card = f"{one.card / GIB:.1f}" if one.card else "-"
        seen = f"FAILED: {one.told}" if one.failed else one.told
        cells = [name, f"{one.device}, {one.side}", f"{one.seconds / 60:.1f}", f"{one.host / GIB:.1f}", card, seen.replace("|", "/")]
        lines.append(f"| {' | '.join(cells)} |")
    missing = [name for name in PHASES if name not in done]
    return "\n".join([*lines, *([f"\nNot run: {', '.join(missing)}."] if missing else [])]) + "\n"


def run(place: Place, names: list[str]) -> dict[str, Done]:
    """Run phases in turn; each starts when the machine has the memory to give. Returns all that was done so far."""
    done = read(place.folder)
    for name in names:
        said = 0.0
        while available() < needed(place, name) * GIB:
            if time.monotonic() - said > 600:
                said = time.monotonic()
                print(f"{name}: {available() / GIB:.1f} of {needed(place, name)} GiB are free; waiting", flush=True)
            time.sleep(5)
        print(f"{name} ...", flush=True)
        taken = Taken()
        try:
            told, failed = PHASES[name](place, taken), False
        except Exception as reason:
            traceback.print_exc()
            told, failed = " ".join(str(reason).split())[:300] or type(reason).__name__, True
        done = read(place.folder)
        done[name] = Done(told, round(taken.seconds, 1), taken.host, taken.card, place.device, place.side, failed, str(date.today()))
        keep(place.folder, done)
        one = done[name]
        print(f"{name}: {'FAILED ' if failed else ''}{told} ({one.seconds:.0f} s, {one.host / GIB:.1f} GiB)", flush=True)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for checkpoints, ComfyUI's home and progress.json")
    parser.add_argument("--only", nargs="+", choices=tuple(PHASES), help="these phases, done or not")
    parser.add_argument("--side", type=int, default=0, help="pixels (default: 1024 on a card, 256 on a CPU)")
    parser.add_argument("--report", action="store_true", help="print the table of what was done, and run nothing")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        place = Place.here(arguments.folder.resolve(), arguments.side)
        done = read(place.folder)
        names = arguments.only or [name for name in PHASES if name not in done or done[name].failed]
        run(place, names)
    done = read(arguments.folder)
    print(table(done))
    (arguments.folder / "report.md").write_text(table(done))
    if any(one.failed for one in done.values()):
        sys.exit("Some phases failed.")


if __name__ == "__main__":
    main()
