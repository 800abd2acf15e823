"""A run is given more steps, or starts from a LoRA file; what is not gone on with is said."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy_process import ComfyError, ComfyProcess, copy_subject
from distances import relative
from safetensors.torch import load_file, save_file
from test_train_node import graph
from test_training_state import PAIRS, PHOTOS, Stop, assert_same
from toys import lora_of, toy_unet

from faceexpr_core import mini
from faceexpr_core.commands.dreambooth import main as paper
from faceexpr_core.errors import FaceExprError
from faceexpr_core.lora.files import read_lora
from faceexpr_core.lora.formats import decode, encode
from faceexpr_core.lora.start import read_start
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.result import Step, TrainResult
from faceexpr_core.training.settings import SCHEDULES, TrainSettings
from faceexpr_core.training.start import Start
from faceexpr_core.training.state import StateFolder

PLAIN = TrainSettings(rank=2, steps=3, batch_size=2, accumulation=1, learning_rate=1e-2, ema=0.9, seed=3, optimizer="adamw")


def train(settings: TrainSettings, states: StateFolder | None = None, stop_at: int = 0, **more: Any) -> tuple[TrainResult, list[float]]:
    """The result, and the learning rate after each step."""
    rates: list[float] = []

    def on_step(step: Step) -> None:
        rates.append(step.learning_rate)
        if step.number == stop_at:
            raise Stop

    return train_lora(toy_unet(), PHOTOS, settings, on_step, crafting=PAIRS, states=states, **more), rates


def test_a_finished_run_with_a_constant_rate_is_lengthened_to_what_it_would_have_been(tmp_path: Path) -> None:
    states = StateFolder(tmp_path / "run", every=2, lengthened_later=True)
    train(PLAIN, states)
    states.finish()
    assert [file.name for file in states.files()] == ["step00000003.safetensors"]
    longer, rates = train(replace(PLAIN, steps=6), states)
    assert_same(longer, train(replace(PLAIN, steps=6))[0])
    assert len(rates) == 3
    assert longer.notes == (
        "The run was planned with 3 steps and goes on from 3 to 6: "
        "the learning rate is constant, so that the LoRA is that of a run planned so.",
    )


FALLING: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "cosine_with_restarts": lambda done: (1 + math.cos(math.pi * done)) / 2,  # diffusers' one cycle
    "polynomial": lambda done: 1 - done * (1 - 1e-4),  # to a ten-thousandth, as in diffusers' script
}
"""The share of the learning rate where a share `done` of the steps after the warm-up is done."""


@pytest.mark.parametrize("rate", [1e-2, 1e-8])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_rises_over_the_warm_up_and_falls_as_its_schedule_says(schedule: str, rate: float) -> None:
    _, rates = train(replace(PLAIN, schedule=schedule, learning_rate=rate, steps=7, warmup=2))
    expected = [0.5, 1.0, *(FALLING[schedule](done / 5) for done in range(1, 6))]
    assert rates == pytest.approx([rate * share for share in expected], rel=1e-9, abs=1e-9 * rate)


def test_a_polynomial_rate_has_a_step_after_its_warm_up() -> None:
    with pytest.raises(FaceExprError, match="warmup is 3, all of the run, after which a polynomial schedule has no step; give fewer"):
        replace(PLAIN, schedule="polynomial", warmup=3)
    _, rates = train(replace(PLAIN, schedule="polynomial", warmup=2))
    assert rates == pytest.approx([0.5e-2, 1e-2, 1e-6])


def test_where_crafting_rose_over_the_first_plan_a_lengthened_run_does_not_claim_to_be_that_of_a_run_planned_so(tmp_path: Path) -> None:
    states, crafted = StateFolder(tmp_path / "run", every=2, lengthened_later=True), replace(PLAIN, crafting_weight=1.0, crafting_every=1)
    train(replace(crafted, steps=10), states)
    states.finish()
    longer, _ = train(replace(crafted, steps=20), states)
    planned = train(replace(crafted, steps=20))[0]
    assert max(abs(one - other) for one, other in zip(longer.losses, planned.losses, strict=True)) > 1e-4
    (told,) = longer.notes
    assert "the learning rate is constant; the weight of crafting rose over 2 steps, and would have over 4 in a run planned so" in told


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_lengthened_schedule_is_that_of_the_new_length_from_there_on_and_is_said(tmp_path: Path, schedule: str) -> None:
    states, settings = StateFolder(tmp_path / "run"), replace(PLAIN, schedule=schedule, warmup=1)
    first, _ = train(settings, states)
    longer, rates = train(replace(settings, steps=8), states)
    whole, all_rates = train(replace(settings, steps=8))
    assert rates == pytest.approx(all_rates[3:]) and rates[0] > 0
    assert longer.losses[:3] == first.losses and longer.losses[3:] != whole.losses[3:]
    (note,) = longer.notes
    assert f"planned with 3 steps and goes on from 3 to 8: the learning rate, 0 there, follows {schedule} over 8 steps from here" in note


def test_a_stopped_run_may_get_another_length_and_crafting_is_said(tmp_path: Path) -> None:
    states, settings = StateFolder(tmp_path / "run", every=1), replace(PLAIN, crafting_weight=0.5, steps=9)
    train(settings, states, stop_at=4)
    shorter, rates = train(replace(settings, steps=5), states)
    assert shorter.steps == 5 and len(rates) == 1 and "planned with 9 steps and goes on from 4 to 5" in shorter.notes[0]
    train(replace(settings, steps=6), StateFolder(tmp_path / "early", every=1), stop_at=1)
    longer, _ = train(replace(settings, steps=60), StateFolder(tmp_path / "early", every=1), stop_at=3)
    assert "the weight of crafting rises over 20% of 60 steps" in longer.notes[0]


def test_fewer_steps_than_were_taken_are_refused_or_begun_anew_and_no_more_than_were_taken_is_said(tmp_path: Path) -> None:
    states = StateFolder(tmp_path / "run")
    train(PLAIN, states)
    with pytest.raises(FaceExprError, match="stands after 3 steps and is not the same: 2 steps are asked for, and it has taken more"):
        train(replace(PLAIN, steps=2), states)
    again, rates = train(PLAIN, states)
    assert not rates and again.notes == ("All 3 steps were taken before; give more to go on.",)
    anew, rates = train(replace(PLAIN, steps=2), replace(states, resume="auto"))
    assert len(rates) == 2 and anew.steps == 2


def file_of(result: TrainResult, path: Path, spelling: str = "kohya") -> Path:
    encoded = encode(decode(lora_of(result), {}, {}), spelling)
    save_file({key: value.contiguous() for key, value in encoded.state.items()}, path, encoded.metadata)
    return path


def change(layers: dict[str, tuple[torch.Tensor, torch.Tensor]], alpha: float) -> dict[str, torch.Tensor]:
    return {name: alpha / len(down) * up.flatten(1) @ down.flatten(1) for name, (down, up) in layers.items()}


STILL = replace(PLAIN, steps=1, learning_rate=1e-8, weight_decay=0.0, ema=0.0)


@pytest.mark.parametrize("spelling", ["kohya", "diffusers"])
@pytest.mark.parametrize(("rank", "alpha"), [(2, 0.0), (2, 1.0), (5, 3.0)])
def test_a_run_starts_from_the_change_that_the_file_makes(tmp_path: Path, spelling: str, rank: int, alpha: float) -> None:
    first, _ = train(replace(PLAIN, alpha=3.0, convolutions=True))
    start = read_start(file_of(first, tmp_path / "first.safetensors", spelling))
    began, _ = train(replace(STILL, rank=rank, alpha=alpha, convolutions=True), start=start)
    expected, made = change(dict(first.layers), 3.0), change(dict(began.layers), began.alpha)
    assert made.keys() == expected.keys() and max(float(value.norm()) for value in expected.values()) > 0.01
    for name, value in expected.items():
        assert torch.allclose(made[name], value, atol=1e-6), name
    if rank == 5:  # what the file does not fill can still learn
        assert all((down[2:].flatten(1).abs().amax(1) > 0).all() for down, _ in began.layers.values())


def test_what_the_run_would_not_learn_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with_convolutions, _ = train(replace(PLAIN, rank=4, convolutions=True))
    start = read_start(file_of(with_convolutions, tmp_path / "first.safetensors"))
    for settings, message in (
        (replace(STILL, rank=4), "layers that this run would not learn .*; switch convolutions on"),
        (replace(STILL, rank=2, convolutions=True), "first.safetensors has rank 4, and the run rank 2; give rank 4 or more"),
    ):
        with pytest.raises(FaceExprError, match=message):
            train(settings, start=start)
    reading = Start(
        "te.safetensors", {"text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (torch.ones(2, 8), torch.ones(8, 2), 2.0)}
    )
    with pytest.raises(FaceExprError, match="switch train_text_encoder on"):
        train(STILL, start=reading)
    name, (down, up, alpha) = next(iter(start.layers.items()))
    other = Start("other.safetensors", {name: (torch.ones(2, *down.shape[1:]).repeat(1, 2, *[1] * (down.ndim - 2)), up[:, :2], alpha)})
    with pytest.raises(FaceExprError, match=r"other\.safetensors was made for another model"):
        train(replace(STILL, convolutions=True), start=other)


def test_only_a_plain_lora_can_be_started_from(tmp_path: Path) -> None:
    name = "lora_unet_mid_block_attentions_0_proj_in"
    pair = {f"{name}.lora_down.weight": torch.ones(2, 8), f"{name}.lora_up.weight": torch.ones(8, 2)}
    for state, message in (
        ({**pair, f"{name}.dora_scale": torch.ones(8, 1)}, "is no plain LoRA .DoRA in unet.mid_block.attentions.0.proj_in"),
        ({**pair, "odd.key": torch.ones(1)}, "1 keys name no module of Stable Diffusion"),
        ({"bundle_emb.anna.clip_l": torch.ones(1, 8)}, "it holds no layers"),
    ):
        save_file(state, tmp_path / "odd.safetensors")
        with pytest.raises(FaceExprError, match=message):
            read_start(tmp_path / "odd.safetensors")


def test_a_run_started_from_another_lora_is_not_gone_on_with(tmp_path: Path) -> None:
    first, _ = train(PLAIN)
    start = read_start(file_of(first, tmp_path / "first.safetensors"))
    states = StateFolder(tmp_path / "run", every=1)
    stopped, _ = train(PLAIN, states, stop_at=2, start=start)
    assert stopped.steps == 2
    with pytest.raises(FaceExprError, match=r"the LoRA that it starts from \(start_from\) is another"):
        train(PLAIN, states)
    assert_same(train(PLAIN, states, start=start)[0], train(PLAIN, start=start)[0])


@pytest.mark.usefixtures("prepared_here")
@pytest.mark.long
def test_the_papers_command_is_lengthened_or_says_that_it_begins_anew(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["--pretrained_model_name_or_path=mini", f"--instance_data_dir={mini.subject_path()}", "--instance_prompt=a photo of ohwx man"]
    words += [f"--output_dir={out}", "--resolution=64", "--train_batch_size=1", "--seed=4", "--device=cpu", "--report_to=none"]
    resume = "--resume_from_checkpoint=latest"
    assert paper([*words, resume, "--max_train_steps=1"]) == 0
    assert f"there is no state of a run in {out / 'checkpoints'}; the training starts anew, with step 1" in capfd.readouterr().err
    assert not (out / "checkpoints").exists()
    kept = [*words, "--checkpointing_steps=1"]
    assert paper([*kept, "--max_train_steps=2"]) == 0
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step00000002.safetensors"]
    assert "is there already, but no state of its run: this one starts anew" in capfd.readouterr().err
    assert paper([*kept, resume, "--max_train_steps=4"]) == 0
    told = capfd.readouterr()
    assert "The run was planned with 2 steps and goes on from 2 to 4" in told.err
    longer = json.loads(read_lora(Path(told.out.strip()))[1]["faceexpr.losses"])
    assert len(longer) == 4 and longer[:2] == json.loads(read_lora(out / "pytorch_lora_weights_00001_.safetensors")[1]["faceexpr.losses"])


@pytest.mark.long
def test_the_node_goes_on_with_a_kept_state_and_says_what_it_begins_with(comfy: ComfyProcess) -> None:
    folder = copy_subject(comfy.input_dir)
    few: dict[str, Any] = {"steps": 2, "rank": 2, "more": "convolutions=off"}

    def told(**more: Any) -> str:
        """What ComfyUI's console says while it trains."""
        before = len(comfy.log())
        comfy.run(graph(folder, **{**few, **more}))
        return comfy.log()[before:]

    assert "goes on" not in told(lora_name="kept/anna", finished_state="keep")
    assert "goes on from 2 to 3" in told(steps=3, lora_name="kept/anna", finished_state="keep")
    assert len(json.loads(read_lora(comfy.lora_dir / "kept" / "anna_00001_.safetensors")[1]["faceexpr.losses"])) == 3
    anew = told(lora_name="kept/anna", seed=9, resume="start anew")
    assert "anna.safetensors is there already, but no state of its run: this one starts anew" in anew
    assert "starts from anna.safetensors, with step 1" in told(lora_name="kept/berta", start_from="kept/anna.safetensors")
    path = comfy.lora_dir / "kept" / "berta.safetensors"
    assert read_lora(path)[1]["faceexpr.started_from"] == "anna.safetensors"
    ups, first = load_file(path), load_file(comfy.lora_dir / "kept" / "anna.safetensors")
    apart = [relative(ups[key].float(), first[key].float()) for key in first if "lora_down" in key]
    assert max(apart) < 0.3  # new ones would be drawn anew
    with pytest.raises(ComfyError, match="has rank 2, and the run rank 1; give rank 2 or more"):
        comfy.run(graph(folder, **{**few, "rank": 1}, lora_name="kept/clara", start_from="kept/anna.safetensors"))
