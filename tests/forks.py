"""Processes for tests, forked from one that has imported what training and drawing need (preloaded.py) and has computed nothing.

To start Python and import all of that takes ten seconds of processor time, and more.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest
from comfy_process import REPOSITORY

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Fork:
    """A running process, and the files to which its output and its errors go."""

    process: ForkServerProcess
    output: Path
    errors: Path

    def ended(self, timeout: float) -> int | None:
        """Its exit status, a signal's with a minus, once it has ended; it is killed where it did not within `timeout` seconds."""
        self.process.join(timeout)
        self.process.kill()
        self.process.join()
        return self.process.exitcode

    def printed(self, timeout: float = 580) -> str:
        """What it printed, once it has ended, and well."""
        status = self.ended(timeout)
        assert status == 0, f"status {status}:\n{self.errors.read_text()}"
        return self.output.read_text()


def fork(folder: Path, work: Callable[..., int | None], *given: object, name: str = "fork") -> Fork:
    """Starts `work(*given)`, a function at the top of a module that is no test's, on one thread and without a card.

    A number that it returns is its exit status. Skips the test where there is no fork. What still runs when the tests end is ended.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork")
    output, errors = folder / f"{name}.out", folder / f"{name}.err"
    process = _context().Process(target=_run, args=(output, errors, work, given), daemon=True)
    process.start()
    return Fork(process, output, errors)


def _run(output: Path, errors: Path, work: Callable[..., int | None], given: tuple[object, ...]) -> None:
    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.exit(work(*given))


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    with pytest.MonkeyPatch.context() as patched:
        folders = [str(TESTS), str(TESTS.parent / "scripts"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        patched.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
        patched.setenv("OMP_NUM_THREADS", "1")
        patched.setenv("CUDA_VISIBLE_DEVICES", "")
        forkserver.ensure_running()
    return context
