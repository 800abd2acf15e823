"""What processes that share work over files have in common: their part of it, and waiting for each other."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .telling import say

WAIT = 2.0
"""Seconds between looks for what another process makes."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """This process's number among those that a launcher (accelerate, torchrun) started, and on its machine."""

    rank: int = 0
    processes: int = 1
    local: int = 0

    @staticmethod
    def here() -> Share:
        """As the launcher's environment says."""
        number = {name: int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))}
        return Share(number["RANK"], number["WORLD_SIZE"], number["LOCAL_RANK"])

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every so many of them, each process its own."""
        return items[self.rank :: self.processes]

    def device(self, asked: str) -> str:
        """Where to compute: of several processes on one machine each has its own card."""
        import torch

        several = self.processes > 1 and asked in ("", "cuda") and torch.cuda.is_available()
        return f"cuda:{self.local % torch.cuda.device_count()}" if several else asked


def left_to_others(missing: int, what: str) -> None:
    """Says that other processes still draw, the last of which writes `what`."""
    say(f"this process is done; {missing} pictures are left to the others, the last of which writes the {what}")


def wait_for(there: Callable[[], bool], what: str) -> None:
    """Until another process has made it; a launcher ends all of them when one fails."""
    for look in range(sys.maxsize):
        if there():
            return
        if look == 1:
            say(f"waiting for another process: {what}")
        time.sleep(WAIT)
