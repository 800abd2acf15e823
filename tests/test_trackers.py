"""`--report_to`: what accelerate's trackers are given, read back from the files that TensorBoard writes; refused where there is none."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import get_available_trackers
from toys import toy_unet

from faceexpr_core import mini
from faceexpr_core.commands.cli import _parser
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.commands.train import job_of
from faceexpr_core.commands.watch import tracker
from faceexpr_core.lora.files import read_lora
from faceexpr_core.training.result import Step

pytestmark = pytest.mark.usefixtures("prepared_here")


def words(tmp_path: Path, *more: str) -> list[str]:
    (tmp_path / "photos").mkdir(exist_ok=True)
    shutil.copy(mini.subject_path() / "photo_1.png", tmp_path / "photos")
    named = ["train", "--model=mini", f"--photos={tmp_path / 'photos'}", f"--output={tmp_path / 'anna'}", "--device=cpu"]
    return [*named, "--preset=paper", "--precision=fp32", "--resolution=64", "--rank=2", "--accumulation=1", *more]


def written(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value) of all event files of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "faceexpr")).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.parametrize("report_to", ["tensorboard", "all"])
@pytest.mark.long
def test_a_run_writes_its_losses_and_rate_at_their_steps(tmp_path: Path, report_to: str) -> None:
    parts = ["--prior=distill", "--crafting_weight=0.1", "--crafting_every=2", "--crafting_ramp=0"]
    rate = ["--steps=4", "--schedule=linear", "--learning_rate=1e-3"]
    assert faceexpr(words(tmp_path, *parts, *rate, f"--report_to={report_to}")) == 0
    told = json.loads(read_lora(tmp_path / "anna.safetensors")[1]["faceexpr.losses"])
    found = written(tmp_path / "anna_logs")
    assert set(found) == {"loss", "learning_rate", "identity", "prior", "crafting"}
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4]
    assert [value for _, value in found["loss"]] == pytest.approx(told, rel=1e-4)
    assert [step for step, _ in found["identity"]] == [step for step, _ in found["prior"]] == [1, 2, 3, 4]
    assert len(found["crafting"]) == 2 and all(value > 0 for _, value in found["crafting"])
    rates = [value for _, value in found["learning_rate"]]
    assert len(rates) == 4 and sorted(rates, reverse=True) == rates and rates[0] > rates[-1]


def test_a_run_that_goes_on_appends(tmp_path: Path) -> None:
    job = replace(job_of(_parser().parse_args(words(tmp_path))), report_to="tensorboard")
    for steps in ((1, 2), (3, 4)):
        with tracker(job.report_to, job.log_folder, job.settings) as log:
            for number in steps:
                log(Step(number, 4, 0.5 * number, 1e-3, toy_unet(), {"identity": 0.25 * number, "prior": float("nan")}))
    found = written(job.log_folder)
    # TensorBoard reads files of one second by their counter as text: the tenth before the ninth.
    assert sorted(found["loss"]) == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
    assert sorted(found["identity"]) == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)] and "prior" not in found


@pytest.mark.parametrize("report_to", ["wandb", "comet_ml"])
def test_a_tracker_that_is_not_installed_is_refused(tmp_path: Path, report_to: str, capsys: Any) -> None:
    assert report_to not in [str(name) for name in get_available_trackers()]
    assert faceexpr(words(tmp_path, f"--report_to={report_to}")) == 2
    told = capsys.readouterr().err
    assert f"--report_to {report_to}" in told and "or give --report_to none" in told and told.count("\n") == 1
    assert not (tmp_path / "anna_logs").exists()
