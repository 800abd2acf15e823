"""One of two processes that run a command together, on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from prepared import prepare_here

from faceexpr_core.commands import train_job
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.commands.dreambooth import main as paper
from faceexpr_core.diffusers_host.training import DiffusersHost
from faceexpr_core.lora import reserve
from faceexpr_core.photos import subject_process
from faceexpr_core.training import processes, state


def take_rank(rank: int, port: int = 0, processes: int = 2) -> None:
    """What `torchrun` would tell this process."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} if port else {}


def taking(rank: int, port: int, words: Sequence[str]) -> int:
    """`faceexpr train`; the command's status."""
    take_rank(rank, port)
    with mock.patch.object(subject_process, "prepare_apart", prepare_here):
        return faceexpr(words)


def placed(rank: int, port: int, asked: str) -> None:
    """Prints where the process computes, whether it is the first, and of how many."""
    take_rank(rank, port)
    with train_job._processes(asked, alone=False) as (device, first):
        print(device.type, first, processes.rank()[1])


def saving_late(words: Sequence[str], late: float = 0.0) -> int:
    """`faceexpr train`, whose state and LoRA are saved so many seconds late."""

    def slow(work: Callable[..., Any]) -> Callable[..., Any]:
        def slowly(*given: Any, **more: Any) -> Any:
            time.sleep(late)
            return work(*given, **more)

        return slowly

    with (
        mock.patch.object(subject_process, "prepare_apart", prepare_here),
        mock.patch.object(state, "write_state", slow(state.write_state)),
        mock.patch.object(reserve, "save_result", slow(reserve.save_result)),
    ):
        return faceexpr(words)


def failing(rank: int, port: int, where: int, what: str, folder: Path, words: Sequence[str]) -> int:
    """The paper's command, where the model's host of process `where` cannot do `what`; its status.

    Leaves `prepared_<rank>` in `folder` where it prepared the photos.
    """
    take_rank(rank, port)
    plain = getattr(DiffusersHost, what)

    def fail(self: DiffusersHost, *given: Any, **more: Any) -> Any:
        if rank == where:
            raise RuntimeError("the card fell off the bus")
        return plain(self, *given, **more)

    def prepared(*given: Any) -> Any:
        (folder / f"prepared_{rank}").touch()
        return prepare_here(*given)

    setattr(DiffusersHost, what, fail)
    with mock.patch.object(subject_process, "prepare_apart", prepared):
        return paper(words)
