"""How a command ends that was told to."""

from __future__ import annotations

import signal
from collections.abc import Callable

from ..training.signals import heard_signals, told_by
from .ending import STOPPED, status_of


def ended(work: Callable[[], int | None]) -> int:
    """`status_of` the work, which SIGTERM and SIGHUP end as Ctrl-C does: with the status 143 or 129 then, as shells count."""
    with heard_signals():
        status = status_of(work)
    return 128 + (told_by() or signal.SIGINT) if status == STOPPED else status
