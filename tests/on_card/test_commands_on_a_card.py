"""The command line from end to end on the pretended card, and a card that is too small in each phase. Run by `make card`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faceexpr_core import mini
from faceexpr_core.cli import main
from faceexpr_core.diffusers_host import pipeline
from faceexpr_core.diffusers_host.training import DiffusersHost
from faceexpr_core.lora.files import read_lora
from faceexpr_core.training import loop, previews
from faceexpr_core.training.trainer import Trainer
from lab.pretended.card import PretendedCard


@pytest.fixture
def card() -> Iterator[PretendedCard]:
    with PretendedCard("values") as there:
        yield there


def train(folder: Path, **more: Any) -> tuple[int, Path]:
    """The command's status, and where the LoRA should lie."""
    output = folder / "person.safetensors"
    words = [f"--photos={mini.subject_path()}", "--model=mini", "--trigger=ohwx", "--class_word=woman", f"--output={output}"]
    settings = {"resolution": 64, "steps": 3, "rank": 4, "accumulation": 1, "prior_images": 1, "preview_every": 2, "state_every": 1, **more}
    return main(["train", *words, *(f"--{name}={value}" for name, value in settings.items())]), output


def short_in(monkeypatch: pytest.MonkeyPatch, card: PretendedCard, owner: Any, name: str, call: int = 1) -> None:
    """From the `call`-th call of a function on there is no byte left while it runs."""
    whole, calls = getattr(owner, name), 0

    def short(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < call:
            return whole(*arguments, **named)
        card.ledger.limit = card.ledger.current
        try:
            return whole(*arguments, **named)
        finally:
            card.ledger.limit = None

    monkeypatch.setattr(owner, name, short)


def test_train_generate_and_extract(card: PretendedCard, tmp_path: Path) -> None:
    status, lora = train(tmp_path, learning_rate=1e-2)
    assert status == 0
    state, told = read_lora(lora)
    assert told["faceexpr.steps"] == "3" and len(json.loads(told["faceexpr.losses"])) == 3
    assert any("lora_te" in key for key in state)
    assert (tmp_path / "person_previews" / "step000002.png").is_file()
    words = ["--model=mini", "--prompt=a photo of ohwx woman", "--steps=3", f"--lora={lora}", "--width=96", "--height=96"]
    drawn = ["generate", *words, f"--output_dir={tmp_path / 'drawn'}"]
    assert main([*drawn, "--expression", "neutral", "happy", "--fusion_strength=1"]) == 0
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 2
    assert any("training/" in line for _, line in card.ledger.waits)


@pytest.fixture
def full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mini in SDXL's place: what is planned and chosen is SDXL's, what runs is not."""
    monkeypatch.setattr(pipeline, "is_full_size", lambda path: True)
    plain = DiffusersHost.__init__

    def made(self: DiffusersHost, *given: Any) -> None:
        plain(self, *given)
        self.full_size = True

    monkeypatch.setattr(DiffusersHost, "__init__", made)


def test_auto_and_the_plan_are_said_before_anything_is_drawn(
    card: PretendedCard, full_size: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lora = train(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    starts = (
        "auto: preset default, photos at 64 px, without gradient checkpointing",
        "plan: preset default",
        "drawing 1 pictures",
        "step ",
    )
    places = [next(number for number, line in enumerate(lines) if line.startswith(start)) for start in starts]
    assert status == 0 and places == sorted(places)
    assert "TFLOP/s: one call of the U-Net, timed" in "".join(lines)
    told = read_lora(lora)[1]
    assert told["faceexpr.preset"] == "default" and json.loads(told["faceexpr.settings"])["gradient_checkpointing"] is False


@pytest.mark.parametrize("preset", ["auto", "default"])
def test_what_does_not_fit_is_refused_before_anything_is_drawn(
    full_size: None, preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with PretendedCard("values", total=2 << 30):
        status, _ = train(tmp_path, preset=preset)
    told = capsys.readouterr().err
    assert status == 2 and "does not fit: 1.0 GB are free for it. Nothing would fit; the least, preset low-vram" in told
    assert {one.name for one in tmp_path.iterdir()} <= {"person_previews"}  # what was made of the photos may be seen


def test_pictures_of_the_class_that_do_not_fit_are_refused_before_one_is_drawn(
    full_size: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with PretendedCard("values", total=round(5.5 * (1 << 30))):
        status, lora = train(tmp_path, preset="low-vram", base="nf4", prior="images")
    told = capsys.readouterr().err
    assert status == 2 and "draws pictures of the class before its steps, which takes 4.8 GB of the card and does not fit: 4.5 GB" in told
    assert not lora.exists() and not list(tmp_path.rglob("0*.png"))


FATAL = {
    "preparing the training": (DiffusersHost, "encode_images"),
    "drawing the pictures of the class": (DiffusersHost, "draw"),
    "setting up the training": (Trainer, "__init__"),
}


@pytest.mark.parametrize("doing", FATAL)
def test_before_the_first_step_it_is_said_in_a_sentence(
    card: PretendedCard, doing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short_in(monkeypatch, card, *FATAL[doing])
    status, lora = train(tmp_path)
    told = capsys.readouterr().err
    assert status != 0 and f"faceexpr: The device ran out of memory while {doing}" in told and "low-vram" in told
    assert not lora.exists()


def test_in_a_step_what_was_learned_is_saved_and_the_same_command_goes_on(
    card: PretendedCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        short_in(patched, card, Trainer, "step", call=3)
        status, lora = train(tmp_path)
    told = capsys.readouterr()
    assert status != 0 and "faceexpr: The device ran out of memory while training" in told.err
    assert not lora.exists() and read_lora(Path(told.out.split()[-1]))[1]["faceexpr.steps"] == "2"
    status, lora = train(tmp_path)
    assert status == 0 and read_lora(lora)[1]["faceexpr.steps"] == "3"


def test_in_a_preview_the_run_goes_on_without_it(
    card: PretendedCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short_in(monkeypatch, card, previews, "preview_latents")
    status, lora = train(tmp_path)
    assert status == 0 and read_lora(lora)[1]["faceexpr.steps"] == "3"
    assert "the preview of step 2 is left out: the device has no memory for it" in capsys.readouterr().err


@pytest.mark.parametrize(("owner", "name"), [(loop, "state_of"), (Trainer, "lora_layers")], ids=["state", "LoRA"])
def test_saving_needs_no_memory_of_the_card(
    card: PretendedCard, owner: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short_in(monkeypatch, card, owner, name)
    status, lora = train(tmp_path)
    assert status == 0 and read_lora(lora)[1]["faceexpr.steps"] == "3"
    assert "could not be saved" not in capsys.readouterr().err
