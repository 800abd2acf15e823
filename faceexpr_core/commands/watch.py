"""What a run of the command line is watched on: lines and a bar on the terminal, and accelerate's trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FaceExprError
from .telling import Progress, say

if TYPE_CHECKING:
    from ..training.host import Picture
    from ..training.result import Step
    from ..training.settings import TrainSettings

TRACKERS = ("none", "all", "tensorboard", "wandb", "comet_ml")


class Terminal(Progress):
    """`training.host.Watcher` on stderr, whose lines begin with nothing of ours. Silent unless it `speaks`."""

    def __init__(self, speaks: bool) -> None:
        super().__init__(speaks, begin="")
        self.track: Callable[[Step], None] = lambda step: None

    def warn(self, text: str) -> None:
        self.say(text)

    def drawing(self, number: int, of: int, prompt: str) -> None:
        self.show(f"picture {number} of {of} of the class: {prompt}", number, of, done=number - 1)

    def ready(self) -> None:
        """Ctrl-C is raised where it is heard."""

    def step(self, step: Step, sheet: Picture | None) -> None:
        from ..training.progress import progress_text

        self.track(step)
        self.show(progress_text(step), step.number, step.total)

    def hand_out(self, path: Path) -> None:
        """A file's path on stdout, where a bar would break it."""
        self.close()
        with suppress(OSError):  # it is there though it cannot be told
            print(path, flush=True)


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
            say(f"{report_to} takes no more of this run's numbers ({reason}); the training goes on")

    def log(step: Step) -> None:
        parts = {name: value for name, value in step.losses.items() if value == value}  # NaN: not taken
        numbers = {"loss": step.loss, "learning_rate": step.learning_rate, **parts}
        attempt(lambda: accelerator.log(numbers, step=step.number))

    try:
        yield log
    finally:
        attempt(accelerator.end_training)
