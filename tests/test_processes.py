"""Of several processes that train together, one that fails ends all of them with its reason."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("failing_rank.py")


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.mark.parametrize(
    ("where", "own", "told"),
    [
        ("step of 1", "RuntimeError: CUDA error: the card fell off the bus", "Process 2 of 2 could not go on while training: CUDA error"),
        ("watcher of 0", "OSError: No space left on device", "Process 1 of 2 could not go on while training: No space left on device"),
    ],
)
def test_a_process_that_fails_ends_the_others_with_its_reason(where: str, own: str, told: str) -> None:
    """Without that the other one waits for it until torch.distributed's timeout of half an hour."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), *sys.path])}
    port = free_port()
    started = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(rank), port, where], env=environment, text=True, stdout=-1, stderr=-1)
        for rank in (0, 1)
    ]
    try:
        said = [one.communicate(timeout=400) for one in started]
    finally:
        for one in started:
            one.kill()
    failing = int(where[-1])
    assert all(one.returncode == 0 for one in started), said
    assert said[failing][0].strip() == f"2 steps, {own}"
    assert said[1 - failing][0].startswith(f"2 steps, FailedElsewhere: {told}")
