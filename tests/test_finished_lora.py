"""A LoRA that the very run asked for has saved before is taken as it is, in both hosts; anything else trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pack
import pytest
import ranked_command
import torch
from comfy_process import free_port
from forks import fork
from safetensors.torch import load_file, save_file
from test_run import subject_of, words

from faceexpr_core import mini
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.lora.files import read_lora
from faceexpr_core.lora.finished import finished_at, last_run
from faceexpr_core.training import run

pytestmark = pytest.mark.usefixtures("prepared_here")
TAKEN = "anna.safetensors was learned from the same photos, on the same model, with the same settings: it is taken. --resume off trains it"


class Trains(Exception):
    """A training would begin."""


def begins(*_: object, **__: object) -> None:
    raise Trains


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos and a LoRA of them."""
    folder = tmp_path_factory.mktemp("learned")
    (folder / "photos").mkdir()
    shutil.copy(mini.subject_path() / "photo_1.png", folder / "photos")
    assert faceexpr(words(folder / "photos", "--steps=1")) == 0
    return folder


@pytest.fixture
def again(learned: Path, tmp_path: Path) -> Path:
    """The same folder to change things in."""
    return Path(shutil.copytree(learned, tmp_path / "again"))


def test_the_same_command_takes_what_it_learned(again: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "train_lora", begins)
    assert faceexpr(words(again / "photos", "--steps=1")) == 0
    told = capsys.readouterr()
    assert told.out == f"{again / 'anna.safetensors'}\n" and TAKEN in told.err
    assert [file.name for file in again.glob("*.safetensors")] == ["anna.safetensors"]


@pytest.mark.parametrize(
    "more",
    [
        ["--steps=2"],
        ["--seed=5"],
        ["--rank=3"],
        ["--file_precision=fp32"],
        ["--resume=off"],
        ["--trigger=sks"],
        ["--background_weight=0.7"],
    ],
    ids=" ".join,
)
def test_another_wish_trains(again: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    monkeypatch.setattr(run, "train_lora", begins)
    with pytest.raises(Trains):
        faceexpr(words(again / "photos", "--steps=1", *more))


def test_another_photo_trains(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "train_lora", begins)
    shutil.copy(mini.subject_path() / "photo_2.png", again / "photos")
    with pytest.raises(Trains):
        faceexpr(words(again / "photos", "--steps=1"))


def test_what_was_stopped_or_says_nothing_is_not_taken_and_a_number_is(again: Path) -> None:
    file = again / "anna.safetensors"
    state, said = load_file(file), read_lora(file)[1]
    made = json.loads(said["faceexpr.run"])
    assert finished_at(file, made, "fp16") == file and last_run(file) == made
    for changed in (
        {**said, "faceexpr.interrupted": "true"},
        {**said, "faceexpr.run": "{"},
        {key: value for key, value in said.items() if key != "faceexpr.run"},
    ):
        save_file(state, file, changed)
        assert finished_at(file, made, "fp16") is None and last_run(file) is None
    numbered = again / "anna_00001_.safetensors"
    save_file(state, numbered, said)
    assert finished_at(file, made, "fp16") == numbered
    file.write_text("no LoRA")
    assert finished_at(file, made, "fp16") == numbered and last_run(file) == made
    assert finished_at(file, {**made, "steps": 2}, "fp16") is finished_at(file, made, "fp32") is None


def test_the_node_takes_it_too_and_applies_it(comfy_modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node, host, subject = pack.node("train_lora"), pack.host(), subject_of(comfy_modules)
    told: list[str] = []
    monkeypatch.setattr(pack.node("host.training").Page, "warn", lambda self, text: told.append(text))
    wishes = {"preset": "paper", "steps": 1, "accumulation": 1, "lora_name": "taken/anna", "seed": 1, "preview_every": 0}

    def trained(**more: Any) -> tuple[Any, ...]:
        with torch.inference_mode():
            model, clip, vae = host.load_mini()
            result: tuple[Any, ...] = node.TrainLoRA.execute(model=model, clip=clip, vae=vae, subject=subject, **wishes, **more).result
            return result

    first, again = trained(), trained()
    assert first[1] == again[1] and any("it is taken. To learn it again, set resume to 'start anew'" in text for text in told)
    patches = [{key: len(one) for key, one in result[0].patches.items()} for result in (first, again)]
    assert patches[0] == patches[1] and patches[0]
    assert again[2].shape == first[2].shape and float(again[2].std()) > 0  # its loss curve, from the file
    assert trained(resume="start anew")[1].endswith("anna_00001_.safetensors")


@pytest.mark.long
def test_of_two_processes_one_looks_and_both_take_it(again: Path) -> None:
    asked = words(again / "photos", "--steps=1", "--report_to=none")

    def both() -> list[str]:
        port = free_port()
        ran = [fork(again, ranked_command.taking, rank, port, asked, name=f"rank {rank}") for rank in (0, 1)]
        assert [one.ended(timeout=200) for one in ran] == [0, 0], [one.errors.read_text() for one in ran]
        return [one.errors.read_text() for one in ran]

    first, second = both()
    assert "it is taken" not in first and (again / "anna_00001_.safetensors").is_file()  # two processes see twice as much in a step
    first, second = both()
    assert "it is taken" in first and "it is taken" not in second
    assert not (again / "anna_00002_.safetensors").exists()
