"""Makes a data set by one process, and by two of which one is killed by SIGKILL and started again.

Prints as JSON how many pictures were recorded when it was killed. Each of them is a fork of this process.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

from killing import forked, kill, recorded, whole
from random_lora import write_lora
from ranked_command import take_rank

from faceexpr_core.commands.cli import main as faceexpr

WORDS = (
    "dataset --model=mini --output_dir={folder}/{name} --people=3 --lora {folder}/test.safetensors --expressions happy "
    "--intensities 0.05 1 --steps=4 --cfg=4 --device=cpu --splits 0.34 0.33 0.33"
)
"""At an intensity of 0.05 no face shows what was asked. The LoRA's name must not make a split of it."""


def make(folder: Path, name: str, rank: int = 0, processes: int = 1) -> int:
    """The process id of one of several processes that make a data set; what it says goes to <name>_<rank>.txt."""

    def work() -> None:
        said = os.open(folder / f"{name}_{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        take_rank(rank, processes=processes)
        assert faceexpr(WORDS.format(folder=folder, name=name).split()) == 0

    return forked(work)


def said_in(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*.txt"))


def main(folder: Path) -> None:
    write_lora(folder / "test.safetensors", {"faceexpr.trigger": "ohwx", "faceexpr.class_word": "woman"})  # as `faceexpr train` says it
    said = partial(said_in, folder)
    whole(make(folder, "whole"), said)
    children = [make(folder, "shared", rank, 2) for rank in (0, 1)]
    done = kill(children[0], partial(recorded, folder / "shared" / "making" / "records"), least=2)
    before = (folder / "shared" / "README.md").exists()
    whole(make(folder, "shared", 0, 2), said)
    whole(children[1], said)
    print(json.dumps({"killed": done, "card_before_all": before}))
