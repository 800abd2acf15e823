"""The preset `auto`, and a run that was stopped or has finished: chosen again where it is gone on with or taken, and there alone, on both
doors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pack
import pytest
import torch
from safetensors.torch import save_file

from faceexpr_core.commands.cli import _parser
from faceexpr_core.commands.train import job_of
from faceexpr_core.commands.train_job import _settled
from faceexpr_core.diffusers_host.pipeline import SDXL_CONFIGS
from faceexpr_core.errors import FaceExprError
from faceexpr_core.training import memory
from faceexpr_core.training.auto import Settled, settle
from faceexpr_core.training.options import RESUME
from faceexpr_core.training.plan import GB, rest
from faceexpr_core.training.settings import RESUME as RESUMES
from faceexpr_core.training.state import FORMAT, RunState, StateFolder, read_head, read_state, write_state

LABELS = {value: label for label, value in RESUME.items()}
"""What the node calls each way to resume."""


def small_then_large() -> tuple[Settled, int]:
    """What a run on a card of 8 GB was begun with, and the room of one of 24 GB."""
    return settle("auto", {}, None, 8 * GB - rest()), 24 * GB - rest()


def keep(what: str, states: Path, lora: Path, begun: Settled) -> None:
    """A state of a stopped run, or a finished one's LoRA."""
    run = json.loads(json.dumps({**begun.settings.used(), "side": begun.side, "photos": "abc"}))
    if what == "stopped":
        states.mkdir(parents=True)
        write_state(states / "step00000100.safetensors", RunState(100, run, {}, {"weight.0": torch.ones(3)}))
    else:
        lora.parent.mkdir(parents=True, exist_ok=True)
        save_file({"weight": torch.ones(3)}, lora, {"faceexpr.run": json.dumps(run)})


@pytest.mark.parametrize("what", ["stopped", "finished"])
@pytest.mark.parametrize("resume", RESUMES)
def test_a_command_that_starts_anew_takes_what_the_card_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: str, what: str
) -> None:
    begun, room = small_then_large()
    monkeypatch.setattr(memory, "room_on", lambda *_: room)
    shutil.copytree(SDXL_CONFIGS, tmp_path / "model")
    (tmp_path / "photos").mkdir()
    shutil.copy(Path(__file__).parent / "data" / "rendered_faces.jpg", tmp_path / "photos")
    words = [f"--model={tmp_path / 'model'}", f"--photos={tmp_path / 'photos'}", f"--output={tmp_path / 'anna'}", "--preset=auto"]
    job = job_of(_parser().parse_args(["train", *words, f"--resume={resume}"]))
    assert job.states is not None and job.states.resume == resume
    keep(what, job.states.path, job.output, begun)
    settled, told = _settled(job, torch.device("cpu"))
    expected = settle("auto", {}, None, room) if resume == "off" else begun
    assert (settled.preset, settled.settings, settled.subject.resolution) == (expected.preset, expected.settings, expected.side)
    assert told.startswith(f"auto: preset {expected.preset}") and begun.settings.base == "nf4"


@pytest.mark.parametrize("what", ["stopped", "finished"])
@pytest.mark.parametrize("resume", RESUMES)
def test_a_node_that_starts_anew_takes_what_the_card_allows(comfy_modules: SimpleNamespace, resume: str, what: str) -> None:
    begun, room = small_then_large()
    job, train = pack.node("training_job"), pack.node("train_lora")
    host = SimpleNamespace(full_size=True, room=lambda: room, draws_whole=False, prediction=dict)  # there is no card here
    values = {**train.DEFAULTS, "preset": "auto", "resume": LABELS[resume]}
    path = job.loras_folder() / f"{what}_{resume}.safetensors"
    states = job.states_at(path, values)
    keep(what, states.path, path, begun)
    settled = job.settle_for(host, SimpleNamespace(resolution=begun.side), path, values)
    expected = settle("auto", {}, begun.side, room, draws=False) if resume == "off" else begun
    assert (settled.preset, vars(settled.settings)) == (expected.preset, vars(expected.settings))


def test_what_a_stopped_run_is_made_of_is_read_without_its_tensors(tmp_path: Path) -> None:
    """A state of 64 GB, as far as its header says: a file with a hole."""
    path, size = tmp_path / "step00000007.safetensors", 64 << 30
    own = json.dumps({"step": 7, "run": {"rank": 32}, "values": {}})
    tensor = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {FORMAT: own}, "weight.0": tensor}).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    assert read_head(path).run == {"rank": 32} == StateFolder(tmp_path).stopped_run()
    assert StateFolder(tmp_path, resume="off").stopped_run() is None


def test_a_newest_state_that_is_not_whole_is_passed_over_as_when_it_is_gone_on_with(tmp_path: Path) -> None:
    for step in (5, 9):
        write_state(tmp_path / f"step{step:08}.safetensors", RunState(step, {"rank": step}, {}, {"weight.0": torch.ones(100)}))
    newest = tmp_path / "step00000009.safetensors"
    newest.write_bytes(newest.read_bytes()[:-40])
    latest = StateFolder(tmp_path).latest()
    assert latest is not None and latest.run == StateFolder(tmp_path).stopped_run() == {"rank": 5}
    for read in (read_head, read_state):
        with pytest.raises(FaceExprError, match=r"cannot be read as the state of a training run .* delete it, or train anew"):
            read(newest)
