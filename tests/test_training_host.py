"""What ComfyUI has on the card while a training is planned."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pack
import pytest
import torch
from test_train_node import PLAIN, SETTINGS

from faceexpr_core import mini


class PlannedError(Exception):
    """Ends a run where its plan is asked for."""


@pytest.mark.parametrize("reading", [False, True], ids=["unet", "and text encoders"])
def test_none_of_comfyuis_models_is_loaded_when_the_training_is_planned(
    comfy_modules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: bool
) -> None:
    management, loaded = importlib.import_module("comfy.model_management"), list[int]()
    core = "faceexpr_pack.faceexpr_core"
    run, images, subject = (importlib.import_module(f"{core}.{name}") for name in ("training.run", "faces.images", "photos.subject"))
    shutil.copytree(mini.subject_path(), tmp_path / "photos")
    person = subject.prepare_subject(images.read_images(tmp_path / "photos"), subject.SubjectSettings(resolution=64))

    def plan(*given: Any) -> NoReturn:
        loaded.append(len(management.current_loaded_models))
        raise PlannedError

    with torch.inference_mode():
        model, clip, vae = pack.host().load_mini()
        # full size, so that it is planned
        monkeypatch.setattr(pack.node("host.training"), "FULL_WIDTH", model.model.model_config.unet_config["model_channels"])
        monkeypatch.setattr(run, "plan_on", plan)
        wishes = {**PLAIN, **SETTINGS, "lora_name": "planned", "preview_every": 2, "train_text_encoder": "on" if reading else "off"}
        with pytest.raises(PlannedError):
            pack.node("train_lora").TrainLoRA.execute(model=model, clip=clip, vae=vae, subject=person, **wishes)
    assert loaded == [0]


def test_pictures_of_the_class_are_drawn_by_the_weights_that_they_are_known_by(comfy_modules: SimpleNamespace) -> None:
    """What other nodes put onto the MODEL does not show in them; a LoRA on it does, and so does what it predicts."""
    freeu = importlib.import_module("comfy_extras.nodes_freelunch").FreeU_V2()
    extension = importlib.import_module("comfy.patcher_extension")
    training, sampling, prompt = pack.node("host.training"), pack.node("host.sampling"), "a photo of a woman"
    with torch.inference_mode():
        model, clip, vae = pack.host().load_mini()
        (patched,) = freeu.patch(model, 1.3, 1.4, 0.9, 0.2)
        patched.set_model_attn2_output_patch(lambda out, _: out + 1.0)  # as IPAdapter does
        patched.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * 0.5)
        times = model.model.diffusion_model.time_embed.forward
        patched.add_object_patch("diffusion_model.time_embed.forward", lambda given: -times(given))
        patched.add_wrapper(extension.WrappersMP.PREDICT_NOISE, lambda executor, *given: executor(*given) * 0.5)
        text = [pack.host().encode_conditioning(clip, words) for words in (prompt, "")]
        empty = {"samples": torch.zeros(1, 4, 8, 8)}
        both = [sampling.sample(one, *text, empty, seed=0, denoise=1.0, **training.CLASS_PICTURES)["samples"] for one in (model, patched)]
        assert (both[0] - both[1]).abs().mean() > 0.1

        def drawn(one: Any) -> np.ndarray:
            return np.asarray(training.TrainingHost(one, clip, vae, "node").draw(prompt, 0, 64)).astype(int)

        plain = drawn(model)
        assert np.array_equal(drawn(patched), plain)
        (weight,) = (name for name in model.model.state_dict() if name.endswith("middle_block.1.transformer_blocks.0.attn2.to_v.weight"))
        changed = patched.clone()
        changed.add_patches({weight: ("diff", (torch.ones(model.model.state_dict()[weight].shape),))}, 1.0)
        assert abs(drawn(changed) - plain).mean() > 0.2
        assert abs(drawn(pack.node("host.predictions").told_prediction(patched, "v_prediction")) - plain).mean() > 1
        assert np.array_equal(drawn(patched), plain)
        left = sampling.sample(patched, *text, empty, seed=0, denoise=1.0, **training.CLASS_PICTURES)["samples"]
        assert torch.equal(left, both[1])  # on the MODEL itself all of it stays


def test_each_text_of_the_class_is_encoded_once(comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    training, said = pack.node("host.training"), list[str]()
    plain = training.encode_conditioning

    def encode(clip: Any, prompt: str) -> Any:
        said.append(prompt)
        return plain(clip, prompt)

    monkeypatch.setattr(training, "encode_conditioning", encode)
    with torch.inference_mode():
        host = training.TrainingHost(*pack.host().load_mini(), "node")
        drawn = [host.draw(f"a photo of a {who}", seed, 64) for seed, who in enumerate(("woman", "man", "woman"))]
    assert said == ["a photo of a woman", "", "a photo of a man"]
    assert all((one != other).any() for one, other in ((drawn[0], drawn[1]), (drawn[0], drawn[2])))


@pytest.mark.parametrize("free", [None, 1 << 20, 64 << 30])
def test_a_preview_is_decoded_in_tiles_where_the_card_is_short_and_leaves_it(
    comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, free: int | None
) -> None:
    training, called = pack.node("host.training"), list[str]()
    monkeypatch.setattr("faceexpr_pack.faceexpr_core.training.plan.free_memory", lambda device: free)
    monkeypatch.setattr(training, "_clear", lambda: called.append("cleared"))
    with torch.inference_mode():
        host = training.TrainingHost(*pack.host().load_mini(), "node")
        decoded = {name: getattr(host.vae, name) for name in ("decode", "decode_tiled")}

        def decode(name: str, given: torch.Tensor) -> torch.Tensor:
            called.append(name)
            made: torch.Tensor = decoded[name](given)
            return made

        for name in decoded:
            monkeypatch.setattr(host.vae, name, partial(decode, name))
        assert host.decode(torch.zeros(1, 4, 8, 8)).shape == (64, 64, 3)
        host.device = torch.device("cuda")
        host.decode(torch.zeros(1, 4, 8, 8))
    how = "decode_tiled" if free == 1 << 20 else "decode"
    assert called == [how, how, "cleared"]


@pytest.mark.parametrize("short", [True, False])
def test_a_copy_that_has_no_room_in_the_systems_memory_is_told_before_it_is_made(
    comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, short: bool
) -> None:
    training, made = pack.node("host.training"), list[str]()
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1 << 20 if short else 1 << 40))
    monkeypatch.setattr(training, "export_unet", lambda model, dtype: made.append(caplog.text))
    with torch.inference_mode():
        training.TrainingHost(*pack.host().load_mini(), "Train").unet(torch.float32)
    (told,) = made
    assert ("Train: The training's own copy of the U-Net, beside ComfyUI's, takes " in told and "page file" in told) is short


@pytest.mark.parametrize("reserved", [0.4, 3.0])
def test_what_comfyui_was_told_to_leave_free_is_left_free(
    comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, reserved: float
) -> None:
    """`--reserve-vram`."""
    training, management, left = pack.node("host.training"), importlib.import_module("comfy.model_management"), list[int]()
    monkeypatch.setattr(management, "extra_reserved_memory", lambda: reserved * 2**30)
    monkeypatch.setattr(training, "room_on", lambda device, rest: left.append(rest))
    with torch.inference_mode():
        training.TrainingHost(*pack.host().load_mini(), "node").room()
    assert left == [max(training.rest(), int(reserved * 2**30))]


def test_text_encoders_in_fp8_are_known_again(comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ComfyUI's switch, or an fp8 checkpoint with dynamic VRAM, has them: a training ended before its first step."""
    monkeypatch.setattr(importlib.import_module("comfy.cli_args").args, "fp8_e4m3fn_text_enc", True)
    training = pack.node("host.training")
    with torch.inference_mode():
        model, clip, vae = pack.host().load_mini()
        assert torch.float8_e4m3fn in {one.dtype for one in clip.cond_stage_model.parameters()}
        monkeypatch.undo()
        whole = pack.host().load_mini()[1]
        found, other = (training.TrainingHost(model, one, vae, "node").parts() for one in (clip, whole))
    assert found["vae"] == other["vae"] and found["text_encoders"].startswith("signs-")


@pytest.mark.parametrize("what", ["MODEL", "CLIP"])
def test_a_lora_in_bypass_mode_is_not_passed_over(comfy_modules: SimpleNamespace, what: str) -> None:
    """Newer ComfyUI's Load LoRA (Bypass) leaves the weights alone, and so the training would be of another model than is connected."""
    with torch.inference_mode():
        model, clip, vae = pack.host().load_mini()
        patched, read = model.clone(), clip.clone()
        (patched if what == "MODEL" else read.patcher).set_injections("bypass_lora", [object()])
        with pytest.raises(
            comfy_modules.core.errors.FaceExprError, match=rf"^Train got a {what} with a LoRA in bypass mode.* before it\.$"
        ):
            pack.node("host.training").TrainingHost(patched, read, vae, "Train")
        pack.node("host.training").TrainingHost(model, clip, vae, "Train")


def test_weights_in_whole_numbers_are_refused(comfy_modules: SimpleNamespace) -> None:
    weights = pack.node("host.weights")
    with torch.inference_mode():
        model = pack.host().load_mini()[0]
        layer = model.model.diffusion_model.middle_block[1].transformer_blocks[0].attn2.to_k
        layer.weight = torch.nn.Parameter((layer.weight * 100).to(torch.int8), requires_grad=False)
        with pytest.raises(comfy_modules.core.errors.FaceExprError, match=r"attn2\.to_k\.weight as whole numbers \(torch\.int8\)"):
            weights.export_unet(model)


PREPARING = ("encode_images", "encode_text", "weights_digest", "export_unet", "sample")


@pytest.mark.parametrize(
    ("stopped_in", "times"), [*((name, 1) for name in PREPARING if name != "weights_digest"), ("weights_digest", 2), ("run_of", 1)]
)
def test_cancelling_before_the_first_step_stops_at_once_and_leaves_no_lora_and_no_state(
    comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, stopped_in: str, times: int
) -> None:
    """`weights_digest` reads the text encoders, then the VAE; `run_of` the U-Net, last of all."""
    management, done, lora = importlib.import_module("comfy.model_management"), list[str](), f"cancelled_in_{stopped_in}"
    training, trainer = pack.node("host.training"), importlib.import_module("faceexpr_pack.faceexpr_core.training.trainer")
    output, loras = Path(comfy_modules.folder_paths.get_output_directory()), Path(comfy_modules.folder_paths.get_folder_paths("loras")[0])

    def watched(name: str, plain: Callable[..., Any], *given: Any, **named: Any) -> Any:
        done.append(name)
        if name == stopped_in:
            management.interrupt_current_processing()
        return plain(*given, **named)

    for module, name in (*((training, name) for name in PREPARING), (trainer, "run_of")):
        monkeypatch.setattr(module, name, partial(watched, name, getattr(module, name)))
    images, subject = (importlib.import_module(f"faceexpr_pack.faceexpr_core.{name}") for name in ("faces.images", "photos.subject"))
    person = subject.prepare_subject(images.read_images(mini.subject_path())[:2], subject.SubjectSettings(resolution=64))
    with torch.inference_mode():
        model, clip, vae = pack.host().load_mini()
        prior = {"prior": "images", "prior_images": 2} if stopped_in == "sample" else {}  # drawing asks by itself
        wishes = {**PLAIN, **SETTINGS, **prior, "lora_name": lora, "state_every": 1}
        with pytest.raises(pack.node("host.progress").Interrupted):
            pack.node("train_lora").TrainLoRA.execute(model=model, clip=clip, vae=vae, subject=person, **wishes)
    assert done[-1] == stopped_in and done.count(stopped_in) == times
    assert not list(loras.glob(f"{lora}*")) and not (output / "faceexpr" / "training" / lora).exists()
