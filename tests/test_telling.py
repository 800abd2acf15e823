"""What a command says while it works stays apart from what it prints: paths go to stdout, the bar and its lines to stderr."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

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
