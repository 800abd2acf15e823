"""One run at a time in a folder of states: a lock that the operating system takes away with the process, however that ends."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".training.lock"

log = logging.getLogger(__name__)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made where it is not there, and taken away at the end if nothing lies in it.

    Where it cannot be written, or its disk knows no locks, the run goes on without one, which is told in the log. Raises FaceExprError
    while another run holds it.
    """
    lock = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _taken(folder / LOCK)
    except (OSError, NotImplementedError) as reason:
        told = getattr(reason, "strerror", None) or str(reason)
        log.warning("%s cannot be locked (%s): see that no other training runs there at the same time.", folder, told)
    try:
        yield
    finally:
        if lock is not None:
            _let_go(lock, folder / LOCK)
        with suppress(OSError):
            folder.rmdir()


def _taken(file: Path) -> BaseFileLock:
    """Raises FaceExprError when another run has it, OSError or NotImplementedError where there are no locks."""
    from filelock import FileLock, SoftFileLock, Timeout

    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout as reason:
        if not _locks_work(file.parent):
            raise OSError("its disk knows no locks") from reason
        raise FaceExprError(
            f"Another training runs in {file.parent}, where it keeps its states. Wait until it has ended, or stop it; or give this one "
            "another name, or another folder."
        ) from reason
    if isinstance(lock, SoftFileLock):  # what newer filelock makes of a disk without locks; it would outlive a process that is killed
        lock.release()
        raise OSError("its disk knows no locks")
    return lock


def _locks_work(folder: Path) -> bool:
    """Older filelock says of a disk that refuses every lock that another has it: so it would of a file that nobody else knows."""
    from filelock import FileLock, Timeout

    file = folder / f".{secrets.token_hex(8)}.lock"
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    finally:
        _let_go(lock, file)
    return True


def _let_go(lock: BaseFileLock, file: Path) -> None:
    """Release it and delete its file: first, so that nobody gets hold of a name that is gone then, but Windows deletes no open file."""
    if os.name != "nt":
        _delete(file)
    with suppress(OSError):  # the end of the process releases it
        lock.release()
    if os.name == "nt":
        _delete(file)  # unless another run has it by now


def _delete(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
