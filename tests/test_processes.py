"""Of several processes that train together, one that fails ends all of them with its reason."""

from __future__ import annotations

from pathlib import Path

import failing_rank
import pytest
import ranked_command
from comfy_process import free_port
from forks import fork

from faceexpr_core.commands import train_job
from faceexpr_core.errors import FaceExprError


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


@pytest.mark.parametrize("asked", ["", "cpu"])
def test_without_a_card_one_of_several_processes_is_the_first(tmp_path: Path, asked: str) -> None:
    """accelerate, unless it is told that there is none, leaves each of them alone: all would write the same files."""
    port = free_port()
    started = [fork(tmp_path, ranked_command.placed, rank, port, asked, name=f"rank {rank}") for rank in (0, 1)]
    assert [one.printed(timeout=200) for one in started] == ["cpu True 2\n", "cpu False 2\n"]


def test_several_processes_do_not_compute_elsewhere_than_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(FaceExprError, match="The device cuda cannot be used here"), train_job._processes("cuda", alone=False):
        pass
