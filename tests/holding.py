"""What holds a folder of states until it is killed."""

from __future__ import annotations

import time
from pathlib import Path

from faceexpr_core.training.state_lock import alone_in


def hold(folder: Path) -> None:
    with alone_in(folder):
        print("held", flush=True)
        time.sleep(600)
