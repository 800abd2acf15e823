"""No moment loses a run: interrupts, kill -9, broken files, changed settings."""

from __future__ import annotations

import copy
import errno
import importlib.util
import math
import os
import random
import re
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import killed_run
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from forks import fork
from safetensors.torch import load_file
from toys import lora_of, toy_unet

from faceexpr_core import mini
from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces.detector import Face
from faceexpr_core.files import replace_file
from faceexpr_core.lora.files import read_lora
from faceexpr_core.photos.subject import Photo, Subject
from faceexpr_core.training import optimizers, resume, trainer
from faceexpr_core.training.crafting import CraftingSet
from faceexpr_core.training.data import TrainingSet, build_training_set
from faceexpr_core.training.fingerprint import model_digest, run_of
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.materials import Materials
from faceexpr_core.training.optimizers import NO_CUDA
from faceexpr_core.training.result import Step, TrainResult
from faceexpr_core.training.settings import TrainSettings
from faceexpr_core.training.state import RunState, StateFolder, differences, read_state, write_state
from faceexpr_core.training.text_encoders import TextEncoders

EVERYTHING = TrainSettings(
    rank=2,
    steps=8,
    batch_size=2,
    accumulation=1,
    learning_rate=1e-2,
    schedule="cosine",
    warmup=3,
    noise_offset=0.1,
    caption_dropout=0.3,
    prior="distill",
    crafting_weight=0.5,
    ema=0.9,
    seed=3,
)
GENERATOR = torch.Generator().manual_seed(1)


def changed(**changes: object) -> TrainSettings:
    return TrainSettings(**{**EVERYTHING.__dict__, **changes})  # type: ignore[arg-type]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


PHOTOS = TrainingSet(
    draw(3, 4, 8, 8), draw(3, 7, 8), draw(3, 6), torch.ones(3, 6), torch.ones(3, 1, 8, 8), draw(1, 7, 8), draw(1, 6), "three photos"
)
PAIRS = CraftingSet(("happy", "sad"), draw(2, 2, 7, 8), draw(2, 2, 6), draw(2, 2, 7, 8), draw(2, 2, 6))


class Stop(BaseException):
    pass


def train(states: StateFolder | None = None, stop_at: int | None = None, settings: TrainSettings = EVERYTHING, **rest) -> TrainResult:
    def on_step(step: Step) -> None:
        if step.number == stop_at:
            raise Stop

    return train_lora(rest.pop("unet", None) or toy_unet(), rest.pop("data", PHOTOS), settings, on_step, crafting=PAIRS, states=states)


@pytest.fixture(scope="module")
def never_stopped() -> TrainResult:
    return train()


def assert_same(result: TrainResult, expected: TrainResult) -> None:
    assert result.stopped_by is None and result.steps == expected.steps
    assert result.losses == expected.losses
    assert lora_of(result).keys() == lora_of(expected).keys()
    assert all(torch.equal(lora_of(result)[key], value) for key, value in lora_of(expected).items())


@pytest.mark.parametrize("every", [1, 5])
def test_a_run_stopped_at_random_steps_ends_as_one_never_stopped(tmp_path: Path, never_stopped: TrainResult, every: int) -> None:
    states, chance = StateFolder(tmp_path / "run", every=every), random.Random(every)
    done = 0
    while done < 7:
        stopped = train(states, stop_at=(done := done + chance.randint(1, 4)))
        assert stopped.steps == min(done, 8)
    result = train(states)
    assert_same(result, never_stopped)
    assert [len(curve) for curve in result.curves.values()] == [8, 8, 8]


def test_a_step_broken_off_in_the_middle_is_done_again(tmp_path: Path, never_stopped: TrainResult) -> None:
    states, unet, calls = StateFolder(tmp_path, every=100), toy_unet(), []

    def break_off(*_: object) -> None:
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt

    unet.mid_block.register_forward_hook(break_off)
    stopped = train(states, unet=unet)
    assert isinstance(stopped.stopped_by, KeyboardInterrupt) and 2 <= stopped.steps < 7
    assert_same(train(states), never_stopped)


@pytest.mark.long
def test_sigkill_at_ten_random_moments_does_not_change_the_lora(tmp_path: Path) -> None:
    kills, resumed_at = (int(word) for word in fork(tmp_path, killed_run.main, tmp_path).printed().split())
    assert kills == 10 and resumed_at > 0
    (whole, told), (killed, told_too) = read_lora(tmp_path / "whole.safetensors"), read_lora(tmp_path / "killed.safetensors")
    assert told == told_too
    assert all(torch.equal(killed[key], value) for key, value in whole.items())
    assert not list(tmp_path.rglob("*.part"))


def test_old_states_are_pruned_and_a_finished_run_is_cleared(tmp_path: Path) -> None:
    states = StateFolder(tmp_path / "run", every=2, keep=3)
    replace_file(tmp_path / "run" / "notes.txt", b"mine")
    train(states)
    assert [file.name for file in states.files()] == [f"step{step:08}.safetensors" for step in (8, 6, 4)]
    states.clear()
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_finished_run_that_was_not_cleared_is_handed_back_without_a_step(tmp_path: Path, never_stopped: TrainResult) -> None:
    states = StateFolder(tmp_path)
    train(states)
    assert_same(train(states, stop_at=1), never_stopped)


def test_a_broken_newest_state_is_passed_over(tmp_path: Path, never_stopped: TrainResult) -> None:
    states = StateFolder(tmp_path, every=4)
    train(states, stop_at=7)
    newest = states.files()[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(FaceExprError, match=r"step00000007.*cannot be read"):
        read_state(newest)
    assert_same(train(states), never_stopped)


def gone(states: StateFolder, patched: pytest.MonkeyPatch) -> Callable[[], None]:
    """The states were put on another disk, which is not there now; what is returned brings it back."""
    disk, away, names = states.path.with_name("disk"), states.path.with_name("away"), [file.name for file in states.files()]
    disk.mkdir()
    for name in names:
        (states.path / name).rename(disk / name)
        (states.path / name).symlink_to(disk / name)
    disk.rename(away)

    def back() -> None:
        away.rename(disk)

    return back


def denying(plain: Callable[..., Any], suffix: str, folder: Path) -> Callable[..., Any]:
    """`plain`, to which `folder`, or what lies in it, is denied where its name has this suffix. Permissions would not stop root."""

    def call(path: Any = ".", *given: Any, **named: Any) -> Any:
        if isinstance(path, str | Path) and Path(path).suffix == suffix and folder in (Path(path), Path(path).parent):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return plain(path, *given, **named)

    return call


def refused(states: StateFolder, patched: pytest.MonkeyPatch) -> Callable[[], None]:
    """Another user's files."""
    patched.setattr(Path, "open", denying(Path.open, ".safetensors", states.path))
    return patched.undo


def closed(states: StateFolder, patched: pytest.MonkeyPatch) -> Callable[[], None]:
    """Another user's folder: its files may be written, but it does not say which there are."""
    for name in ("listdir", "scandir"):
        patched.setattr(os, name, denying(getattr(os, name), "", states.path))
    return patched.undo


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (gone, r"step00000005\.safetensors may hold .*No such file.* See that its disk is there"),
        (refused, r"step00000005\.safetensors may hold .*Permission denied"),
        (closed, r"run may hold .*Permission denied"),
    ],
)
@pytest.mark.parametrize("resume", ["strict", "auto"])
def test_a_run_whose_state_cannot_be_read_just_now_is_not_begun_anew(
    tmp_path: Path, never_stopped: TrainResult, spoil: Callable[..., Callable[[], None]], told: str, resume: str
) -> None:
    if os.name == "nt" and spoil is gone:
        pytest.skip("needs a system that makes links")
    patched = pytest.MonkeyPatch()
    states = StateFolder(tmp_path / "run", every=2, resume=resume)
    train(states, stop_at=5)
    before, mend = states.files(), spoil(states, patched)
    try:
        for look in (states.stopped_run, lambda: train(states)):
            with pytest.raises(FaceExprError, match=told):
                look()
    finally:
        mend()
    assert states.files() == before
    assert_same(train(states), never_stopped)


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        ({"settings": changed(learning_rate=2e-2)}, "learning_rate was 0.01, is 0.02"),
        ({"settings": changed(seed=4)}, "seed was 3, is 4"),
        (
            {"data": TrainingSet(**{**PHOTOS.__dict__, "source": "other photos"})},
            r"the photos, their captions \(trigger word, class word\), their framing or background_weight are others",
        ),
    ],
)
def test_other_settings_are_told_and_refused_or_begin_anew_by_choice(tmp_path: Path, rest: dict, told: str) -> None:
    train(StateFolder(tmp_path), stop_at=5)
    with pytest.raises(FaceExprError, match=f"after 5 steps and is not the same: {told}"):
        train(StateFolder(tmp_path), **rest)
    anew = train(StateFolder(tmp_path, resume="auto"), **dict(rest))
    assert_same(anew, train(**dict(rest)))


def test_a_run_out_of_memory_may_go_on_with_checkpointing(tmp_path: Path, never_stopped: TrainResult) -> None:
    train(StateFolder(tmp_path), stop_at=5)
    unet = toy_unet()
    result = train(StateFolder(tmp_path), settings=changed(gradient_checkpointing=True), unet=unet)
    assert result.losses == pytest.approx(never_stopped.losses, rel=1e-4) and unet.is_gradient_checkpointing


def test_starting_anew_leaves_nothing_of_the_earlier_run(tmp_path: Path, never_stopped: TrainResult) -> None:
    train(StateFolder(tmp_path, every=1), stop_at=5)
    result = train(StateFolder(tmp_path, every=100, resume="off"), stop_at=2)
    assert result.steps == 2 and [read_state(file).step for file in StateFolder(tmp_path).files()] == [2]


def test_a_loss_that_is_no_number_keeps_the_last_good_state(tmp_path: Path, never_stopped: TrainResult) -> None:
    states = StateFolder(tmp_path, every=1, keep=3)

    def poison(step: Step) -> None:
        if step.number == 6:
            for name, weight in step.unet.named_parameters():
                if "lora_B" in name:
                    weight.data.fill_(float("nan"))

    result = train_lora(toy_unet(), PHOTOS, EVERYTHING, poison, crafting=PAIRS, states=states)
    assert isinstance(result.stopped_by, FaceExprError) and "step 7 of 8" in str(result.stopped_by)
    assert result.steps == 5 and [read_state(file).step for file in states.files()] == [5, 4]
    assert_same(train(states), never_stopped)


def test_a_loss_that_explodes_stops_the_run(tmp_path: Path) -> None:
    def explode(step: Step) -> None:
        if step.number == 6:
            step.unet.conv_out.weight.data.mul_(100)

    result = train_lora(toy_unet(), PHOTOS, EVERYTHING, explode, crafting=PAIRS, states=StateFolder(tmp_path, every=1))
    assert isinstance(result.stopped_by, FaceExprError) and "diverged: at step 7" in str(result.stopped_by)
    assert result.steps == 5 and all(torch.isfinite(value).all() for value in lora_of(result).values())


def test_a_full_disk_does_not_end_the_run(tmp_path: Path, never_stopped: TrainResult, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    assert_same(train(StateFolder(tmp_path / "run", every=5)), never_stopped)
    assert "could not be saved" in caplog.text


def test_a_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3), "b": torch.arange(4, dtype=torch.uint8), "c": torch.tensor(2.0, dtype=torch.float64)}
    write_state(tmp_path / "step00000007.safetensors", RunState(7, {"seed": 2**64 - 1}, {"rates": [0.1]}, tensors))
    again = read_state(tmp_path / "step00000007.safetensors")
    assert (again.step, again.run, again.values) == (7, {"seed": 2**64 - 1}, {"rates": [0.1]})
    assert all(torch.equal(again.tensors[name], value) and again.tensors[name].dtype == value.dtype for name, value in tensors.items())


@pytest.mark.parametrize(
    ("changes", "told"), [({"every": 0}, "States every 0 steps"), ({"keep": 0}, ", 0 kept"), ({"resume": "maybe"}, "resume is 'maybe'")]
)
def test_impossible_wishes_are_refused(tmp_path: Path, changes: dict, told: str) -> None:
    with pytest.raises(FaceExprError, match=told):
        StateFolder(tmp_path, **changes)


class Broken:
    """What JSON cannot hold, as an optimiser of another library may have it."""


@pytest.mark.parametrize("reason", [OSError(5, "Input/output error"), MemoryError(), TypeError("not JSON serializable"), Broken])
def test_a_state_that_cannot_be_written_never_costs_the_run(
    tmp_path: Path, never_stopped: TrainResult, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reason: Any
) -> None:
    if reason is Broken:
        monkeypatch.setattr(resume, "split_state", lambda optimizer: ({}, {"0": {"quantised": Broken()}}))
    else:
        monkeypatch.setattr("faceexpr_core.training.state.write_state", raising(reason))
    assert_same(train(StateFolder(tmp_path, every=3)), never_stopped)
    assert caplog.text.count("could not be saved") == 3  # 3, 6, 8
    stopped = train(StateFolder(tmp_path, every=3), stop_at=4)
    assert stopped.steps == 4 and isinstance(stopped.stopped_by, Stop) and not StateFolder(tmp_path).files()


def raising(reason: BaseException) -> Callable[..., None]:
    def write(*_: object) -> None:
        raise reason

    return write


def test_a_second_ctrl_c_while_the_state_is_written_leaves_the_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceexpr_core.training.state.write_state", raising(KeyboardInterrupt()))
    stopped = train(StateFolder(tmp_path, every=100), stop_at=3)
    assert stopped.steps == 3 and isinstance(stopped.stopped_by, Stop)


def test_a_disk_that_is_full_gets_room_from_the_older_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states, room = StateFolder(tmp_path, every=1), 2

    def write(path: Path, state: RunState) -> None:
        if len(states.files()) >= room:
            path.write_bytes(b"half")
            path.unlink()
            raise OSError(errno.ENOSPC, "No space left on device")
        write_state(path, state)

    monkeypatch.setattr("faceexpr_core.training.state.write_state", write)
    train(states, stop_at=5)
    assert [read_state(file).step for file in states.files()] == [5, 4]


def test_a_state_that_cannot_be_deleted_costs_space_alone(
    tmp_path: Path, never_stopped: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied")
        os.unlink(path)

    monkeypatch.setattr(Path, "unlink", refuse)
    states = StateFolder(tmp_path, every=2)
    assert_same(train(states), never_stopped)
    states.clear()
    assert len(states.files()) == 4


def test_the_disk_must_take_every_state_that_lies_there_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage, states = shutil.disk_usage(tmp_path), StateFolder(tmp_path / "not" / "there", every=2)
    there = StateFolder(tmp_path / "measured", every=100)
    learned = train(there, stop_at=2)
    size = resume.state_size(sum(side.numel() for pair in learned.layers.values() for side in pair), EVERYTHING, torch.device("cpu"))
    real = read_state(there.files()[0]).tensors
    weights = [tensor for name, tensor in real.items() if name.split(".")[0] in ("weight", "average", "optimizer")]
    assert size == pytest.approx(sum(tensor.nbytes for tensor in weights), rel=0.05)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=2 * size))
    with pytest.raises(FaceExprError, match=r"states need \d+ MB \(3 of \d+ MB\), but the disk of .*there has \d+ MB free"):
        train(states)
    assert not states.path.exists()
    assert train(there).steps == 8  # one is kept, one comes in its place


def test_a_state_is_written_a_tensor_at_a_time(tmp_path: Path) -> None:
    tensors = {f"weight.{index}": torch.randn(250_000) for index in range(40)}
    state = RunState(1, {}, {}, tensors)
    write_state(tmp_path / "step00000001.safetensors", state)
    tracemalloc.start()
    write_state(tmp_path / "step00000002.safetensors", state)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # of 40 MB; safetensors' `save` makes one bytes object of all
    (read,) = [load_file(tmp_path / "step00000002.safetensors")]
    assert all(torch.equal(read[name], value) for name, value in tensors.items())


def test_a_state_that_lacks_something_is_told(tmp_path: Path) -> None:
    states = StateFolder(tmp_path)
    train(states, stop_at=3)
    state = states.latest()
    assert state is not None
    tensors = {name: value for name, value in state.tensors.items() if name != "average.1"}
    states.write(RunState(state.step, state.run, state.values, tensors))
    with pytest.raises(FaceExprError, match=r"The state of step 3 cannot be gone on with \(KeyError: 'average.1'\)"):
        train(states)


def test_what_is_done_otherwise_than_asked_is_told_before_the_first_step(tmp_path: Path) -> None:
    heard: list[object] = []
    train_lora(toy_unet(), PHOTOS, changed(steps=1, warmup=0), heard.append, crafting=PAIRS, on_start=heard.append)
    notes, step = heard
    assert notes == (NO_CUDA,) and isinstance(step, Step)


EIGHT_BIT = changed(
    rank=64, convolutions=True, steps=50, schedule="constant", warmup=0, learning_rate=1e-3, prior="off", crafting_weight=0.0
)


@pytest.fixture(scope="module")
def in_eight_bits() -> TrainResult:
    """50 steps with real bitsandbytes, on its CPU kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizers, "EIGHT_BIT_ON", ("cpu",))
        return train(settings=EIGHT_BIT)


def test_eight_bit_moments_come_back_to_the_bit(tmp_path: Path, in_eight_bits: TrainResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "EIGHT_BIT_ON", ("cpu",))
    assert (in_eight_bits.optimizer, in_eight_bits.notes) == ("bitsandbytes.optim.AdamW8bit", ())
    states = StateFolder(tmp_path, every=7)
    for stop in (9, 25):
        train(states, stop_at=stop, settings=EIGHT_BIT)
    state = states.latest()
    assert state is not None and sum(tensor.dtype == torch.uint8 for name, tensor in state.tensors.items() if "state" in name) > 4
    assert_same(train(states, settings=EIGHT_BIT), in_eight_bits)


def test_eight_bit_moments_become_whole_where_bitsandbytes_is_gone(
    tmp_path: Path, in_eight_bits: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, told = StateFolder(tmp_path), list[tuple[str, ...]]()
    monkeypatch.setattr(optimizers, "EIGHT_BIT_ON", ("cpu",))
    train(states, stop_at=40, settings=EIGHT_BIT)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = train_lora(toy_unet(), PHOTOS, EIGHT_BIT, crafting=PAIRS, states=states, on_start=told.append)
    ((missing, taken_over),) = told
    assert "bitsandbytes, which is not installed; plain AdamW is used" in missing
    assert "The run began with 8-bit AdamW and goes on with plain AdamW" in taken_over
    assert result.optimizer == "torch.optim.AdamW" and result.losses[:40] == in_eight_bits.losses[:40]
    assert result.losses == pytest.approx(in_eight_bits.losses, rel=0.02)
    assert distance(result, in_eight_bits) < 0.05 * distance(in_eight_bits, None)


def distance(one: TrainResult, other: TrainResult | None) -> float:
    """Of what each `up` learned."""
    ups = {name: pair[1] for name, pair in one.layers.items()}
    return math.sqrt(sum(float((up - (0 if other is None else other.layers[name][1])).square().sum()) for name, up in ups.items()))


def test_a_run_goes_on_with_plain_adamw_where_bitsandbytes_came_in_between(
    tmp_path: Path, never_stopped: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(StateFolder(tmp_path), stop_at=5)
    monkeypatch.setattr(optimizers, "EIGHT_BIT_ON", ("cpu",))
    result = train(StateFolder(tmp_path))
    assert_same(result, never_stopped)
    assert result.notes == ("The run began with plain AdamW, before bitsandbytes was there, and goes on with it.",)


def test_how_the_first_weights_were_drawn_stops_no_run_that_has_begun(tmp_path: Path, never_stopped: TrainResult) -> None:
    """Version 0.1.0 drew kaiming's everywhere: its runs are gone on with, and their LoRAs say what they began with."""
    train(StateFolder(tmp_path), stop_at=5)
    result = train(StateFolder(tmp_path), settings=changed(init_lora_weights="gaussian"))
    assert_same(result, never_stopped)
    assert result.run == never_stopped.run and "init_lora_weights" not in result.run
    assert not torch.equal(
        *(lora_of(one)[next(iter(lora_of(one)))] for one in (result, train(settings=changed(init_lora_weights="gaussian"))))
    )


@pytest.mark.parametrize(("began", "then"), [("bf16", "fp16"), ("fp32", "fp16"), ("fp16", "bf16")])
def test_a_state_of_other_numbers_goes_on_and_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, began: str, then: str) -> None:
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    monkeypatch.setattr(trainer, "compute_dtype", lambda precision, device: dtypes[began])
    whole = train()
    train(StateFolder(tmp_path), stop_at=5)
    monkeypatch.setattr(trainer, "compute_dtype", lambda precision, device: dtypes[then])
    result = train(StateFolder(tmp_path))
    assert result.steps == 8 and result.losses == pytest.approx(whole.losses, rel=0.1) and result.precision == then
    assert f"The run was computed in {began} so far and goes on in {then}" in result.notes[-1]


def test_a_model_is_the_same_in_any_numbers_and_another_with_a_lora_on_it() -> None:
    unet = UNet2DConditionModel.from_pretrained(mini.path() / "unet", torch_dtype=torch.float32)
    digest = model_digest(unet)
    for dtype in (torch.float16, torch.bfloat16):
        assert model_digest(copy.deepcopy(unet).to(dtype)) == digest
    with torch.no_grad():
        weight = unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight
        weight += 0.01 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    assert model_digest(unet) != digest


def test_a_run_of_an_older_version_is_known_by_the_rest() -> None:
    now = {"model": "signs-12", "photos": "p", "seed": 1}
    assert differences({"model": "0123456789abcdef", "photos": "p", "seed": 1}, now) == []
    assert differences({"model": "signs-34", "photos": "p", "seed": 1}, now) == ["the checkpoint, or the LoRAs on it, are others"]
    encoded = {**now, "vae": "signs-1", "text_encoders": "signs-2", "side": 64}
    assert differences(now, encoded) == []
    others = ["the photos' size (resolution) was 64, is 128", "the VAE is another"]
    assert differences(encoded, {**encoded, "vae": "signs-3", "side": 128}) == others


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"base": "nf4"}, ["base was full, is nf4"]),
        ({"text_encoder": True}, ["train_text_encoder was off, is on"]),
        ({"text_encoder": True, "rank": 4}, ["rank was 2, is 4", "train_text_encoder was off, is on"]),
        ({"convolutions": True}, ["convolutions (in the node: more) was off, is on"]),
        ({"crafting_weight": 0.0, "prior": "off"}, ["crafting_weight was 0.5, is 0.0", "prior was distill, is off"]),
        ({"prior": "images"}, ["prior was distill, is images"]),
        ({"prediction": "v_prediction"}, ["what the model predicts (model_predicts, --prediction_type) was epsilon, is v_prediction"]),
    ],
)
def test_what_differs_is_told_by_the_names_that_the_user_knows_and_once(changes: dict[str, Any], told: list[str]) -> None:
    encoders = TextEncoders(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    materials = Materials(toy_unet(), PHOTOS, PHOTOS, PAIRS, encoders)
    before, now = run_of(materials, EVERYTHING), run_of(materials, changed(**changes))
    assert differences(before, now) == told
    assert len(differences(now, before)) == len(told)
    assert differences(before, {**before, "class_images": "c"}) == ["the pictures of the class (prior_images) are others"]
    without = {name: made for name, made in before.items() if name != "crafting_gradient"}
    assert differences(without, before) == ["expression crafting learns otherwise since version 0.2.0"]


def test_a_run_knows_what_its_photos_were_encoded_with() -> None:
    unet = toy_unet()
    plain, named = (run_of(Materials(unet, one), TrainSettings(steps=1)) for one in (PHOTOS, replace(PHOTOS, made_with={"vae": "signs-1"})))
    assert named == {**plain, "vae": "signs-1"} and plain["side"] == 64


def test_another_face_of_the_same_picture_is_another_run() -> None:
    """Whole pictures of two people: which of them was chosen shows in the face's mask alone."""

    def encode_text(prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(prompts), 77, 8), torch.zeros(len(prompts), 6)

    def of(column: int) -> TrainingSet:
        mask = np.zeros((64, 64), np.float32)
        mask[:, column : column + 16] = 1
        face = Face((column, 0, column + 16, 64), np.zeros((478, 3), np.float32), {})
        picture, size = np.full((64, 64, 3), 90, np.uint8), (64, 64)
        photo = Photo("both.png", picture, face, "a photo of ohwx man", None, size, (0, 0), size, mask)
        subject = Subject((photo,), "ohwx", "man", 64, "")
        return build_training_set(subject, encode_text, lambda images: torch.zeros(len(images), 4, 8, 8), 0.3)

    left, again, right = of(0), of(0), of(40)
    assert left.digest() == again.digest() != right.digest()


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ((3, 1), (3, 2), "accumulation was 3, is 3 in each of 2 processes, where no whole number is the same as before"),
        ((6, 1), (6, 2), "accumulation was 6, is 6 in each of 2 processes, where 3 is the same as before"),
        ((3, 2), (3, 1), "accumulation was 3 in each of 2 processes, is 3 in one process, where 6 is the same as before"),
        (
            (2, 3),
            (2, 4),
            "accumulation was 2 in each of 3 processes, is 2 in each of 4 processes, where no whole number is the same as before",
        ),
        ((2, 2), (3, 2), "accumulation was 2 in each of 2 processes, is 3 in each of 2 processes, where 2 is the same as before"),
        ((2, 1), (3, 1), "accumulation was 2, is 3"),
        ((6, None), (6, 2), "accumulation was 6 over all processes, is 6 in each of 2 processes, where 3 is the same as before"),
        ((6, None), (3, 1), "accumulation was 6, is 3"),
    ],
)
def test_another_number_of_processes_is_told_with_the_accumulation_that_fits(
    tmp_path: Path, before: tuple[int, int | None], now: tuple[int, int], told: str
) -> None:
    """Each process adds up so many batches for itself. Older states do not say how many processes there were."""

    def made(accumulation: int, processes: int | None) -> dict[str, Any]:
        run = run_of(Materials(toy_unet(), PHOTOS, crafting=PAIRS), changed(accumulation=accumulation), processes or 1)
        return run if processes else {name: value for name, value in run.items() if name != "processes"}

    states = StateFolder(tmp_path)
    states.write(RunState(3, made(*before), {}, {}))
    with pytest.raises(FaceExprError, match="is not the same") as refused:
        states.to_resume(made(*now))
    assert f"is not the same: {told}. Set these back to go on with it" in str(refused.value)
    if advised := re.search(r"where (\d+) is the same", told):
        assert states.to_resume(made(int(advised[1]), now[1])) is not None
    elif "no whole number" in told:
        assert (before[0] * (before[1] or 1)) % now[1]
    assert states.to_resume(made(*before)) is not None
