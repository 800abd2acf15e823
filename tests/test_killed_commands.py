"""Both command lines, killed by SIGKILL and started again by the same words, end with the same LoRA as one never stopped."""

from __future__ import annotations

import json
from pathlib import Path

import killed_commands
import pytest
import torch
from forks import fork

from faceexpr_core.lora.files import read_lora

pytestmark = pytest.mark.long


def test_the_same_command_goes_on_with_a_killed_run(tmp_path: Path) -> None:
    done = json.loads(fork(tmp_path, killed_commands.main, tmp_path).printed())
    assert all(2 <= steps < 6 for steps in done.values())
    for name in ("house_{}.safetensors", "paper_{}/pytorch_lora_weights.safetensors"):
        assert_same(tmp_path / name.format("whole"), tmp_path / name.format("killed"))
    assert not [*tmp_path.rglob("*.part")]
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("step*.safetensors"))
    # The published command keeps its checkpoints where it is asked for some: of ours the newest, for a longer run.
    assert left == [f"paper_{name}/checkpoints/step00000006.safetensors" for name in ("killed", "whole")]


def assert_same(whole: Path, killed: Path) -> None:
    (first, told), (second, told_again) = read_lora(whole), read_lora(killed)
    assert first.keys() == second.keys()
    assert all(torch.equal(second[key], value) for key, value in first.items())
    assert told["faceexpr.losses"] == told_again["faceexpr.losses"] and len(json.loads(told["faceexpr.losses"])) == 6
