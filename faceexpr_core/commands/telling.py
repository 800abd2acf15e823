"""What the commands say while they work, on stderr: lines, and how far the work is. What cannot be said, to a log on a full disk or a
terminal that is gone, ends no work."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

LINES = 20
"""Where there is no terminal, so many lines a run stand for the bar."""
BEGIN = "faceexpr: "


def say(words: str) -> None:
    """A line on stderr."""
    with suppress(OSError):
        print(f"{BEGIN}{words}", file=sys.stderr, flush=True)


class Progress:
    """How far a work is: a bar on a terminal, elsewhere about `lines` lines in all (0: none). Silent unless it `speaks`; each line starts
    with `begin`. To be closed, which leaves the bar where it was and gives the terminal back; it begins anew when there is more to show."""

    def __init__(self, speaks: bool = True, lines: int = LINES, begin: str = BEGIN) -> None:
        self._speaks, self._lines, self._begin = speaks, lines, begin
        self._bar: Any = None
        self._task: Any = None

    def say(self, text: str) -> None:
        """A line, above the bar where there is one."""
        with suppress(OSError):
            if self._speaks and self._bar is not None:
                self._bar.console.print(f"{self._begin}{text}", markup=False, highlight=False, soft_wrap=True)
            elif self._speaks:
                print(f"{self._begin}{text}", file=sys.stderr, flush=True)

    def show(self, words: str, number: int, total: int | None, done: int | None = None) -> None:
        """The work is at piece `number` of `total` (None: nobody knows of how many), counted from 1, of which `done` are done: without it
        this one too."""
        if not self._speaks:
            return
        if sys.stderr.isatty():
            with suppress(OSError):
                self._start_bar(total)
                self._bar.update(self._task, total=total, completed=number if done is None else done, words=words)
        elif self._lines and total and (number == total or number % max(1, total // self._lines) == 0):
            self.say(words)

    def close(self) -> None:
        if self._bar is not None:
            bar, self._bar = self._bar, None
            with suppress(OSError):
                bar.stop()

    def _start_bar(self, total: int | None) -> None:
        if self._bar is not None:
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        words = TextColumn("{task.fields[words]}", markup=False)
        # rich would print on stderr what goes to stdout: right above a bar, wrong where stdout is a file or another program
        self._bar = Bar(BarColumn(), words, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())
        self._task = self._bar.add_task("", total=total, words="")
        self._bar.start()


class Pictures(Progress):
    """How many of `total` pictures are done, and about how long the rest will take."""

    def __init__(self, total: int, speaks: bool) -> None:
        super().__init__(speaks)
        self._total, self._done, self._started = total, 0, time.monotonic()

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        seconds = (time.monotonic() - self._started) / self._done
        left = f"{seconds:.1f} s each, about {seconds * (self._total - self._done) / 60:.0f} min left"
        self.show(f"{self._done} of {self._total} pictures, {left}", self._done, self._total)


class Evaluations(Progress):
    """How often the U-Net was called, of `total` times (None: nobody knows of how many); on a terminal alone."""

    def __init__(self, total: int | None = None) -> None:
        super().__init__(lines=0)
        self._total, self._done = total, 0

    def step(self) -> None:
        """One call more."""
        self._done += 1
        self.show(f"U-Net evaluations: {self._done}{f' of {self._total}' if self._total else ''}", self._done, self._total)
