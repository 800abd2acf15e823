"""The benchmark of what training costs measures a trainer in a process of its own, out of any checkout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from faceexpr_core import mini
from lab.benchmarks import trainer_cost
from lab.benchmarks.comfyui_here import REPOSITORY
from lab.benchmarks.trainer_models import write_photos
from lab.benchmarks.trainer_runs import Task

pytestmark = pytest.mark.long


def test_the_trainer_of_a_checkout_is_measured(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 64)
    ran, before = tmp_path / "ran", tmp_path / "before"
    (before / "faceexpr_core").mkdir(parents=True)
    for path in (REPOSITORY / "faceexpr_core").iterdir():
        (before / "faceexpr_core" / path.name).symlink_to(path)
    train = before / "faceexpr_core" / "train.py"
    source = train.read_text()
    train.unlink()
    train.write_text(f"open({str(ran)!r}, 'w').close()\n{source}")
    task = Task("faceexpr", str(mini.path()), str(tmp_path / "photos"), str(tmp_path), side=64, rank=4, steps=5, threads=1)
    one = trainer_cost.measure(replace(task, checkout=str(before)))
    assert ran.exists()
    assert one.steps == 5
    assert one.rows == 1
    assert one.seconds > 0
    assert one.memory.peak > one.memory.before > 0
