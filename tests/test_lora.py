"""LoRA files: what they hold, how they are written, and that ComfyUI and diffusers use all of them."""

from __future__ import annotations

import copy
import json
import logging
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pack
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from distances import relative
from mini_noise import epsilon

from faceexpr_core.errors import FaceExprError
from faceexpr_core.lora.files import read_lora, require_space, save_lora
from faceexpr_core.lora.formats import decode
from faceexpr_core.lora.kohya import base_model_hash, save_result, to_kohya, training_metadata
from faceexpr_core.lora.reserve import reserve
from faceexpr_core.photos.subject import Subject
from faceexpr_core.training.adapter import add_lora, lora_numbers, lora_shapes
from faceexpr_core.training.place import Place
from faceexpr_core.training.result import TrainResult
from faceexpr_core.training.run import Job
from faceexpr_core.training.settings import TrainSettings

RANK, ALPHA = 4, 2.0


@pytest.fixture(scope="module", params=[False, True], ids=["attention", "with convolutions"])
def adapted(lora_pipe: StableDiffusionXLPipeline, request: pytest.FixtureRequest) -> tuple[UNet2DConditionModel, dict[str, torch.Tensor]]:
    """Mini's U-Net with a random LoRA as the trainer puts it on, and that LoRA in kohya's keys."""
    unet = copy.deepcopy(lora_pipe.unet)
    generator = torch.Generator().manual_seed(5)
    layers = add_lora(unet, RANK, ALPHA, generator, convolutions=request.param)
    for _, up in layers.values():
        torch.nn.init.normal_(up, std=0.3, generator=generator)
    return unet, to_kohya(layers, ALPHA)


def result(state: dict[str, torch.Tensor], stopped_by: BaseException | None = None) -> TrainResult:
    layers = decode(state, {}, {}).layers
    alpha = next(iter(layers.values())).alpha
    return TrainResult({name: (layer.down, layer.up) for name, layer in layers.items()}, alpha, (0.5, 0.25), 2, stopped_by)


SUBJECT = Subject(photos=(), trigger="ohwx", class_word="woman", resolution=128, report="")


def test_kohya_keys_are_spelled_as_other_tools_spell_them(adapted: tuple) -> None:
    _, state = adapted
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    assert state[f"{name}.lora_down.weight"].shape == (RANK, 128)
    assert state[f"{name}.lora_up.weight"].shape == (128, RANK)
    assert state[f"{name}.alpha"].item() == ALPHA
    assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0.alpha" in state


def test_the_size_is_known_before_the_training(lora_pipe: StableDiffusionXLPipeline, adapted: tuple) -> None:
    _, state = adapted
    convolutions = any("_resnets_" in key for key in state)
    shapes = lora_shapes(lora_pipe.unet, convolutions=convolutions)
    assert lora_numbers(shapes.values(), RANK) == sum(value.numel() for value in state.values())


def test_diffusers_uses_every_key_and_draws_the_same(
    lora_pipe: StableDiffusionXLPipeline, adapted: tuple, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unet, state = adapted
    path = save_lora(tmp_path / "person.safetensors", state, {}, torch.float32)
    plain = epsilon(lora_pipe.unet)
    with caplog.at_level(logging.WARNING):
        lora_pipe.load_lora_weights(str(path), adapter_name="person")
    try:
        loaded = [name for name, _ in lora_pipe.unet.named_parameters() if "lora_" in name]
        others = [record.message for record in caplog.records if "associated to CLIPTextModel" not in record.message]
        assert others == []  # a U-Net LoRA has no keys for the text encoders; diffusers mentions that
        assert len(loaded) == 2 * len(state) // 3
        assert relative(epsilon(lora_pipe.unet), epsilon(unet)) < 1e-4
        assert relative(plain, epsilon(unet)) > 1e-2
    finally:
        lora_pipe.unload_lora_weights()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 1e-3)])
def test_comfyuis_own_lora_loader_uses_every_key_and_draws_the_same(
    adapted: tuple, comfy_modules, caplog: pytest.LogCaptureFixture, dtype: torch.dtype, tolerance: float
) -> None:
    unet, state = adapted
    host = pack.host()
    folder = Path(comfy_modules.folder_paths.get_folder_paths("loras")[0])
    path = save_lora(folder / f"person_{str(dtype)[6:]}.safetensors", state, {}, dtype)
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        model, clip, _ = host.load_mini()
        patched, _ = comfy_modules.nodes.LoraLoader().load_lora(model, clip, path.name, 1.0, 1.0)
        exported = host.export_unet(patched)
    assert [record.message for record in caplog.records if "lora" in record.message.lower() or "NOT LOADED" in record.message] == []
    assert len(patched.patches) == len(state) // 3
    assert relative(epsilon(exported), epsilon(unet)) < tolerance


def test_a_file_says_what_it_is_to_other_tools(adapted: tuple, tmp_path: Path) -> None:
    settings = TrainSettings(rank=RANK, alpha=ALPHA, steps=2, seed=11)
    path = save_result(tmp_path / "anna.safetensors", result(adapted[1]), settings, SUBJECT, background_weight=0.3, precision="fp32")
    state, metadata = read_lora(path)
    assert state.keys() == adapted[1].keys()
    assert all(torch.equal(state[key], adapted[1][key]) for key in state)
    assert metadata["ss_network_dim"] == "4" and metadata["ss_network_alpha"] == "2"
    assert (
        metadata["ss_base_model_version"] == metadata["modelspec.architecture"].removesuffix("/lora").replace("-", "_") == "faceexpr_mini"
    )
    assert metadata["faceexpr.base_model"] == "FaceExpr Mini" and "faceexpr.base_model_hash" not in metadata
    assert metadata["modelspec.trigger_phrase"] == "ohwx woman"
    assert metadata["faceexpr.trigger"] == "ohwx" and metadata["faceexpr.interrupted"] == "false"
    assert json.loads(metadata["faceexpr.losses"]) == [0.5, 0.25]
    assert json.loads(metadata["faceexpr.settings"])["seed"] == 11
    assert all(str(tmp_path) not in value for value in metadata.values())


def test_the_base_model_is_named_by_what_the_lora_fits_and_by_its_weights(lora_pipe: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    def told(width: int, **more: str) -> dict[str, str]:
        state = to_kohya({"mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (torch.ones(1, width), torch.ones(8, 1))}, 1.0)
        return training_metadata("anna", result(state), TrainSettings(rank=1), SUBJECT, 0.3, **more)

    sdxl = told(2048, preset="paper", base_hash="abc")
    assert (sdxl["ss_base_model_version"], sdxl["modelspec.architecture"]) == ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora")
    assert (sdxl["faceexpr.preset"], sdxl["faceexpr.base_model_hash"]) == ("paper", "abc")
    assert "ss_base_model_version" not in told(77) and "modelspec.architecture" not in told(77)

    whole = base_model_hash(lora_pipe.unet)
    half = copy.deepcopy(lora_pipe.unet).to(torch.bfloat16)
    assert base_model_hash(half) == whole and len(whole) == 64
    with torch.no_grad():
        half.conv_out.bias[0] += 1
    assert base_model_hash(half) != whole


def test_a_field_of_the_metadata_never_costs_the_lora(adapted: tuple, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings, state = TrainSettings(rank=RANK, alpha=ALPHA), adapted[1]
    odd = replace(SUBJECT, trigger="b\udcffb")  # a byte of a shell that is no UTF-8
    path = save_result(tmp_path / "odd.safetensors", result(state), settings, odd, background_weight=0.3)
    assert read_lora(path)[1]["faceexpr.trigger"] == "b?b"
    broken = replace(SUBJECT, photos=(None,))  # type: ignore[arg-type]
    path = save_result(tmp_path / "broken.safetensors", result(state), settings, broken, background_weight=0.3)
    saved, metadata = read_lora(path)
    assert saved.keys() == state.keys() and metadata["ss_network_dim"] == "4"
    assert "broken.safetensors could not be told of its training (AttributeError" in caplog.text


def test_the_file_tells_the_optimizer_and_the_numbers_that_were_used(adapted: tuple) -> None:
    settings, used = TrainSettings(optimizer="adamw8bit", precision="auto"), result(adapted[1])
    for optimizer, precision, expected in (("torch.optim.AdamW", "fp32", "no"), ("bitsandbytes.optim.AdamW8bit", "bf16", "bf16")):
        metadata = training_metadata("a", replace(used, optimizer=optimizer, precision=precision), settings, SUBJECT, 0.3)
        assert (metadata["ss_optimizer"], metadata["ss_mixed_precision"]) == (optimizer, expected)


def test_v_prediction_is_told(adapted: tuple) -> None:
    metadata = training_metadata("a", result(adapted[1]), TrainSettings(prediction="v_prediction"), SUBJECT, 0.3)
    assert metadata["modelspec.prediction_type"] == "v"


def test_an_interrupted_run_says_so_in_name_and_file(adapted: tuple, tmp_path: Path) -> None:
    stopped = result(adapted[1], KeyboardInterrupt())
    path = save_result(tmp_path / "anna.safetensors", stopped, TrainSettings(rank=RANK), SUBJECT, background_weight=0.3)
    assert path.name == "anna_interrupted_step2.safetensors"
    state, metadata = read_lora(path)
    assert metadata["faceexpr.interrupted"] == "true" and metadata["faceexpr.steps"] == "2"
    assert {value.dtype for value in state.values()} == {torch.float16}


def test_a_name_that_is_too_long_for_a_stopped_run_is_refused_before_the_training(adapted: tuple, tmp_path: Path) -> None:
    unet, state = adapted
    settings, stopped = TrainSettings(rank=RANK, steps=2), result(state, KeyboardInterrupt())

    def reserved(letters: int) -> Place:
        job = cast(Job, SimpleNamespace(settings=settings, subject=SUBJECT, background_weight=0.3, preset="", start=None))
        paths = [tmp_path / "loras" / f"{'a' * letters}.safetensors"]
        return reserve(unet, 1000, job, paths=paths, precision="fp16", fallbacks=())

    longest = 255 - len("_interrupted_step2_00001_.safetensors")
    save = reserved(longest).save
    for number in ("", "_00001_"):
        assert [path.name for path in save(stopped)] == [f"{'a' * longest}_interrupted_step2{number}.safetensors"]
    with pytest.raises(FaceExprError, match=r"may have to be called a+_interrupted_step2\.safetensors.*Choose a shorter name"):
        reserved(longest + 1)
    assert len(list((tmp_path / "loras").iterdir())) == 2


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "anna.safetensors"
    saved = [save_lora(path, {"a": torch.full((1,), float(number))}, {}, torch.float32) for number in range(3)]
    assert [file.name for file in saved] == ["anna.safetensors", "anna_00001_.safetensors", "anna_00002_.safetensors"]
    assert [read_lora(file)[0]["a"].item() for file in saved] == [0, 1, 2]
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(file.name for file in saved)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file of this process may grow beyond 64 KB: the kernel refuses the write as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


BIG = {"a": torch.zeros(100_000)}


def test_a_full_disk_leaves_no_half_file_and_says_what_to_do(tmp_path: Path, small_disk: None) -> None:
    with pytest.raises(FaceExprError, match=r"could not be saved in .*Free some space"):
        save_lora(tmp_path / "anna.safetensors", BIG, {}, torch.float32)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_too_long_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(FaceExprError, match=r"File name too long\. Choose a shorter name"):
        save_lora(tmp_path / f"{'a' * 244}.safetensors", BIG, {}, torch.float32)


def test_what_its_own_folder_cannot_take_is_saved_elsewhere(tmp_path: Path) -> None:
    blocked = tmp_path / "loras"
    blocked.write_text("a file where a folder should be")
    with pytest.raises(FaceExprError, match="saved as") as told:
        save_lora(blocked / "anna.safetensors", BIG, {}, torch.float32, fallbacks=(blocked, tmp_path / "output"))
    assert str(tmp_path / "output" / "anna.safetensors") in str(told.value)
    assert read_lora(tmp_path / "output" / "anna.safetensors")[0]["a"].shape == (100_000,)


def test_too_little_space_is_told_before_the_training(tmp_path: Path) -> None:
    require_space(tmp_path / "new", 1000)
    free = os.statvfs(tmp_path)
    with pytest.raises(FaceExprError, match="MB free"):
        require_space(tmp_path, 10 * free.f_blocks * free.f_frsize)


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      truncated", b"PK\x03\x04"])
def test_a_file_that_is_no_whole_lora_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(FaceExprError, match=r"broken\.safetensors cannot be read"):
        read_lora(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FaceExprError, match="cannot be read"):
        read_lora(tmp_path / "none.safetensors")
