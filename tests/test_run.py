"""A whole run, in both hosts alike: what it survives, what it says before the first step, what several processes do together."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import ranked_command
import torch
from comfy_process import free_port
from forks import fork
from PIL import Image
from safetensors import safe_open
from sources import DRAWN, digital_source

from faceexpr_core import mini
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.diffusers_host import encoding, pipeline, sampling
from faceexpr_core.diffusers_host.training import DiffusersHost
from faceexpr_core.lora.files import read_lora
from faceexpr_core.training import run, trainer
from faceexpr_core.training.prior import prior_folder
from faceexpr_core.training.run import ClassPictures

pytestmark = pytest.mark.usefixtures("prepared_here")
MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1024.00 MiB.\nGPU 0 has a total capacity of 7.78 GiB")


def words(photos: Path, *more: str) -> list[str]:
    named = ["train", "--model=mini", f"--photos={photos}", f"--output={photos.parent / 'anna'}", "--device=cpu", "--class_word=woman"]
    return [*named, "--preset=paper", "--precision=fp32", "--resolution=64", "--rank=2", "--accumulation=1", *more]


def raising(reason: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise reason

    return fail


@pytest.mark.parametrize("captions", [True, False])
def test_captions_that_are_not_learned_are_told_and_not_said_to_be_learned(
    captions: bool, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "photo_1.txt").write_text("a photo of ohwx woman, in a red hat")
    assert faceexpr(words(photos, "--steps=1", "--captions" if captions else "--no-captions")) == 0
    told = "captions are off: every photo is learned as 'a photo of ohwx woman', whatever its own caption says"
    assert (told in capsys.readouterr().err) != captions
    with safe_open(photos.parent / "anna.safetensors", framework="pt") as saved:
        learned = json.loads(saved.metadata()["faceexpr.captions"])
    assert learned == ["a photo of ohwx woman, in a red hat" if captions else "a photo of ohwx woman"]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (MEMORY, "the device has no memory for it (CUDA out of memory. Tried to allocate 1024.00 MiB.)"),
        (ValueError("a broken decoder"), "a broken decoder."),
    ],
)
@pytest.mark.long
def test_a_preview_that_fails_is_left_out_and_the_run_goes_on(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reason: Exception, told: str
) -> None:
    plain, calls = encoding.decode_latents, []

    def once(*given: Any) -> torch.Tensor:
        calls.append(given)
        if len(calls) == 1:
            raise reason
        return plain(*given)

    monkeypatch.setattr(encoding, "decode_latents", once)
    assert faceexpr(words(photos, "--steps=2", "--preview_every=1")) == 0
    assert f"the preview of step 1 is left out: {told}\n" in capsys.readouterr().err
    assert read_lora(photos.parent / "anna.safetensors")[1]["faceexpr.steps"] == "2"
    assert {path.name for path in (photos.parent / "anna_previews").iterdir()} == {"photos.png", "step000002.png"}


def test_a_preview_that_fails_in_the_node_is_left_out_too(
    comfy_modules: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node, host = pack.node("train_lora"), pack.host()
    subject = subject_of(comfy_modules)
    with torch.inference_mode():
        model, clip, vae = host.load_mini()
        monkeypatch.setattr(pack.node("host.training"), "decode_latents", raising(ValueError("a broken decoder")))
        wishes = {"preset": "paper", "steps": 2, "accumulation": 1, "preview_every": 1, "lora_name": "no_preview", "seed": 1}
        with caplog.at_level(logging.INFO):
            result = node.TrainLoRA.execute(model=model, clip=clip, vae=vae, subject=subject, **wishes).result
    assert read_lora(Path(result[1]))[1]["faceexpr.steps"] == "2"
    for step in (1, 2):
        assert f"the preview of step {step} is left out: a broken decoder." in caplog.text


def test_a_preview_takes_no_other_pictures_place(photos: Path) -> None:
    there = photos.parent / "anna_previews" / "step000001.png"
    there.parent.mkdir()
    there.write_bytes(b"of another run")
    assert faceexpr(words(photos, "--steps=1", "--preview_every=1")) == 0
    assert there.read_bytes() == b"of another run"
    with Image.open(there.with_name("step000001_00001_.png")) as sheet:
        assert sheet.size == (128, 128)


def blocking(folder: Path, plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`plain`, and while it works the folder becomes a file: nothing can be written there any more, not by root either."""

    def block(*given: Any) -> torch.Tensor:
        if folder.is_dir():
            shutil.rmtree(folder)
            folder.write_text("")
        return plain(*given)

    return block


def test_a_lora_that_its_folder_takes_no_more_lies_in_the_systems_temporary_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, elsewhere = tmp_path / "loras", tmp_path / "temporary"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    monkeypatch.setattr(encoding, "decode_latents", blocking(folder, encoding.decode_latents))
    assert faceexpr(words(photos, "--steps=1", "--preview_every=1", f"--output={folder / 'anna'}")) == 2
    (rescued,) = elsewhere.glob("*.safetensors")
    assert read_lora(rescued)[1]["faceexpr.steps"] == "1"
    told = capsys.readouterr().err
    assert f"the preview of step 1 could not be saved in {folder / 'anna_previews'}: " in told
    assert re.search(rf"The LoRA \([\d.]+ MB\) could not be saved in {folder}: .*\. It was saved as {rescued} instead; move it to", told)


def test_a_lora_that_the_loras_folder_takes_no_more_lies_in_comfyuis_output_folder(
    comfy_modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, host, training = pack.node("train_lora"), pack.host(), pack.node("host.training")
    folder = Path(comfy_modules.folder_paths.get_folder_paths("loras")[0]) / "blocked"
    monkeypatch.setattr(training, "decode_latents", blocking(folder, training.decode_latents))
    wishes = {"preset": "paper", "steps": 1, "accumulation": 1, "preview_every": 1, "lora_name": "blocked/anna", "seed": 1}
    with torch.inference_mode():
        model, clip, vae = host.load_mini()
        with pytest.raises(Exception, match=r"could not be saved in .*blocked: .* It was saved as .* instead") as told:
            node.TrainLoRA.execute(model=model, clip=clip, vae=vae, subject=subject_of(comfy_modules), **wishes)
    rescued = Path(comfy_modules.folder_paths.get_output_directory()) / "anna.safetensors"
    folder.unlink()
    assert str(rescued) in str(told.value)
    assert read_lora(rescued)[1]["faceexpr.steps"] == "1"


def subject_of(comfy_modules: Any) -> Any:
    import importlib

    core = comfy_modules.core.__name__
    images, subject = (importlib.import_module(f"{core}.{name}") for name in ("faces.images", "photos.subject"))
    sources = images.read_images(mini.subject_path())[:1]
    return subject.prepare_subject(sources, subject.SubjectSettings(resolution=64, class_word="woman"))


def test_cancelling_while_a_preview_is_drawn_stops_the_run(comfy_modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node, host = pack.node("train_lora"), pack.host()
    subject = subject_of(comfy_modules)
    interrupted = pack.node("host.progress").Interrupted
    with torch.inference_mode():
        model, clip, vae = host.load_mini()
        monkeypatch.setattr(pack.node("host.training"), "decode_latents", raising(interrupted()))
        wishes = {"preset": "paper", "steps": 2, "accumulation": 1, "preview_every": 1, "lora_name": "cancelled_preview", "seed": 1}
        with pytest.raises(interrupted):
            node.TrainLoRA.execute(model=model, clip=clip, vae=vae, subject=subject, **wishes)
    folder = Path(comfy_modules.folder_paths.get_folder_paths("loras")[0])
    assert [path.name for path in folder.glob("cancelled_preview*")] == ["cancelled_preview_interrupted_step1.safetensors"]


@pytest.mark.long
def test_pictures_of_the_class_are_announced_and_counted(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prior = ["--steps=1", "--prior=images", "--prior_images=3"]
    assert faceexpr(words(photos, *prior)) == 0
    lines = capsys.readouterr().err.splitlines()
    (announced,) = [number for number, line in enumerate(lines) if line.startswith("drawing 3 pictures of the class, 'a photo of a woman'")]
    pictures = [line.partition(":")[0] for line in lines[announced + 1 :] if line.startswith("picture")]
    assert pictures == [f"picture {number} of 3 of the class" for number in (1, 2, 3)]
    (kept,) = (photos.parent / "class_images").iterdir()
    assert lines[announced].endswith(f"into {kept}") and len(list(kept.glob("*.png"))) == 3

    assert faceexpr([*words(photos, *prior), "--prior_images=4"]) == 0
    told = capsys.readouterr().err
    assert "drawing 1 pictures of the class" in told and "(3 of 4 are there)" in told and told.count("picture 4 of 4") == 1
    assert faceexpr([*words(photos, *prior), "--prior_images=4"]) == 0
    assert "of the class" not in capsys.readouterr().err


def test_a_base_that_cannot_be_is_told_before_pictures_of_the_class_are_drawn(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else found(name, *more))
    assert faceexpr(words(photos, "--steps=1", "--prior=images", "--prior_images=2", "--base=int8")) == 2
    told = capsys.readouterr().err
    assert "base is int8, which needs the package bitsandbytes, but that is not installed" in told and "drawing" not in told
    assert not (photos.parent / "class_images").exists()


PRIOR = ("--prior=images", "--prior_images=1", "--steps=1")


@pytest.mark.parametrize(
    ("before", "more", "told"),
    [
        ([], ["--resolution=72"], "72 x 72 pixels; the U-Net needs sides that are multiples of 32"),
        (["--rank=3"], ["--start_from=anna.safetensors"], "anna.safetensors has rank 3, and the run rank 2; give rank 3 or more"),
        (["--convolutions"], ["--start_from=anna.safetensors"], "layers that this run would not learn"),
        (
            ["--finished_state=keep", *PRIOR],
            ["--class_word=man"],
            "(trigger word, class word), their framing or background_weight are others. "
            "Set these back to go on with it, give another --output, or give --resume off, which gives it up.",
        ),
    ],
    ids=["size", "rank", "layers", "state"],
)
def test_what_cannot_be_is_told_before_pictures_of_the_class_are_drawn(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, before: list[str], more: list[str], told: str
) -> None:
    monkeypatch.chdir(photos.parent)
    if before:
        assert faceexpr(words(photos, "--steps=1", *before)) == 0
    drawn = set((photos.parent / "class_images").rglob("*.png"))
    capsys.readouterr()
    other = [] if "--finished_state=keep" in before else ["--output=berta"]
    assert faceexpr(words(photos, *PRIOR, *more, *other)) == 2
    said = capsys.readouterr().err
    assert told in said and "drawing" not in said and set((photos.parent / "class_images").rglob("*.png")) == drawn


def test_pictures_of_the_class_are_not_those_of_another_prediction_vae_or_text_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(run, "missing_images", lambda *_: 0)
    monkeypatch.setattr(run, "prior_images", lambda folder, prompts, draw, made: asked.append(prior_folder(folder, made)))
    job = SimpleNamespace(class_pictures=ClassPictures(tmp_path), subject=SimpleNamespace(resolution=64, class_word="woman"))

    def folder_of(host: DiffusersHost) -> None:
        run._class_pictures(host, SimpleNamespace(), job, host.pipe.unet, host.parts(), None)  # type: ignore[arg-type]

    pipe = pipeline.load_pipeline("mini")
    host = DiffusersHost(pipe, torch.device("cpu"))
    folder_of(host)
    folder_of(DiffusersHost(pipeline.load_pipeline("mini", torch.float16), torch.device("cpu")))
    assert asked[0] == asked[1]  # rounded
    with torch.no_grad():
        for part in (pipe.vae.decoder.conv_in.weight, pipe.text_encoder_2.text_projection.weight):
            part.neg_()
            folder_of(host)
    folder_of(DiffusersHost(pipeline.load_pipeline("mini", prediction="v_prediction"), torch.device("cpu")))
    assert len({*asked}) == 4


@pytest.mark.parametrize(
    ("module", "name", "doing"),
    [
        (pipeline, "load_pipeline", "loading the model"),
        (encoding, "encode_images", "preparing the training"),
        (sampling, "generate", "drawing the pictures of the class"),
        (trainer, "add_lora", "setting up the training"),
    ],
)
def test_memory_that_is_short_before_the_first_step_is_told_in_a_sentence(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: Any, name: str, doing: str
) -> None:
    monkeypatch.setattr(module, name, raising(MEMORY))
    assert faceexpr(words(photos, "--steps=1", "--prior=images", "--prior_images=1")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        f"faceexpr: The device ran out of memory while {doing}: CUDA out of memory. Tried to allocate 1024.00 MiB. Take "
    )
    assert not list(photos.parent.glob("*.safetensors"))


def test_a_tracker_that_fails_costs_the_run_nothing(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import accelerate

    monkeypatch.setattr(accelerate.Accelerator, "log", raising(OSError("no space left")))
    monkeypatch.setattr(accelerate.Accelerator, "end_training", raising(OSError("no space left")))
    assert faceexpr(words(photos, "--steps=3", "--report_to=tensorboard")) == 0
    assert capsys.readouterr().err.count("tensorboard takes no more of this run's numbers (no space left); the training goes on") == 1
    assert read_lora(photos.parent / "anna.safetensors")[1]["faceexpr.steps"] == "3"


def test_a_preview_of_the_command_line_is_a_sheet_without_a_prompt(photos: Path) -> None:
    assert faceexpr(words(photos, "--steps=1", "--preview_every=1")) == 0
    with Image.open(photos.parent / "anna_previews" / "step000001.png") as sheet:
        assert sheet.size == (128, 128) and "prompt" not in sheet.info
    assert digital_source(photos.parent / "anna_previews" / "step000001.png") == DRAWN
    assert digital_source(photos.parent / "anna_previews" / "photos.png") is None  # which nobody drew


@pytest.mark.parametrize(("failing", "what"), [(1, "draw"), (0, "encode_images")])
@pytest.mark.long
def test_what_one_process_cannot_do_ends_all_of_them_with_the_reason(photos: Path, failing: int, what: str) -> None:
    folder = photos.parent
    named = {"pretrained_model_name_or_path": "mini", "instance_data_dir": photos, "output_dir": folder / "out", "seed": 0}
    named |= {"instance_prompt": "a photo of ohwx woman", "resolution": 64, "max_train_steps": 1, "train_batch_size": 1, "device": "cpu"}
    prior = {"class_data_dir": folder / "class", "class_prompt": "a photo of a woman", "num_class_images": 4, "report_to": "none"}
    flags = [*(f"--{name}={value}" for name, value in {**named, **prior}.items()), "--with_prior_preservation"]
    port = free_port()
    both = [fork(folder, ranked_command.failing, rank, port, failing, what, folder, flags, name=f"rank {rank}") for rank in (0, 1)]
    statuses = [one.ended(timeout=200) for one in both]
    said = [one.errors.read_text() for one in both]
    assert statuses == [1 if rank == failing else 2 for rank in (0, 1)], said
    assert "RuntimeError: the card fell off the bus" in said[failing]
    reason = "could not go on while drawing the pictures of the class: the card fell off the bus"  # where the other one heard of it
    assert said[1 - failing].endswith(f"faceexpr: Process {failing + 1} of 2 {reason}\n")
    assert [path.name for path in folder.glob("prepared_*")] == ["prepared_0"]
    assert not list((folder / "out").rglob("*.safetensors"))
