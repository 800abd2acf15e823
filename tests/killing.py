"""Runs in forks of this process that end well or are killed on the way, for the programs that forks.py starts."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path


def forked(work: Callable[[], object]) -> int:
    """The process id of a fork that works."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def whole(child: int, told: Callable[[], str] = str) -> None:
    """Waits until it has ended, and well; `told` is asked for what it said otherwise."""
    _, status = os.waitpid(child, 0)
    assert status == 0, told()


def kill(child: int, done: Callable[[], int], least: int, pause: float = 0.01, later: float = 0.0) -> int:
    """Kills it by SIGKILL, so many seconds `later`, once it has `done` enough: that, which is asked for between pauses."""
    while (found := done()) < least:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the run ended before it was killed"
        time.sleep(pause)
    time.sleep(later)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the run ended before it was killed"
    return found


def recorded(folder: Path) -> int:
    """The whole lines of the records in a folder."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))
