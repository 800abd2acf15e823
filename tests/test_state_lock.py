"""Two trainings never share a folder of states, and none that was killed keeps another out."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forks import fork
from holding import hold

from faceexpr_core import mini
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.errors import FaceExprError
from faceexpr_core.training.state import RunState, StateFolder, write_state
from faceexpr_core.training.state_lock import alone_in


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[None]:
    """While another process, which is killed at the end, trains in the folder."""
    other = fork(folder.parent, hold, folder)
    try:
        end = time.monotonic() + 120
        while not (other.output.exists() and other.output.read_text() == "held\n"):
            assert other.process.is_alive() and time.monotonic() < end, other.errors.exists() and other.errors.read_text()
            time.sleep(0.02)
        yield
    finally:
        status = other.ended(timeout=0)
    assert status == -9


@pytest.mark.usefixtures("prepared_here")
def test_a_second_training_in_the_folder_is_refused_until_the_first_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(mini.subject_path() / "photo_1.png", tmp_path / "photos")
    words = ["train", "--model=mini", f"--photos={tmp_path / 'photos'}", f"--output={tmp_path / 'anna'}", "--device=cpu", "--steps=1"]
    words += ["--preset=paper", "--precision=fp32", "--resolution=64", "--rank=2", "--accumulation=1", "--prior=off", "--resume=auto"]
    states = StateFolder(tmp_path / "anna_state")
    with held_elsewhere(states.path):
        write_state(states.path / "step00000007.safetensors", RunState(7, {}, {}, {}))
        unfinished = states.path / ".step00000008-1.part"
        unfinished.touch()
        assert faceexpr(words) == 2
        told = capsys.readouterr().err
        assert f"Another training runs in {states.path}" in told and "give this one another name" in told
        assert states.newest() == 7 and unfinished.exists()  # what is the first one's stays
    assert faceexpr(words) == 0
    assert (tmp_path / "anna.safetensors").is_file() and not states.path.exists()


def test_a_folder_is_held_once_in_one_process_too_and_left_as_it_was(tmp_path: Path) -> None:
    with alone_in(tmp_path / "run"):
        (tmp_path / "run" / "notes.txt").touch()
        with pytest.raises(FaceExprError, match="Another training runs in"), alone_in(tmp_path / "run"):
            pass
        with alone_in(tmp_path / "other"):
            pass
    assert not (tmp_path / "other").exists()
    with alone_in(tmp_path / "run"):
        pass
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_an_error_is_handed_on_and_leaves_the_folder_free(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), alone_in(tmp_path / "run"):
        raise KeyboardInterrupt
    with alone_in(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()


def no_locks(number: int) -> Callable[[int, int], None]:
    def flock(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    return flock


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EAGAIN], ids=["no locks", "no call", "as if others had all of them"])
def test_a_disk_without_locks_does_not_prevent_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", no_locks(number))
    for name in ("once", "again"):
        with caplog.at_level(logging.WARNING), alone_in(tmp_path / "run"):
            (tmp_path / "run" / name).touch()
    assert caplog.text.count("cannot be locked") == 2
    assert {file.name for file in (tmp_path / "run").iterdir()} - {".training.lock"} == {"once", "again"}


def test_a_folder_that_cannot_be_made_is_told_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    with alone_in(tmp_path / "run"):
        pass
    assert "run cannot be locked (File exists)" in caplog.text and (tmp_path / "run").is_file()
