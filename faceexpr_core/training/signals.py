"""What tells a command to end, a KeyboardInterrupt all: Ctrl-C, a scheduler or a launcher (SIGTERM), a terminal that is gone (SIGHUP)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_USUAL = (signal.SIG_DFL, signal.default_int_handler)
"""Whatever else is set, such as `nohup`'s SIG_IGN, somebody wants so."""


@dataclass
class _Heard:
    number: int = 0
    put_off: bool = False


_heard = _Heard()


@contextmanager
def heard_signals() -> Iterator[None]:
    """Until the end of this, in the main thread, the first of these signals is raised as KeyboardInterrupt, and `told_by` knows which it
    was. Later ones are passed over, since what was raised saves the work; but for Ctrl-C, whose user will not wait."""
    _heard.number, _heard.put_off = 0, False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler in _USUAL}
    for number in before:
        signal.signal(number, _hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def put_off_signals() -> None:
    """From now on none is raised: `told_by` is to be asked."""
    _heard.put_off = True


def told_by() -> int:
    """The number of the first signal, 0 before there is one."""
    return _heard.number


def _hear(number: int, frame: FrameType | None) -> None:
    again = bool(_heard.number)
    _heard.number = _heard.number or number
    if not _heard.put_off and (not again or number == signal.SIGINT):
        raise KeyboardInterrupt
