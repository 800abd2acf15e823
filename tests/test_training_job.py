"""What the node and the commands make of the same wishes: one rule for both, and a refusal in each one's own words."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch

from faceexpr_core.commands import dreambooth, dreambooth_flags
from faceexpr_core.commands.cli import _parser
from faceexpr_core.commands.train import job_of
from faceexpr_core.commands.train_job import TrainJob, _settled
from faceexpr_core.diffusers_host.pipeline import SDXL_CONFIGS
from faceexpr_core.training import auto, memory
from faceexpr_core.training.plan import GB, rest
from faceexpr_core.training.settings import background_of
from faceexpr_core.training.state import RunState, StateFolder, write_state

ROOM = 6 * GB - rest()
"""Of a card on which `auto` alone takes the preset low-vram."""


def command(photos: Path, *more: str) -> TrainJob:
    """The run of `faceexpr train` on a model of SDXL's size, as far as its configuration says."""
    model = photos.parent / "model"
    if not model.is_dir():
        shutil.copytree(SDXL_CONFIGS, model)
    words = [f"--model={model}", f"--photos={photos}", f"--output={photos.parent / 'anna'}"]
    return job_of(_parser().parse_args(["train", *words, *more]))


def node(side: int, name: str = "anna", room: int = ROOM, **widgets: Any) -> Any:
    """The node's run on the same card."""
    job, train = pack.node("training_job"), pack.node("train_lora")
    host = SimpleNamespace(full_size=True, room=lambda: room, draws_whole=False, prediction=dict)
    values, path = {**train.DEFAULTS, "preset": "auto", **widgets}, job.loras_folder() / f"{name}.safetensors"
    subject = SimpleNamespace(resolution=side)
    return job.job_of(subject, job.settle_for(host, subject, path, values), path, values)


@pytest.mark.parametrize("asked", [{}, {"prior_images": 100}], ids=["nothing", "pictures"])
def test_who_says_how_many_pictures_of_the_class_wants_them_of_auto_too(
    comfy_modules: SimpleNamespace, photos: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setattr(memory, "room_on", lambda *_: ROOM)
    line, _ = _settled(command(photos, *(f"--{name}={value}" for name, value in asked.items())), torch.device("cpu"))
    assert [one.settings.prior for one in (line, node(1024, **asked))] == ["images" if asked else "distill"] * 2
    assert node(1024, prior="off", **asked).settings.prior == "off"


@pytest.mark.parametrize(("asked", "weight"), [(None, 1.0), (0.5, 0.5)])
def test_the_background_weighs_what_the_preset_says_that_auto_chose(
    comfy_modules: SimpleNamespace, photos: Path, monkeypatch: pytest.MonkeyPatch, asked: float | None, weight: float
) -> None:
    monkeypatch.setattr(memory, "room_on", lambda *_: 2 * ROOM)
    for core in (auto, importlib.import_module("faceexpr_pack.faceexpr_core.training.auto")):
        monkeypatch.setattr(core, "CANDIDATES", (("paper", {}),))
    line, _ = _settled(command(photos, *([] if asked is None else [f"--background_weight={asked}"])), torch.device("cpu"))
    there = node(line.subject.resolution, room=2 * ROOM, background_weight=-1 if asked is None else asked)
    assert line.preset == there.preset == "paper"
    assert background_of(line.preset, line.background_weight) == there.background_weight == weight


def test_of_auto_alone_nothing_is_said_to_be_left_out_where_nothing_fits(comfy_modules: SimpleNamespace) -> None:
    with pytest.raises(Exception, match=r"^No preset with photos at 1024 px fits: [^;]*; the least, [^;(]*$"):
        node(1024, room=GB)
    with pytest.raises(Exception, match=r"^What was asked for does not fit: .* Leave out what was given beside the preset \(batch_size\)"):
        node(1024, seed=7, more="batch_size=60")


def test_previews_of_loras_of_one_name_in_two_folders_lie_apart(comfy_modules: SimpleNamespace) -> None:
    named = {name: node(512, name, preset="paper").previews for name in ("alice/person", "bob/person", "person.v1", "person")}
    sheets = {name: (one.folder / f"{one.stem}000100.png") for name, one in named.items()}
    home = Path(comfy_modules.folder_paths.get_output_directory()) / "faceexpr" / "previews"
    assert sheets == {name: home / f"{name}_step000100.png" for name in named}


def of_the_node(photos: Path) -> StateFolder:
    states: StateFolder = node(512, "refused").states
    return states


def of_the_command(photos: Path) -> StateFolder:
    states = command(photos).states
    assert states is not None
    return states


def of_the_paper(photos: Path) -> StateFolder:
    folder = photos.parent / "out" / "checkpoints"
    folder.mkdir(parents=True)
    write_state(folder / "step00000005.safetensors", RunState(5, {}, {}, {}))
    words = ["--pretrained_model_name_or_path=mini", f"--instance_data_dir={photos}", "--instance_prompt=a photo of ohwx man"]
    words += [f"--output_dir={folder.parent}", "--seed=0", "--resume_from_checkpoint=latest"]
    states = dreambooth.job_of(dreambooth_flags.build_parser().parse_args(words)).states
    assert states is not None
    return states


@pytest.mark.parametrize(
    ("states_of", "told"),
    [
        (of_the_node, "give another lora_name, or set resume (one of the node's advanced inputs) to 'start anew', which gives it up."),
        (of_the_command, "give another --output, or give --resume off, which gives it up."),
        (of_the_paper, "give another --output_dir, or leave --resume_from_checkpoint out and delete {}, which gives it up."),
    ],
    ids=["node", "command", "paper"],
)
def test_a_run_that_is_not_gone_on_with_says_what_to_do_where_it_was_asked_for(
    comfy_modules: SimpleNamespace, photos: Path, states_of: Callable[[Path], StateFolder], told: str
) -> None:
    states = states_of(photos)
    states.path.mkdir(parents=True, exist_ok=True)
    write_state(states.path / "step00000005.safetensors", RunState(5, {"rank": 4}, {}, {}))
    for ask in (states.to_resume, states.require_same):
        with pytest.raises(Exception, match=r"is not the same: (--)?rank was 4, is 8") as refused:
            ask({"rank": 8})
        assert str(refused.value).endswith(f"is 8. Set these back to go on with it, {told.format(states.path)}")
    with pytest.raises(Exception, match="is not the same: 3 steps are asked for, and it has taken more"):
        states.require_same({"rank": 4, "steps": 3})
    states.require_same({"rank": 4, "steps": 9})
