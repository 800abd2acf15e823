"""Seconds and memory of a process while something runs in it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.25
LAST = 600 << 20
"""With so little left on the machine the watched process is ended, before the system ends another."""


@dataclass
class Taken:
    """`host`: bytes that the process and its children held at the peak, without files that are mapped (the checkpoint), which the system
    may drop; `card`: bytes in use on the graphics card at the peak, all processes together, 0 without one. `ended`: the process was ended,
    for the machine had no memory left."""

    seconds: float = 0.0
    host: int = 0
    card: int = 0
    ended: bool = False


@contextmanager
def watched(process: int) -> Iterator[Taken]:
    """Linux only. The measure is there when the block has ended."""
    taken, done = Taken(), threading.Event()
    has_card = shutil.which("nvidia-smi") is not None

    def look() -> None:
        while True:
            taken.host = max(taken.host, sum(_anonymous(one) for one in (process, *children(process))))
            if available() < LAST and process != os.getpid():
                taken.ended = True
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                return
            if has_card:
                taken.card = max(taken.card, _on_card())
            if done.wait(EVERY):
                return

    started, thread = time.monotonic(), threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        done.set()
        thread.join()
        taken.seconds = time.monotonic() - started


def available() -> int:
    """Bytes that the machine can still give."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    return 0 if found is None else 1024 * int(found[1])


def _anonymous(process: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{process}/status").read_text()
        return 1024 * sum(int(size) for size in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", text, re.M))
    return 0


def children(process: int) -> list[int]:
    """The processes that a process started and that still run, and those that they started; Linux only. Not by psutil, which reads all
    processes of the machine: it is asked twenty times a second of a process that is measured."""
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, path.read_text().split())
    return [*found, *(one for child in found for one in children(child))]


def _on_card() -> int:
    done = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], capture_output=True, text=True)
    return 2**20 * sum(int(line) for line in done.stdout.split()) if done.returncode == 0 else 0
