"""What a run of the command line is watched on: lines and a bar on the terminal, and accelerate's trackers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FaceExprError

if TYPE_CHECKING:
    from ..training.host import Picture
    from ..training.result import Step
    from ..training.settings import TrainSettings

TRACKERS = ("none", "all", "tensorboard", "wandb", "comet_ml")
LINES = 20
"""Where there is no terminal, so many lines a run stand for the bar."""


class Terminal:
    """`training.host.Watcher` on stderr: a bar on a terminal, else a line now and then. Silent unless it `speaks`."""

    def __init__(self, speaks: bool) -> None:
        self.track: Callable[[Step], None] = lambda step: None
        self._speaks = speaks
        self._bar: Any = None
        self._task: Any = None

    def say(self, text: str) -> None:
        if self._speaks and self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self._speaks:
            print(text, file=sys.stderr, flush=True)

    def drawing(self, number: int, of: int, prompt: str) -> None:
        self._show(number, of, f"picture {number} of {of} of the class: {prompt}", number - 1)

    def step(self, step: Step, sheet: Picture | None) -> None:
        from ..training.progress import progress_text

        self.track(step)
        self._show(step.number, step.total, progress_text(step), step.number)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, number: int, total: int, words: str, done: int) -> None:
        if not self._speaks:
            return
        if sys.stderr.isatty():
            self._start_bar()
            self._bar.update(self._task, total=total, completed=done, words=words)
        elif number == total or number % max(1, total // LINES) == 0:
            self.say(words)

    def _start_bar(self) -> None:
        if self._bar is not None:
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(BarColumn(), TextColumn("{task.fields[words]}", markup=False), console=Console(stderr=True))
        self._task = self._bar.add_task("", words="")
        self._bar.start()


def check_tracker(name: str) -> None:
    """Raise FaceExprError for a tracker that is not installed."""
    if name == "none":
        return
    from accelerate.tracking import get_available_trackers

    there = [str(tracker) for tracker in get_available_trackers()]
    if name == "all" and not there:
        raise FaceExprError(
            "--report_to all found no tracker that is installed. Install one, such as tensorboard, or give --report_to none."
        )
    if name not in ("all", *there):
        raise FaceExprError(f"--report_to {name} needs the package {name}, which is not installed. Install it, or give --report_to none.")


@contextmanager
def tracker(report_to: str, log_folder: Path, settings: TrainSettings) -> Iterator[Callable[[Step], None]]:
    """What sends each step's numbers to accelerate's trackers. One that fails in the middle is said, and costs the run nothing."""
    if report_to == "none":
        yield lambda step: None
        return
    from accelerate import Accelerator

    accelerator = Accelerator(log_with=report_to, project_dir=str(log_folder))
    config: dict[str, Any] = {name: value for name, value in settings.used().items() if value is not None}
    accelerator.init_trackers("faceexpr", config=config)
    failed = False

    def attempt(what: Callable[[], None]) -> None:
        nonlocal failed
        try:
            if not failed:
                what()
        except Exception as reason:
            failed = True
            print(f"faceexpr: {report_to} takes no more of this run's numbers ({reason}); the training goes on", file=sys.stderr)

    def log(step: Step) -> None:
        parts = {name: value for name, value in step.losses.items() if value == value}  # NaN: not taken
        numbers = {"loss": step.loss, "learning_rate": step.learning_rate, **parts}
        attempt(lambda: accelerator.log(numbers, step=step.number))

    try:
        yield log
    finally:
        attempt(accelerator.end_training)
