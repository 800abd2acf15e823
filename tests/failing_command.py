"""One of two processes that run the paper's command together: in process `failing` the model's host cannot do `what`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from prepared import prepare_here

from faceexpr_core.commands.dreambooth import main as paper
from faceexpr_core.diffusers_host.training import DiffusersHost
from faceexpr_core.photos import subject_process


def main(rank: int, port: str, failing: int, what: str, folder: Path, words: Sequence[str]) -> int:
    """The command's status; leaves `prepared_<rank>` in `folder` where it prepared the photos."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    plain = getattr(DiffusersHost, what)

    def fail(self: DiffusersHost, *given: Any, **more: Any) -> Any:
        if rank == failing:
            raise RuntimeError("the card fell off the bus")
        return plain(self, *given, **more)

    def prepared(*given: Any) -> Any:
        (folder / f"prepared_{rank}").touch()
        return prepare_here(*given)

    setattr(DiffusersHost, what, fail)
    with mock.patch.object(subject_process, "prepare_apart", prepared):
        return paper(words)
