"""One of the processes that torchrun starts: `faceexpr train`, in which step 3 goes wrong and saving takes seconds.

`WHAT` says what goes wrong: `fails`, process 2's card; `diverges`, the loss of all; `slow`, nothing, but a step takes a tenth of a second.
"""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Any
from unittest import mock

from ranked_command import saving_late

from faceexpr_core.training.trainer import Trainer

SECONDS = 4.0
"""A launcher that has seen a process fail tells the others within a tenth of a second."""


def loss(self: Trainer, *given: Any) -> Any:
    what = os.environ["WHAT"]
    if what == "slow":
        time.sleep(0.1)
    elif self.steps_done == 2 and what == "fails" and self.rank == 1:
        raise RuntimeError("CUDA error: the card fell off the bus")
    found = plain(self, *given)
    return tuple(math.nan * one for one in found) if self.steps_done == 2 and what == "diverges" else found


if __name__ == "__main__":
    plain = Trainer._loss
    with mock.patch.object(Trainer, "_loss", loss):
        raise SystemExit(saving_late(sys.argv[1:], 0.0 if os.environ["WHAT"] == "slow" else SECONDS))
