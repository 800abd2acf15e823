"""Runs both command lines in one go, and killed by SIGKILL and started again by the same words.

Prints as JSON how many steps were done when they were killed. Each of them is a fork of this process.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

from killed_run import newest_step
from killing import forked, kill, whole
from prepared import prepare_here

from faceexpr_core import mini
from faceexpr_core.commands.cli import main as house
from faceexpr_core.commands.dreambooth import main as paper
from faceexpr_core.photos import subject_process

STEPS = 6
PAPER = (
    "--pretrained_model_name_or_path=mini --instance_data_dir={folder}/photos --output_dir={folder}/paper_{name} --resolution=64 "
    "--train_batch_size=1 --max_train_steps={steps} --rank=2 --learning_rate=1e-3 --lr_scheduler=cosine --lr_warmup_steps=2 --snr_gamma=5 "
    "--checkpointing_steps=1 --checkpoints_total_limit=2 --resume_from_checkpoint=latest --seed=3 --report_to=none --device=cpu "
    "--with_prior_preservation --class_data_dir={folder}/paper_{name}/class --num_class_images=1"
)
HOUSE = (
    "train --model=mini --photos={folder}/photos --output={folder}/house_{name} --preset=paper --precision=fp32 --resolution=64 "
    "--steps={steps} --rank=2 --accumulation=1 --learning_rate=1e-3 --ema=0.9 --noise_offset=0.1 --caption_dropout=0.3 "
    "--no-gradient_checkpointing --state_every=1 --file_precision=fp32 --device=cpu"
)


def words(line: str, folder: Path, name: str) -> list[str]:
    return line.format(folder=folder, name=name, steps=STEPS).split()


def run_paper(folder: Path, name: str) -> None:
    prompts = ["--instance_prompt=a photo of ohwx woman", "--class_prompt=a photo of a woman"]
    assert paper([*words(PAPER, folder, name), *prompts]) == 0


def run_house(folder: Path, name: str) -> None:
    assert house(words(HOUSE, folder, name)) == 0


def killed(work: Callable[[], None], states: Path) -> int:
    """Runs `work` until its second state lies in `states`; the number of steps of the last."""
    kill(started(work), partial(newest_step, states), least=2)
    return newest_step(states)


def started(work: Callable[[], None]) -> int:
    def quietly() -> None:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        with mock.patch.object(subject_process, "prepare_apart", prepare_here):
            work()

    return forked(quietly)


def main(folder: Path) -> None:
    (folder / "photos").mkdir()
    shutil.copy(mini.subject_path() / "photo_1.png", folder / "photos")
    done = {}
    for run, states in ((run_house, "house_killed_state"), (run_paper, "paper_killed/checkpoints")):
        whole(started(partial(run, folder, "whole")))
        done[run.__name__] = killed(partial(run, folder, "killed"), folder / states)
        whole(started(partial(run, folder, "killed")))
    print(json.dumps(done))
