"""Of several processes that train together, one that fails ends all of them with its reason."""

from __future__ import annotations

from pathlib import Path

import failing_rank
import pytest
from comfy_process import free_port
from forks import fork


@pytest.mark.long
@pytest.mark.parametrize(
    ("where", "own", "told"),
    [
        ("step of 1", "RuntimeError: CUDA error: the card fell off the bus", "Process 2 of 2 could not go on while training: CUDA error"),
        ("watcher of 0", "OSError: No space left on device", "Process 1 of 2 could not go on while training: No space left on device"),
    ],
)
def test_a_process_that_fails_ends_the_others_with_its_reason(tmp_path: Path, where: str, own: str, told: str) -> None:
    """Without that the other one waits for it until torch.distributed's timeout of half an hour."""
    port = free_port()
    started = [fork(tmp_path, failing_rank.main, rank, port, where, name=f"rank {rank}") for rank in (0, 1)]
    said = [one.printed(timeout=400) for one in started]
    failing = int(where[-1])
    assert said[failing].strip() == f"2 steps, {own}"
    assert said[1 - failing].startswith(f"2 steps, FailedElsewhere: {told}")
