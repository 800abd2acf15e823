"""FaceExprTrainLoRA in a running ComfyUI, and `faceexpr train` beside it."""

from __future__ import annotations

import importlib
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pack
import pytest
import torch
from comfy_process import ComfyError, ComfyInterrupted, ComfyProcess, Graph, Progress, copy_subject
from forks import fork
from PIL import Image
from safetensors.torch import save_file

from faceexpr_core import mini
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.lora.files import read_lora

SETTINGS = {"steps": 3, "learning_rate": 6e-4, "rank": 8, "seed": 5, "batch_size": 2, "accumulation": 1}
PLAIN = {"preset": "default", "prior": "off", "crafting_weight": 0.0, "train_text_encoder": "off"}


def graph(folder: str, resolution: int = 64, **train: Any) -> Graph:
    subject = {
        "folder": folder,
        "trigger_word": "ohwx",
        "class_word": "woman",
        "resolution": resolution,
        "framing": "face crop",
        "padding": 0.75,
        "face": 0,
        "drop_small_faces": True,
        "drop_duplicates": True,
    }
    sources = {"model": ["mini", 0], "clip": ["mini", 1], "vae": ["mini", 2], "subject": ["photos", 0]}
    return {
        "mini": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "photos": {"class_type": "FaceExprLoadSubjectImages", "inputs": subject},
        "train": {"class_type": "FaceExprTrainLoRA", "inputs": {**sources, **PLAIN, **SETTINGS, "preview_every": 0, **train}},
    }


@pytest.fixture(scope="module")
def folder(comfy: ComfyProcess) -> str:
    return copy_subject(comfy.input_dir)


def losses(path: Path) -> list[float]:
    return json.loads(read_lora(path)[1]["faceexpr.losses"])


@pytest.mark.parametrize("reading", [False, True], ids=["unet", "and text encoders"])
@pytest.mark.long
def test_node_and_command_line_give_the_same_losses_and_lora(comfy: ComfyProcess, folder: str, tmp_path: Path, reading: bool) -> None:
    wishes: dict[str, Any] = {**SETTINGS, "preset": "default", "prior": "distill", "crafting_weight": 0.05}
    switch = "on" if reading else "off"
    rate = "text_encoder_learning_rate=1e-3" if reading else ""
    name = f"parity_{reading}"
    look = 3 if reading else 0
    comfy.run(graph(folder, lora_name=name, file_precision="fp32", **wishes, more=rate, train_text_encoder=switch, preview_every=look))
    arguments = [f"--{name}={value}" for name, value in wishes.items()]
    arguments += ["--train_text_encoder", f"--{rate}", f"--preview_every={look}"] if reading else ["--no-train_text_encoder"]
    paths = [f"--photos={mini.subject_path()}", f"--output={tmp_path / 'command.safetensors'}"]
    words = ["--model=mini", "--trigger=ohwx", "--class_word=woman", "--resolution=64", "--file_precision=fp32", "--device=cpu"]
    told = fork(tmp_path, faceexpr, ["train", *words, *paths, *arguments]).printed()
    assert told.strip() == str(tmp_path / "command.safetensors")

    node, line = comfy.lora_dir / f"{name}.safetensors", tmp_path / "command.safetensors"
    assert len(losses(node)) == 3
    assert losses(line) == pytest.approx(losses(node), rel=1e-3)
    (first, said), (second, said_again) = read_lora(node), read_lora(line)
    assert first.keys() == second.keys() and sum("lora_te" in key for key in first) == (3 * 20 if reading else 0)
    if reading:
        assert max(float(value.abs().max()) for key, value in first.items() if "lora_te" in key and key.endswith("up.weight")) > 1e-3
        sheets = comfy.output_dir / "faceexpr" / "previews" / f"{name}_step000003.png", tmp_path / "command_previews" / "step000003.png"
        drawn, drawn_again = (np.asarray(Image.open(sheet)).astype(int) for sheet in sheets)
        assert drawn.shape == (128, 128, 3) and abs(drawn - drawn_again).mean() < 2
    downs = [key for key in first if key.endswith("lora_down.weight")]
    assert max(float((first[key] - second[key]).abs().max()) for key in downs) < 1e-3
    own = {"ss_output_name": "", "modelspec.title": "", "faceexpr.losses": "", "faceexpr.run": ""}
    assert {**said, **own} == {**said_again, **own}
    runs = [json.loads(one["faceexpr.run"]) for one in (said, said_again)]
    for made in runs:
        assert made.pop("vae") and made.pop("text_encoders")  # each host names their weights in its own way
    assert runs[0] == runs[1]


@pytest.mark.long
def test_progress_previews_and_loss_curve_reach_the_page(comfy: ComfyProcess, folder: str) -> None:
    seen: list[Progress] = []
    outputs = comfy.run(graph(folder, lora_name="deep/watched", preview_every=2, seed=1), seen.append)
    steps = [step.value for step in seen if step.node_id == "train" and step.preview is None]
    assert sorted(set(steps)) == [0, 1, 2, 3] and {step.total for step in seen if step.node_id == "train"} == {3}
    previews = [step.preview for step in seen if step.node_id == "train" and step.preview is not None]
    assert [Image.open(BytesIO(picture)).size for picture in previews] == [(512, 512)]  # ComfyUI enlarges it
    kept = Image.open(comfy.output_dir / "faceexpr" / "previews" / "deep" / "watched_step000002.png")
    assert kept.size == (128, 128)  # neutral and three expressions
    corners = [kept.crop((x, y, x + 64, y + 64)).tobytes() for y in (0, 64) for x in (0, 64)]
    assert len(set(corners)) == 4
    curve = Image.open(BytesIO(comfy.view(outputs["train"]["images"][0])))
    assert curve.size == (768, 432)


def test_a_second_run_is_cached_and_another_seed_trains_anew(comfy: ComfyProcess, folder: str) -> None:
    for seed in (2, 2, 3):
        comfy.run(graph(folder, lora_name="cached", seed=seed, steps=1))
    assert sorted(file.name for file in comfy.lora_dir.glob("cached*")) == ["cached.safetensors", "cached_00001_.safetensors"]


def test_a_lora_to_start_from_that_was_replaced_under_its_name_is_started_from_anew(comfy: ComfyProcess, folder: str) -> None:
    comfy.run(graph(folder, lora_name="first", steps=1))
    first, start = comfy.lora_dir / "first.safetensors", comfy.lora_dir / "start.safetensors"
    shutil.copy(first, start)
    for written in (False, True, False):
        if written:
            weights, told = read_lora(first)
            save_file({key: value * 3 if key.endswith("up.weight") else value for key, value in weights.items()}, start, told)
        comfy.run(graph(folder, lora_name="from_it", steps=1, start_from=start.name))
    assert sorted(file.name for file in comfy.lora_dir.glob("from_it*")) == ["from_it.safetensors", "from_it_00001_.safetensors"]
    louder, plain = (read_lora(comfy.lora_dir / f"from_it{number}.safetensors")[0] for number in ("_00001_", ""))
    assert any((louder[key] - plain[key]).abs().max() > 1e-4 for key in plain)


def test_settings_of_pictures_and_states_that_are_not_made_are_told(comfy: ComfyProcess, folder: str) -> None:
    plain = len(comfy.log())
    comfy.run(graph(folder, lora_name="told", steps=1))
    assert "changed nothing" not in comfy.log()[plain:]
    comfy.run(graph(folder, lora_name="told", steps=1, prior_images=9, state_every=0, finished_state="keep", seed=6))
    assert "Train FaceExpr LoRA: prior_images changed nothing: prior is off, which draws no pictures" in comfy.log()[plain:]
    assert "Train FaceExpr LoRA: finished_state changed nothing: state_every is 0, so that no state is saved" in comfy.log()[plain:]


def test_cancelling_in_the_middle_leaves_a_lora_of_the_steps_done(comfy: ComfyProcess, folder: str) -> None:
    def cancel(step: Progress) -> None:
        if step.node_id == "train" and step.value >= 2:
            comfy.interrupt()

    with pytest.raises(ComfyInterrupted) as stopped:
        comfy.run(graph(folder, lora_name="cancelled", steps=10_000), cancel)
    assert stopped.value.node_id == "train"
    (file,) = comfy.lora_dir.glob("cancelled*")
    state, metadata = read_lora(file)
    steps = int(metadata["faceexpr.steps"])
    assert 2 <= steps < 10_000
    assert file.name == f"cancelled_interrupted_step{steps}.safetensors"
    assert metadata["faceexpr.interrupted"] == "true" and len(losses(file)) == steps
    assert len(state) > 10 and any(value.abs().sum() > 0 for key, value in state.items() if key.endswith("lora_up.weight"))
    told = len(comfy.log())
    picture = comfy.run(drawn_with(str(file.name)))["save"]["images"][0]
    assert Image.open(BytesIO(comfy.view(picture))).size == (64, 64)
    assert "lora key not loaded" not in comfy.log()[told:]


@pytest.mark.long
def test_a_cancelled_run_goes_on_and_ends_as_one_never_cancelled(comfy: ComfyProcess, folder: str) -> None:
    whole: dict[str, Any] = {
        "steps": 8,
        "file_precision": "fp32",
        "prior": "distill",
        "crafting_weight": 0.05,
        "state_every": 100,
        "seed": 11,
    }
    comfy.run(graph(folder, lora_name="whole", **whole))

    def cancel(step: Progress) -> None:
        if step.node_id == "train" and step.value >= 3:
            comfy.interrupt()

    with pytest.raises(ComfyInterrupted):
        comfy.run(graph(folder, lora_name="broken", **whole), cancel)
    states = comfy.output_dir / "faceexpr" / "training" / "broken"
    assert len(list(states.glob("step*.safetensors"))) == 1
    with pytest.raises(ComfyError, match=r"is not the same: learning_rate was 0.0006, is 0.0005"):
        comfy.run(graph(folder, lora_name="broken", **whole, learning_rate=5e-4))
    comfy.run(graph(folder, lora_name="broken", **whole))
    first, second = (read_lora(comfy.lora_dir / f"{name}.safetensors")[0] for name in ("whole", "broken"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not states.exists()


@pytest.mark.long
def test_pictures_of_the_class_are_drawn_once(comfy: ComfyProcess, folder: str) -> None:
    wishes: dict[str, Any] = {"prior": "images", "prior_images": 3, "steps": 1}
    comfy.run(graph(folder, lora_name="prior", **wishes))
    (kept,) = (comfy.output_dir / "faceexpr" / "class_images").iterdir()
    before = {file.name: file.stat().st_mtime_ns for file in kept.glob("*.png")}
    assert sorted(before) == ["00000.png", "00001.png", "00002.png"]
    pictures = [Image.open(kept / name) for name in before]
    assert {picture.size for picture in pictures} == {(64, 64)}
    assert {picture.info["prompt"] for picture in pictures} == {
        f"a photo of a woman, {word} expression" for word in ("neutral", "happy", "sad")
    }
    comfy.run(graph(folder, lora_name="prior", **{**wishes, "prior_images": 4, "seed": 6}))
    after = {file.name: file.stat().st_mtime_ns for file in kept.glob("*.png")}
    assert len(after) == 4 and after.items() > before.items()
    man = graph(folder, lora_name="prior", **{**wishes, "prior_images": 1})
    man["photos"]["inputs"]["class_word"] = "man"
    comfy.run(man)  # another class word has its own folder
    assert {file.name: file.stat().st_mtime_ns for file in kept.glob("*.png")} == after
    assert len(list(kept.parent.iterdir())) == 2


def test_a_preset_gives_what_the_widgets_leave_open_and_more_has_the_last_word(comfy: ComfyProcess, folder: str) -> None:
    wishes: dict[str, Any] = {
        "preset": "paper",
        "prior": "preset",
        "crafting_weight": -1.0,
        "rank": 0,
        "accumulation": 0,
        "more": "accumulation=2, ema=0.5",
    }
    comfy.run(graph(folder, lora_name="preset", **{**wishes, "steps": 1}))
    used = json.loads(read_lora(comfy.lora_dir / "preset.safetensors")[1]["faceexpr.settings"])
    expected = {"rank": 4, "accumulation": 2, "ema": 0.5, "captions": False, "prior": "off", "background_weight": 1.0, "precision": "fp16"}
    assert {name: used[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("colour=red", "'colour=red' is no setting"),
        ("rank=many", "give a whole number"),
        ("blocks=left", "blocks is 'left'"),
        ("ema=nan", "ema is nan; give a value from 0"),
        ("rank=8, rank=9", "rank is given twice"),
        ("prediction=v_prediction", "'prediction=v_prediction' is no setting"),
        ("crafting_mask=on", "crafting_mask was given, but crafting_weight is off"),
        ("text_encoder=off, text_encoder_learning_rate=1e-3", "text_encoder_learning_rate was given, but train_text_encoder is off"),
    ],
)
def test_nonsense_in_more_is_refused(comfy: ComfyProcess, folder: str, more: str, told: str) -> None:
    with pytest.raises(ComfyError, match=told):
        comfy.run(graph(folder, lora_name="nonsense", more=more))


def test_every_number_refuses_what_is_out_of_its_range(comfy: ComfyProcess, folder: str) -> None:
    inputs = comfy.object_info()["FaceExprTrainLoRA"]["input"]
    widgets = {**inputs["required"], **inputs["optional"]}
    numbers = {name: about for name, (kind, about) in widgets.items() if kind in ("INT", "FLOAT")}
    assert len(numbers) > 12
    for name, about in numbers.items():
        for value in (about["min"] - 1, about["max"] + 1):
            answer = comfy.post("/prompt", {"prompt": graph(folder, **{"lora_name": "range", name: value})})
            assert [error["details"] for error in answer["node_errors"]["train"]["errors"]] == [name]


def drawn_with(lora_name: str) -> Graph:
    """A picture of Mini with a LoRA of the loras folder, by ComfyUI's own nodes."""
    sampling = {"seed": 1, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    strengths = {"strength_model": 1.0, "strength_clip": 1.0}
    links = {"model": ["lora", 0], "positive": ["text", 0], "negative": ["text", 0], "latent_image": ["empty", 0]}
    return {
        "mini": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "lora": {
            "class_type": "LoraLoader",
            "inputs": {"model": ["mini", 0], "clip": ["mini", 1], "lora_name": lora_name, **strengths},
        },
        "text": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["lora", 1], "text": "a photo of ohwx woman"}},
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "draw": {"class_type": "KSampler", "inputs": {**links, **sampling}},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["draw", 0], "vae": ["mini", 2]}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "drawn"}},
    }


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "..", "", "  ", "a/../../b", "folder/", "con:x", "a\\..\\..\\b"])
def test_a_name_that_is_none_or_leads_out_of_the_loras_folder_is_refused(comfy: ComfyProcess, folder: str, name: str) -> None:
    before = sorted(comfy.home.parent.rglob("*.safetensors"))
    with pytest.raises(ComfyError, match="lora_name"):
        comfy.run(graph(folder, lora_name=name))
    assert sorted(comfy.home.parent.rglob("*.safetensors")) == before


def test_a_resolution_the_unet_cannot_take_is_refused_before_the_first_step(comfy: ComfyProcess, folder: str) -> None:
    with pytest.raises(ComfyError, match="72 x 72 pixels; the U-Net needs sides that are multiples of 32"):
        comfy.run(graph(folder, resolution=72, lora_name="odd"))
    assert not list(comfy.lora_dir.glob("odd*"))


def test_a_model_of_another_family_is_refused(comfy: ComfyProcess, folder: str) -> None:
    mixed = graph(folder, lora_name="other")
    mixed["other"] = {"class_type": "TestModelOfSD15", "inputs": {}}
    mixed["train"]["inputs"]["model"] = ["other", 0]
    with pytest.raises(ComfyError, match="Train FaceExpr LoRA got a MODEL of type SD15; it needs an SDXL base model") as refused:
        comfy.run(mixed)
    assert refused.value.node_id == "train" and not list(comfy.lora_dir.glob("other*"))


def test_a_warmup_longer_than_the_run_is_refused(comfy: ComfyProcess, folder: str) -> None:
    with pytest.raises(ComfyError, match="warmup is 9; give a value from 0 to 3"):
        comfy.run(graph(folder, warmup=9, lora_name="long"))


@pytest.mark.long
def test_the_model_that_comes_in_is_left_alone_and_the_one_that_leaves_has_the_lora(comfy_modules, tmp_path: Path) -> None:
    node, host = pack.node("train_lora"), pack.host()
    images, subject = (importlib.import_module(f"faceexpr_pack.faceexpr_core.{name}") for name in ("faces.images", "photos.subject"))
    shutil.copytree(mini.subject_path(), tmp_path / "photos")
    person = subject.prepare_subject(images.read_images(tmp_path / "photos"), subject.SubjectSettings(resolution=64))
    with torch.inference_mode():
        model, clip, vae = host.load_mini()
        before = {key: value.clone() for key, value in model.model.state_dict().items()}
        wishes = {**PLAIN, **SETTINGS, "steps": 2, "lora_name": "direct", "preview_every": 0}
        result = node.TrainLoRA.execute(model=model, clip=clip, vae=vae, subject=person, **wishes)
        trained, path, curve, same_clip = result.result
        assert same_clip is clip
        wishes |= {"lora_name": "reading", "train_text_encoder": "on"}
        read = node.TrainLoRA.execute(model=model, clip=clip, vae=vae, subject=person, **wishes).result
        assert len(read[3].patcher.patches) == 20 and len(read[0].patches) == len(trained.patches) and not clip.patcher.patches
        words = [host.encode_text(one, ["a photo of ohwx woman"])[0] for one in (clip, read[3])]
        assert 1e-6 < float((words[0] - words[1]).abs().max()) < 1
        difference = [
            float((after - plain).abs().max())
            for after, plain in zip(host.export_unet(trained).parameters(), host.export_unet(model).parameters(), strict=True)
        ]
        after = model.model.state_dict()
    assert model.patches == {} and len(trained.patches) == len(read_lora(Path(path))[0]) // 3
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert sum(value > 0 for value in difference) == len(trained.patches)
    assert Path(path).parent == Path(comfy_modules.folder_paths.get_folder_paths("loras")[0])
    assert curve.shape == (1, 432, 768, 3) and 0 <= curve.min() < curve.max() <= 1
