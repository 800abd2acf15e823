"""One of the processes that torchrun starts: `faceexpr train`, in which step 3 goes wrong and saving takes seconds.

`WHAT` says what goes wrong: `fails`, process 2's card; `diverges`, the loss of all; `slow`, nothing, but a step takes a tenth of a second.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from prepared import prepare_here

from faceexpr_core.commands.cli import main
from faceexpr_core.lora import reserve
from faceexpr_core.photos import subject_process
from faceexpr_core.training import state
from faceexpr_core.training.trainer import Trainer

SECONDS = 4.0
"""A launcher that has seen a process fail tells the others within a tenth of a second."""


def slowly(work: Callable[..., Any]) -> Callable[..., Any]:
    def late(*given: Any, **more: Any) -> Any:
        time.sleep(SECONDS)
        return work(*given, **more)

    return late


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
    with (
        mock.patch.object(subject_process, "prepare_apart", prepare_here),
        mock.patch.object(state, "write_state", slowly(state.write_state)),
        mock.patch.object(reserve, "save_result", slowly(reserve.save_result)),
        mock.patch.object(Trainer, "_loss", loss),
    ):
        raise SystemExit(main(sys.argv[1:]))
