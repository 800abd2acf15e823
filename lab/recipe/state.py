"""States of the recipe's long runs: written whole every few minutes, so that a session that ends costs no more than that."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

EVERY_MINUTES = 5.0


class Clock:
    """Minutes trained so far, earlier sessions counted, as a share of the minutes that the run has; the rate's course follows it."""

    def __init__(self, minutes: float, before: float = 0.0) -> None:
        self.minutes, self.before, self.started, self.saved = minutes, before, time.monotonic(), 0.0

    @property
    def here(self) -> float:
        """Minutes since this session's start."""
        return (time.monotonic() - self.started) / 60

    @property
    def done(self) -> float:
        return self.before + self.here

    @property
    def progress(self) -> float:
        return self.done / self.minutes

    def due(self) -> bool:
        """True every EVERY_MINUTES."""
        if self.here - self.saved < EVERY_MINUTES:
            return False
        self.saved = self.here
        return True


def course(progress: float, decay_from: float, steps_here: int, warm: int = 100) -> float:
    """What multiplies the learning rate: a short warm-up in each session, then 1, from `decay_from` on a line down to 0.01."""
    decayed = 1.0 if progress < decay_from else max(0.0, (1 - progress) / (1 - decay_from))
    return min(1.0, (steps_here + 1) / warm) * (0.01 + 0.99 * decayed)


def write(path: Path, state: Mapping[str, Any]) -> None:
    part = path.with_suffix(".part")
    torch.save(dict(state), part)
    part.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    return torch.load(path, weights_only=True) if path.is_file() else None
