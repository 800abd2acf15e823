"""How a command ends: its exit status, and in one line what the user can mend."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

from ..errors import FaceExprError

_MENDABLE = {getattr(errno, name, None) for name in ("EACCES", "EPERM", "ENOSPC", "EDQUOT", "EROFS", "ENOTDIR", "EISDIR", "ENAMETOOLONG")}
"""What keeps a file from being written or read that the user can mend."""


def status_of(work: Callable[[], int | None]) -> int:
    """Do the work. Returns the exit status: the work's own (0 where it has none), 2 after an error that the user can mend, said in one line
    on stderr, 130 after Ctrl-C. Raises what nobody but we can mend."""
    try:
        return work() or 0
    except FaceExprError as error:
        print(f"faceexpr: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"faceexpr: {where}{error.strerror}. Make room or give another place, then the same command again.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("faceexpr: stopped", file=sys.stderr)
        return 130
