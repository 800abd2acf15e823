"""A run that stops on the way says truly how to go on with it, at each door; and what was finished before is found all the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from test_run import MEMORY, words

from faceexpr_core import mini
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.commands.dreambooth import main as papers
from faceexpr_core.training import run
from faceexpr_core.training.state import RunState, StateFolder, write_state
from faceexpr_core.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("prepared_here")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out in the second step."""
    step = Trainer.step

    def failing(self: Trainer) -> dict[str, float]:
        if self.steps_done:
            raise MEMORY
        return step(self)

    monkeypatch.setattr(Trainer, "step", failing)


def of_the_paper(photos: Path, *more: str) -> list[str]:
    named = ["--pretrained_model_name_or_path=mini", f"--instance_data_dir={photos}", "--instance_prompt=a photo of ohwx woman"]
    sizes = ["--resolution=64", "--rank=2", "--max_train_steps=3", "--device=cpu", "--seed=0", "--mixed_precision=no", "--report_to=none"]
    sizes.append("--lr_warmup_steps=0")
    return [*named, f"--output_dir={photos.parent / 'out'}", *sizes, *more]


@pytest.mark.parametrize(
    ("more", "again"),
    [
        ((), "; the same command goes on from here"),
        (("--resume=auto",), "; the same command goes on from here"),
        (("--resume=off",), "; the same command without --resume off goes on from here"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("short")
def test_a_run_out_of_memory_says_how_to_go_on_with_it(
    photos: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], again: str
) -> None:
    assert faceexpr(words(photos, "--steps=3", *more)) == 2
    told = capsys.readouterr().err
    assert f"stopped after 1 of 3 steps; the LoRA so far is saved as {photos.parent / 'anna'}" in told and f"{again}\n" in told
    last = told.splitlines()[-1]
    assert last.startswith("faceexpr: The device ran out of memory while training (batch size 1, rank 2): CUDA out of memory.")
    assert "(`nvidia-smi` shows it), or switch gradient checkpointing on, and run the same again." in last
    assert "another run, and wants another name: base nf4, or smaller photos, or a lower rank." in last
    assert StateFolder(photos.parent / "anna_state").newest() == 1


@pytest.mark.usefixtures("short")
def test_who_computes_activations_again_is_not_told_to(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert faceexpr(words(photos, "--steps=3", "--gradient_checkpointing", "--base=nf4", "--batch_size=2")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "(`nvidia-smi` shows it) and run the same again." in last
    assert last.endswith("another name: batch size 1 with more accumulation, or smaller photos, or a lower rank.")


@pytest.mark.usefixtures("short")
def test_a_run_without_a_state_is_not_said_to_go_on(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: StateFolder, state: RunState) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StateFolder, "write", full)
    assert faceexpr(words(photos, "--steps=3")) == 2
    assert "stopped after 1 of 3 steps" in (told := capsys.readouterr().err) and "goes on" not in told


@pytest.mark.usefixtures("short")
def test_the_papers_command_says_it_in_its_own_flags(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert papers(of_the_paper(photos)) == 2
    assert "; the same command with --resume_from_checkpoint latest goes on from here\n" in capsys.readouterr().err
    assert papers(of_the_paper(photos, "--resume_from_checkpoint=latest")) == 2
    assert "; the same command goes on from here\n" in capsys.readouterr().err
    changed = ("--train_batch_size=2", "--gradient_accumulation_steps=3", "--snr_gamma=5", "--lr_scheduler=cosine", "--use_8bit_adam")
    assert papers(of_the_paper(photos, "--resume_from_checkpoint=latest", *changed)) == 2
    told = capsys.readouterr().err
    for name in ("train_batch_size was 4, is 2", "gradient_accumulation_steps was 1, is 3", "snr_gamma was 0.0, is 5.0"):
        assert f"--{name}" in told
    assert "--lr_scheduler was constant, is cosine" in told and "--use_8bit_adam was adamw, is adamw8bit" in told


def test_states_that_lie_elsewhere_are_not_to_be_deleted(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = photos.parent / "before"
    write_state(elsewhere / "step00000001.safetensors", RunState(1, {"rank": 4}, {}, {}))
    assert papers(of_the_paper(photos, f"--resume_from_checkpoint={elsewhere}")) == 2
    assert "give another --output_dir, or leave --resume_from_checkpoint out." in capsys.readouterr().err


@pytest.mark.parametrize("steps", [1, 5], ids=["of another run", "of this one, lengthened"])
def test_a_finished_lora_is_taken_whatever_state_lies_under_its_name(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """With pictures of the class, which a run asks for before all that it is made of is known."""
    (photos.parent / "class").mkdir()
    shutil.copy(mini.subject_path() / "photo_2.png", photos.parent / "class")
    asked = words(photos, "--steps=1", "--prior=images", f"--class_images={photos.parent / 'class'}", "--prior_images=1")
    assert faceexpr(asked) == 0
    made = {"rank": 4} if steps == 1 else {"steps": steps}
    write_state(photos.parent / "anna_state" / "step00000005.safetensors", RunState(steps, made, {}, {"a": torch.zeros(1)}))
    monkeypatch.setattr(run, "train_lora", None)
    assert faceexpr(asked) == 0
    assert "it is taken" in capsys.readouterr().err
    assert faceexpr([*asked, "--seed=3"]) == 2  # that one is asked for anew
    assert "is not the same" in capsys.readouterr().err
