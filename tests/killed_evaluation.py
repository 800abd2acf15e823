"""Evaluates a person by one process, and by two of which one is killed by SIGKILL and started again.

Prints as JSON how many pictures were recorded when it was killed. Each of them is a fork of this process; the LoRA is learned once.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from unittest import mock

from killing import forked, kill, recorded, whole
from prepared import prepare_here
from ranked_command import take_rank

from faceexpr_core import mini
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.photos import subject_process

WORDS = (
    "evaluate --model=mini --photos={folder}/people --output_dir={folder}/{name} --class_words=anna=woman --expressions happy contempt "
    "--intensities 0.6 1 --seeds 3 4 --steps=2 --cfg=4 --device=cpu --arms base lora fusion:strength=1.5"
)
TRAIN = (
    "--preset=paper --precision=fp32 --resolution=64 --steps=2 --rank=2 --accumulation=1 --no-gradient_checkpointing "
    "--framing='whole picture'"
)


def evaluate(folder: Path, name: str, rank: int = 0, processes: int = 1) -> int:
    """The process id of an evaluation as one of several processes."""

    def work() -> None:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        take_rank(rank, processes=processes)
        with mock.patch.object(subject_process, "prepare_apart", prepare_here):
            assert faceexpr([*WORDS.format(folder=folder, name=name).split(), "--train", TRAIN]) == 0

    return forked(work)


def main(folder: Path) -> None:
    (folder / "people" / "anna").mkdir(parents=True)
    for number in (1, 2):
        shutil.copy(mini.subject_path() / f"photo_{number}.png", folder / "people" / "anna")
    whole(evaluate(folder, "whole"))
    shutil.copytree(folder / "whole" / "loras", folder / "shared" / "loras")
    done = kill(evaluate(folder, "shared", 0, 2), partial(recorded, folder / "shared" / "records"), least=4)
    half = next((folder / "shared" / "records").glob("*.jsonl"))
    with half.open("ab") as file:  # a line that was being written
        file.write(b'{"person": "an')
    whole(evaluate(folder, "shared", 0, 2))
    before = (folder / "shared" / "report.html").exists()
    whole(evaluate(folder, "shared", 1, 2))
    print(json.dumps({"killed": done, "page_before_all": before}))
