"""How a command ends: its exit status, and in one line what the user can mend."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from ..errors import FaceExprError
from ..files import too_long
from .telling import say

STOPPED = 130
"""The exit status after Ctrl-C."""

_MENDABLE = {getattr(errno, name, None) for name in ("EACCES", "EPERM", "ENOSPC", "EDQUOT", "EROFS", "ENOTDIR", "EISDIR", "ENAMETOOLONG")}
"""What keeps a file from being written or read that the user can mend."""


def status_of(work: Callable[[], int | None], windows: bool = os.name == "nt") -> int:
    """Do the work. Returns the exit status: the work's own (0 where it has none), 2 after an error that the user can mend, said in one line
    on stderr, STOPPED after Ctrl-C. Raises what nobody but we can mend."""
    try:
        return work() or 0
    except FaceExprError as error:
        say(str(error))
        return 2
    except OSError as error:
        if error.errno not in _MENDABLE and not too_long(error, windows):
            raise
        where = f"{name}: " if (name := error.filename2 or error.filename) else ""  # the second is what the first was to become
        say(f"{where}{_cure(error, windows)}, then the same command again.")
        return 2
    except KeyboardInterrupt:
        say("stopped")
        return STOPPED


def _cure(error: OSError, windows: bool) -> str:
    if too_long(error, windows):
        return (
            "the path is too long for Windows, which takes 259 letters. Give a place with a shorter path, or turn on long paths in Windows"
        )
    if error.errno == errno.ENAMETOOLONG:
        return f"{error.strerror}. Give a shorter name"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{error.strerror}. If it is open in another program, close it there; if not, change its rights or give another place"
    return f"{error.strerror}. Make room or give another place"
