"""A command that is told to end, by Ctrl-C, a scheduler, a launcher or a terminal that is gone, keeps what it has."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ranked_command
from comfy_process import REPOSITORY
from forks import fork

from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.lora.files import read_lora
from faceexpr_core.training.state import StateFolder, read_state

pytestmark = [pytest.mark.skipif(os.name != "posix", reason="sends signals"), pytest.mark.usefixtures("usual_signals")]
TESTS = Path(__file__).parent
BOTH = {"SIGTERM": 143, "SIGHUP": 129}


def words(photos: Path, *more: str) -> list[str]:
    named = ["train", "--model=mini", f"--photos={photos}", f"--output={photos.parent / 'anna'}", "--device=cpu", "--class_word=woman"]
    named += ["--preset=paper", "--precision=fp32", "--resolution=64", "--rank=2", "--accumulation=1", "--state_every=1000"]
    return [*named, "--preview_every=0", *more]


def kept(folder: Path) -> int:
    """The step of the only state, which is that of the interrupted LoRA."""
    (state,) = StateFolder(folder / "anna_state").files()
    (lora,) = folder.glob("anna*.safetensors")
    step = read_state(state).step
    assert lora.name == f"anna_interrupted_step{step}.safetensors" and read_lora(lora)[1]["faceexpr.steps"] == str(step)
    return step


def says(file: Path, words: str) -> bool:
    return file.exists() and words in file.read_text()


def until(there: Callable[[], bool], running: Callable[[], bool], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert running() and time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("name", BOTH)
def test_a_run_that_is_told_to_end_keeps_its_state_and_its_lora(photos: Path, name: str) -> None:
    run = fork(photos.parent, ranked_command.saving_late, words(photos, "--steps=400"))
    until(lambda: says(run.errors, "step 20 of 400"), run.process.is_alive)
    assert run.process.pid is not None
    os.kill(run.process.pid, signal.Signals[name])
    assert run.ended(timeout=100) == BOTH[name], run.errors.read_text()
    assert 20 <= kept(photos.parent) < 400
    *_, told, last = run.errors.read_text().splitlines()
    assert told.endswith("the same command goes on from here") and last == "faceexpr: stopped"


def test_a_run_hears_the_first_signal_alone_and_saves_in_peace(photos: Path) -> None:
    """A scheduler that is not obeyed at once says it again."""
    run = fork(photos.parent, ranked_command.saving_late, words(photos, "--steps=400"), 1.0)
    until(lambda: says(run.errors, "step 20 of 400"), run.process.is_alive)
    assert run.process.pid is not None
    while run.process.is_alive():
        os.kill(run.process.pid, signal.SIGTERM)
        time.sleep(0.1)
    assert run.ended(timeout=100) == 143, run.errors.read_text()
    assert 20 <= kept(photos.parent) < 400


@pytest.mark.long
def test_a_run_whose_terminal_is_gone_is_saved_though_nothing_can_be_said(photos: Path) -> None:
    """As after an ssh connection that is lost."""
    leader, follower = pty.openpty()
    flags = ["--pretrained_model_name_or_path=mini", f"--instance_data_dir={photos}", f"--output_dir={photos.parent / 'out'}"]
    flags += ["--instance_prompt=a photo of ohwx woman", "--resolution=64", "--train_batch_size=1", "--max_train_steps=4000", "--seed=0"]
    flags += ["--checkpointing_steps=10000", "--report_to=none", "--device=cpu", "--output_kohya_format"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "faceexpr_core.train", *flags]

    def own_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    run = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True, preexec_fn=own_terminal
    )
    os.close(follower)
    shown = b""
    while not re.search(rb"step [2-9]\d of 4000", shown):  # a bar does not show every step
        shown += os.read(leader, 100_000)
    os.close(leader)
    assert run.wait(timeout=100) == 128 + signal.SIGHUP
    assert len(StateFolder(photos.parent / "out" / "checkpoints").files()) == 1
    assert len(list((photos.parent / "out").glob("pytorch_lora_weights*_interrupted_step*.safetensors"))) == 2


def sending(name: str) -> Callable[[object], int]:
    def work(_: object) -> int:
        os.kill(os.getpid(), signal.Signals[name])
        return 0

    return work


def test_what_a_command_is_told_to_ignore_it_ignores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `nohup` says, before it starts one."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr("faceexpr_core.commands.models._run_list", sending("SIGHUP"))
    try:
        assert faceexpr(["models", "list"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("name", "status"), [*BOTH.items(), ("SIGINT", 130)])
def test_a_commands_status_says_what_ended_it(name: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceexpr_core.commands.models._run_list", sending(name))
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert faceexpr(["models", "list"]) == status
    assert before == [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_a_command_runs_in_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceexpr_core.commands.models._run_list", lambda _: 0)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(faceexpr(["models", "list"])))
    thread.start()
    thread.join()
    assert found == [0]


@pytest.fixture
def launch(photos: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Two processes of torchrun."""
    started: list[subprocess.Popen[str]] = []

    def launched(what: str, *more: str) -> subprocess.Popen[str]:
        paths = os.pathsep.join(map(str, (TESTS, REPOSITORY / "scripts", REPOSITORY)))
        environment = {**os.environ, "PYTHONPATH": paths, "WHAT": what, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(TESTS / "launched_rank.py")]
        with said(photos).open("w") as file:
            started.append(subprocess.Popen([*run, *words(photos, *more)], env=environment, stdout=file, stderr=file, text=True))
        return started[-1]

    yield launched
    for one in started:
        one.kill()
        one.wait()


def said(photos: Path) -> Path:
    return photos.parent / "said"


@pytest.mark.long
def test_a_launcher_ends_no_process_that_still_saves(photos: Path, launch: Callable[..., subprocess.Popen[str]]) -> None:
    """Torchrun tells all to end as soon as one has failed."""
    assert launch("fails", "--steps=5").wait(timeout=300) == 1
    told = said(photos).read_text()
    assert kept(photos.parent) == 2
    assert "faceexpr: Process 2 of 2 could not go on while training: CUDA error: the card fell off the bus" in told


@pytest.mark.long
def test_a_launcher_ends_no_process_that_still_saves_after_all_have_diverged(
    photos: Path, launch: Callable[..., subprocess.Popen[str]]
) -> None:
    assert launch("diverges", "--steps=5").wait(timeout=300) == 1
    told = said(photos).read_text()
    assert [path.name for path in photos.parent.glob("anna*.safetensors")] == ["anna_interrupted_step1.safetensors"], told
    assert told.count("faceexpr: The training diverged: at step 3 of 5") == 2


@pytest.mark.long
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_processes_that_are_told_to_end_end_with_the_same_step(
    photos: Path, launch: Callable[..., subprocess.Popen[str]], name: str
) -> None:
    """One that broke off in the middle would leave the others in a sum that never comes."""
    run = launch("slow", "--steps=400")
    until(lambda: says(said(photos), "step 20 of 400"), lambda: run.poll() is None)
    run.send_signal(signal.Signals[name])
    run.wait(timeout=100)
    told = said(photos).read_text()
    assert 20 <= kept(photos.parent) < 400, told
    assert "faceexpr: stopped" in told and "Traceback" not in told.partition("Received")[0]
