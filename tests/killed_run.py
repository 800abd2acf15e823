"""Trains on Mini once in one go and once killed by SIGKILL at ten random moments.

Prints how often it was killed and the latest step that it was resumed from. Each run is a fork of this process, which forks.py started.
"""

from __future__ import annotations

import json
import os
import random
import time
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from killing import forked, kill, whole

from faceexpr_core import mini
from faceexpr_core.lora.files import save_lora
from faceexpr_core.lora.kohya import to_kohya
from faceexpr_core.training.crafting import CraftingSet
from faceexpr_core.training.data import TrainingSet
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.settings import TrainSettings
from faceexpr_core.training.state import StateFolder, read_state

KILLS = 10
SETTINGS = TrainSettings(rank=4, steps=36, accumulation=1, learning_rate=1e-3, crafting_weight=0.05, crafting_every=4, schedule="cosine")


def train(folder: Path, name: str) -> None:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sizes = torch.tensor([[128.0, 128.0, 0.0, 0.0, 128.0, 128.0]]).repeat(3, 1)
    photos = TrainingSet(draw(3, 4, 8, 8), draw(3, 77, 96), draw(3, 64), sizes, torch.ones(3, 1, 8, 8))
    pairs = CraftingSet(("happy",), draw(1, 2, 77, 96), draw(1, 2, 64), draw(1, 2, 77, 96), draw(1, 2, 64))
    states = StateFolder(folder / f"{name}_states", every=1)
    unet = UNet2DConditionModel.from_pretrained(mini.path() / "unet", torch_dtype=torch.float32)
    result = train_lora(unet, photos, SETTINGS, crafting=pairs, states=states)
    told = {"losses": json.dumps(result.losses), "curves": json.dumps(result.curves)}
    save_lora(folder / f"{name}.safetensors", to_kohya(result.layers, result.alpha), told, torch.float32)


def newest_step(folder: Path) -> int:
    """As the files' names say, whether whole or not."""
    return max((int(file.stem.removeprefix("step")) for file in StateFolder(folder).files()), default=0)


def check_whole(folder: Path) -> None:
    for file in StateFolder(folder).files():
        read_state(file)


def seconds_a_step(folder: Path) -> float:
    """Of the run that is not stopped, as its states came."""
    child, came = forked(lambda: train(folder, "whole")), dict[int, float]()
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        came.setdefault(newest_step(folder / "whole_states"), time.monotonic())
        time.sleep(0.002)
    assert ended[1] == 0, "the run that nobody stopped did not end well"
    first, *_, last = (step for step in came if step)
    return (came[last] - came[first]) / (last - first)


def main(folder: Path) -> None:
    a_step = seconds_a_step(folder)
    chance, killed = random.Random(7), folder / "killed_states"
    resumed_at = 0
    for _ in range(KILLS):
        before = newest_step(killed)
        resumed_at = max(resumed_at, before)
        goal = before + chance.randint(0, 1)
        child = forked(lambda: train(folder, "killed"))
        kill(child, partial(newest_step, killed), goal, a_step / 10, chance.uniform(0, 1.5 * a_step))
        check_whole(killed)
    whole(forked(lambda: train(folder, "killed")))
    print(KILLS, resumed_at)
