"""One of two processes that run `faceexpr train` together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from unittest import mock

from prepared import prepare_here

from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.photos import subject_process


def main(rank: int, port: str, words: Sequence[str]) -> int:
    """The command's status."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    with mock.patch.object(subject_process, "prepare_apart", prepare_here):
        return faceexpr(words)
