"""Most tables of docs/measurements.md, and of docs/speed_and_memory.md those of fusion and bits, made again: `make evidence`, or

    python -m lab.benchmarks.evidence --work_dir WORK [--only NAME ...] [--hours H] [--list]

Pieces are run one after the other, each by the command that stands above its table. WORK/evidence.json says which are done, when, with
which commit and after how many hours. A piece that was broken off goes on where it stopped: all of them keep what they made under WORK.
Of a piece that is done WORK/evidence/<name>.md has the tables. `--hours` stops in good order: the piece that runs is ended as by Ctrl+C.

Left out: where and how strongly words act, how the recipe is learned, `low-vram`, `text_drift`, photographs of real people, the costs of
trainers, cards and full size.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from faceexpr_core.files import replace_file

from .pieces import PIECES, Piece
from .store import commit, write_json

PROGRESS = "evidence.json"
GRACE = 120
"""Seconds in which a piece that is told to end may keep what it has."""


class Progress:
    """What WORK/evidence.json says of each piece: its command, the commit, hours so far, and when it was done."""

    def __init__(self, work: Path) -> None:
        self.work, self.path = work, work / PROGRESS
        self.known: dict[str, dict[str, object]] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def done(self, piece: Piece) -> bool:
        """Whether the piece was finished with the command that it has now."""
        known = self.known.get(piece.name, {})
        return known.get("command") == piece.words(self.work) and bool(known.get("done"))

    def hours(self, piece: Piece) -> float:
        return float(str(self.known.get(piece.name, {}).get("hours", 0.0)))

    def add(self, piece: Piece, hours: float, done: bool) -> None:
        before = self.known.get(piece.name, {})
        spent = self.hours(piece) if before.get("command") == piece.words(self.work) and not before.get("done") else 0.0
        self.known[piece.name] = {
            "command": piece.words(self.work),
            "commit": commit(),
            "hours": round(spent + hours, 3),
            "done": time.strftime("%Y-%m-%d %H:%M") if done else None,
        }
        write_json(self.path, self.known)


def run(work: Path, piece: Piece, until: float) -> bool:
    """Run a piece until it is done or the time has come (seconds of time.monotonic); whether it is done. Its tables go to their file."""
    output = work / "evidence" / f"{piece.name}.txt"
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen([sys.executable, *piece.command(work)], stdout=file, preexec_fn=_hear if os.name == "posix" else None)
        try:
            code = process.wait(None if until == float("inf") else max(0.0, until - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            _end(process)
            return False
    if code:
        raise SystemExit(f"evidence: {piece.name} ended with {code}; what it said is above and in {output}. The same command goes on.")
    tables = work / piece.table if piece.table else output
    replace_file(work / "evidence" / f"{piece.name}.md", tables.read_bytes())
    return True


def _hear() -> None:
    """Ctrl-C, which shells switch off in what they start in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def told(progress: Progress) -> Table:
    """A line a piece: state, hours spent, hours that it is expected to take on two cores."""
    table = Table(box=None, padding=(0, 2))
    for heading in ("piece", "", "hours", "of about", "table"):
        table.add_column(heading)
    for piece in PIECES:
        known = progress.known.get(piece.name, {})
        state = f"done {known['done']}, {known['commit']}" if progress.done(piece) else "begun" if known else "to do"
        table.add_row(piece.name, state, f"{progress.hours(piece):.1f}", f"{piece.hours:g}", piece.about)
    table.add_row("in all", "", f"{sum(map(progress.hours, PIECES)):.1f}", f"{sum(piece.hours for piece in PIECES):g}", "")
    return table


def main(argv: Sequence[str] | None = None) -> int:
    names = [piece.name for piece in PIECES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, default=Path("work"))
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these pieces (default: all, in their order)")
    parser.add_argument("--hours", type=float, help="stop after so many (default: when all is done)")
    parser.add_argument("--list", action="store_true", help="say what is done and what is not, and do nothing")
    arguments = parser.parse_args(argv)
    work, console = arguments.work_dir, Console()
    progress = Progress(work)
    until = float("inf") if arguments.hours is None else time.monotonic() + 3600 * arguments.hours
    for piece in [] if arguments.list else [one for one in PIECES if one.name in arguments.only and not progress.done(one)]:
        if time.monotonic() >= until:
            break
        console.print(f"{piece.name}: {shlex.join(['python', *piece.command(work)])}", highlight=False)
        began = time.monotonic()
        try:
            done = run(work, piece, until)
        except SystemExit:
            progress.add(piece, (time.monotonic() - began) / 3600, done=False)
            raise
        progress.add(piece, (time.monotonic() - began) / 3600, done)
        if not done:
            console.print(f"{piece.name} was stopped; the same command goes on with it.")
            break
    console.print(told(progress))
    return 0 if all(progress.done(piece) for piece in PIECES if piece.name in arguments.only) else 3


if __name__ == "__main__":
    raise SystemExit(main())
