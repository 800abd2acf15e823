"""What a command says while it works stays apart from what it prints: paths go to stdout, the bar and its lines to stderr."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from faceexpr_core.commands.telling import Progress
progress = Progress()
for number in range(1, 4):
    progress.show(f"{number} of 3", number, 3)
    progress.say("a line")
    print(f"path {number}")
progress.close()
"""


def test_on_a_terminal_paths_still_reach_a_file_or_another_program() -> None:
    """With the bar on stderr; rich's own redirection would take them there too."""
    leader, follower = pty.openpty()
    try:
        done = subprocess.run([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=follower, timeout=120, check=True)
        os.close(follower)
        shown = os.read(leader, 100_000).decode()
    finally:
        os.close(leader)
    assert done.stdout.decode().splitlines() == ["path 1", "path 2", "path 3"]
    assert "faceexpr: a line" in shown and "3 of 3" in shown and "path" not in shown


def test_without_a_terminal_the_bar_is_a_few_lines() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["path 1", "path 2", "path 3"]
    assert done.stderr.splitlines() == [f"faceexpr: {words}" for number in (1, 2, 3) for words in (f"{number} of 3", "a line")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_what_cannot_be_said_ends_no_work() -> None:
    """A log that a full disk takes no more of."""
    more = "import faceexpr_core.commands.telling as telling; telling.say('a line')"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", SCRIPT + more], stdout=subprocess.PIPE, stderr=full, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.splitlines() == ["path 1", "path 2", "path 3"]


def test_a_terminal_that_is_gone_ends_no_work(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    script = SCRIPT.replace("progress.close()", "import sys; sys.stdin.read(); progress.say('a line'); progress.close(); print('the end')")
    done = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=follower, text=True)
    os.close(follower)
    shown = b""
    while b"3 of 3" not in shown:
        shown += os.read(leader, 100_000)
    os.close(leader)
    assert done.communicate(timeout=120)[0].splitlines()[-1] == "the end" and done.returncode == 0
