"""`faceexpr generate` on a diffusers directory and on a single-file checkpoint."""

from __future__ import annotations

import argparse
import errno
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pack
import pytest
import torch
from PIL import Image
from random_lora import every_projection, write_lora
from safetensors.torch import load_file, save_file
from sources import DRAWN, digital_source

from faceexpr_core import mini
from faceexpr_core.commands.generate import add_generate_command
from faceexpr_core.commands.loras import _low_rank, load_loras
from faceexpr_core.commands.saved_picture import METADATA_KEY, require_folder, save_picture
from faceexpr_core.diffusers_host import encoding, pipeline, sampling
from faceexpr_core.errors import FaceExprError

pytestmark = pytest.mark.usefixtures("loaded_once")
PROMPT = "a photo of an old woman, {expression}, grey hair"


def generate(folder: Path, *more: str, model: str = "mini") -> list[Path]:
    """Run the verb; returns what the folder holds afterwards."""
    parser = argparse.ArgumentParser()
    add_generate_command(parser.add_subparsers())
    arguments = parser.parse_args(
        ["generate", "--model", model, "--prompt", PROMPT, "--output_dir", str(folder), "--steps", "2", "--device", "cpu", *more]
    )
    arguments.func(arguments)
    return sorted(folder.iterdir())


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(np.int16)


def test_each_expression_gives_a_picture_that_carries_its_settings(tmp_path: Path) -> None:
    files = generate(tmp_path, "--expression", "happy", "happily surprised", "--seed", "5", "--intensity", "1.2")
    assert [file.name for file in files] == ["happily_surprised_5_00001.png", "happy_5_00001.png"]
    assert Image.open(files[1]).size == (mini.RESOLUTION, mini.RESOLUTION)
    settings = json.loads(Image.open(files[1]).text[METADATA_KEY])  # type: ignore[attr-defined]
    assert (settings["expression"], settings["seed"], settings["intensity"], settings["cfg"]) == ("happy", 5, 1.2, 5.0)
    assert settings["prompts"]["expressions"] == ["a photo of an old woman, happy expression, grey hair"]
    assert str(tmp_path) not in json.dumps(settings)


def test_however_an_expression_is_spelled_it_is_drawn_once_under_its_name(tmp_path: Path) -> None:
    spelled = ("Happily_Surprised", "happily surprised", "--second_expression", "Contemptuous")
    (file,) = generate(tmp_path, "--expression", *spelled, "--width", "64", "--height", "64")
    assert file.name == "happily_surprised_0_00001.png"
    settings = json.loads(Image.open(file).text[METADATA_KEY])  # type: ignore[attr-defined]
    assert (settings["expression"], settings["second_expression"]) == ("happily surprised", "contempt")


def test_a_picture_says_that_a_model_drew_it_as_other_programs_read_it(tmp_path: Path) -> None:
    (file,) = generate(tmp_path, "--width", "64", "--height", "64")
    assert digital_source(file) == DRAWN
    saved = json.loads(Image.open(file).text[METADATA_KEY])  # type: ignore[attr-defined]
    assert {"model", "lora", "seed", "prompts"} <= saved.keys() and "no_metadata" not in saved


def test_without_metadata_a_picture_is_the_same_and_says_nothing(tmp_path: Path) -> None:
    (said,) = generate(tmp_path / "said", "--width", "64", "--height", "64")
    (silent,) = generate(tmp_path / "silent", "--width", "64", "--height", "64", "--no_metadata")
    assert Image.open(silent).info == {}
    assert (pixels(silent) == pixels(said)).all()


def test_the_same_seed_draws_the_same_picture_again_in_a_new_file(tmp_path: Path) -> None:
    options = ("--expression", "sad", "--width", "64", "--height", "96")
    generate(tmp_path, *options)
    first, second = generate(tmp_path, *options)
    assert (first.name, second.name) == ("sad_0_00001.png", "sad_0_00002.png")
    assert pixels(first).shape == (96, 64, 3)
    assert np.array_equal(pixels(first), pixels(second))
    (other,) = generate(tmp_path / "other", *options, "--seed", "1")
    assert np.abs(pixels(first) - pixels(other)).mean() > 1


def test_without_guidance_the_u_net_is_called_for_the_prompt_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    predict = sampling.predict_epsilon

    def counted(pipe, x, *given):
        rows.append(len(x))
        return predict(pipe, x, *given)

    monkeypatch.setattr(sampling, "predict_epsilon", counted)
    for cfg in ("1", "2"):
        generate(tmp_path / cfg, "--steps", "2", "--cfg", cfg, "--width", "64", "--height", "64")
    assert rows == [1, 1, 2, 2]


def test_a_kohya_lora_changes_the_picture_by_its_strength(tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "person.safetensors", spread=6.0)
    options = ("--expression", "neutral", "--width", "64", "--height", "64")
    (plain,) = generate(tmp_path / "plain", *options)
    (off,) = generate(tmp_path / "off", *options, "--lora", str(lora), "--lora_strength", "0")
    (full,) = generate(tmp_path / "full", *options, "--lora", str(lora))
    assert np.abs(pixels(off) - pixels(plain)).max() <= 1
    assert np.abs(pixels(full) - pixels(plain)).mean() > 1
    assert json.loads(Image.open(full).text[METADATA_KEY])["lora"] == ["person.safetensors"]  # type: ignore[attr-defined]


def test_a_checkpoint_saved_by_comfyui_draws_the_same_as_the_directory(tmp_path: Path, comfy_modules, pipe) -> None:
    host = pack.host()
    checkpoint = tmp_path / "mini.safetensors"
    with torch.inference_mode():
        comfy_modules.comfy.sd.save_checkpoint(str(checkpoint), *host.load_mini())
    single = pipeline.load_pipeline(checkpoint)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        given, expected = getattr(single, part).state_dict(), getattr(pipe, part).state_dict()
        assert given.keys() == expected.keys()
        worst = max((given[name].float() - expected[name].float()).abs().max() for name in expected if "position_ids" not in name)
        assert worst < 1e-3, part
    hidden, expected_hidden = (encoding.encode_prompts(each, [PROMPT])[0] for each in (single, pipe))
    assert torch.allclose(hidden, expected_hidden, atol=1e-4)

    first = "model.diffusion_model."
    eighths = {
        name: value.to(torch.float8_e4m3fn if name.startswith(first) else value.dtype) for name, value in load_file(checkpoint).items()
    }
    save_file(eighths, tmp_path / "fp8.safetensors")
    rounded, whole = pipeline.load_pipeline(tmp_path / "fp8.safetensors").unet.state_dict(), single.unet.state_dict()
    assert {value.dtype for value in rounded.values()} == {torch.float32}
    assert any(not torch.equal(value, whole[name]) for name, value in rounded.items())
    assert all(torch.equal(value, whole[name].to(torch.float8_e4m3fn).float()) for name, value in rounded.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--expression", "smug"), "not an expression of the vocabulary"),
        (("--action_units", "99"), "not an action unit"),
        (("--intensity", "2"), "between 0 and 1.5"),
        (("--intensity", "0.5", "--expression", "Neutral", "none"), "--intensity would change nothing: it weighs --expression and"),
        (("--width", "100"), "multiples of 8"),
        (("--lora", "nowhere.safetensors"), "no LoRA file"),
        (("--steps", "0"), "at least 1"),
        (("--count", "0"), "at least 1"),
        (("--cfg", "nan"), "the guidance (cfg) is nan"),
        (("--cfg", "-1"), "the guidance (cfg) is -1; it must lie between 0 and 100"),
        (("--expression_scale", "inf"), "--expression_scale is inf; give a number"),
        (("--lora_strength", "nan", "--lora", __file__), "--lora_strength is nan; give a number"),
        (("--fusion_strength", "nan"), "the strength is nan"),
        (("--seed", "18446744073709551616"), "--seed is 18446744073709551616; give a value from 0 to 18446744073709551615"),
        (("--seed", "-1"), "--seed is -1; give a value from 0 to 18446744073709551615"),
        (("--lora_strength", "0.5"), "--lora_strength would change nothing: there is no LoRA"),
        (("--second_weight", "0"), "there is no second expression"),
        (("--cfg", "1", "--negative", "blurry"), "--negative would change nothing: without guidance nothing is avoided"),
        (("--fusion_text", "expression", "--fusion_window", "0", "1"), "--fusion_text and --fusion_window would change nothing"),
        (("--donor_prompt", "a photo of a man"), "nothing is fused"),
        (("--donor_prompt", "a photo of a man", "--features", "happy.safetensors"), "the file of --features says"),
    ],
)
def test_impossible_wishes_are_refused_before_anything_is_written(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    folder = tmp_path / "out"
    with pytest.raises(FaceExprError, match=re.escape(message)):
        generate(folder, *options, model="nowhere")  # which is asked for last
    assert not folder.exists()


def test_a_folder_in_which_nothing_can_be_saved_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deep" / "out"):
        with pytest.raises(FaceExprError, match=r"pictures cannot be saved in .*it is no folder\. Choose another --output_dir"):
            generate(folder, model="nowhere")


def test_a_drive_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a letter of Windows, above which there is nothing."""
    monkeypatch.setattr(Path, "exists", lambda self: False)
    with pytest.raises(FaceExprError, match=r"pictures cannot be saved in .*its drive is not there\. Choose another --output_dir"):
        require_folder(tmp_path / "out")


def test_a_lora_whose_alphas_and_ranks_differ_from_layer_to_layer_is_applied_as_the_file_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from faceexpr_core.lora.formats import load

    file = write_lora(tmp_path / "resized.safetensors", layers=every_projection(), spread=0.1)
    state, scales = load_file(file), (0.5, 0.25, 1.0)
    for number, key in enumerate(sorted(key for key in state if key.endswith(".alpha"))):
        down, up = (key.replace(".alpha", f".lora_{side}.weight") for side in ("down", "up"))
        if number % 2:
            state[down], state[up] = state[down][:1].clone(), state[up][:, :1].clone()
        state[key] = torch.tensor(scales[number % 3] * len(state[down]))
    state["bundle_emb.anna.clip_l"] = torch.zeros(2, 8)
    save_file(state, file)
    given = _low_rank(file)
    assert len({len(layer.down) for layer in load(file).layers.values()}) == 2
    assert len({len(value) for key, value in given.items() if ".lora_A." in key}) == 1  # older diffusers take the first one's for all
    pipe = pipeline.load_pipeline("mini")
    before = {name: module.weight.clone() for name, module in pipe.unet.named_modules() if name.endswith(("to_q", "to_out.0"))}
    load_loras(pipe, [file], 1.0)
    assert "resized.safetensors: left out: the embeddings anna" in capsys.readouterr().err
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    layers, weights = load(file).layers, dict(pipe.unet.named_parameters())
    assert len({layer.alpha / layer.rank for layer in layers.values()}) == 3 and before
    for name, plain in before.items():
        layer, change = layers[f"unet.{name}"], weights[f"{name}.weight"] - plain
        assert torch.allclose(change, layer.alpha / layer.rank * (layer.up @ layer.down), atol=1e-6), name


def test_what_diffusers_cannot_apply_is_said(tmp_path: Path) -> None:
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v"
    pair = {f"{name}.lora_down.weight": torch.zeros(2, 160), f"{name}.lora_up.weight": torch.zeros(160, 2)}
    save_file({**pair, f"{name}.dora_scale": torch.ones(160, 1)}, tmp_path / "dora.safetensors")
    with pytest.raises(FaceExprError, match=r"dora\.safetensors cannot be applied here: .*1 x dora_scale.* Load FaceExpr LoRA in ComfyUI"):
        generate(tmp_path / "out", "--lora", str(tmp_path / "dora.safetensors"))


def test_a_lora_for_another_model_is_refused(tmp_path: Path) -> None:
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v"
    file = tmp_path / "wide.safetensors"
    save_file(
        {
            f"{name}.lora_down.weight": torch.zeros(2, 1280),
            f"{name}.lora_up.weight": torch.zeros(1280, 2),
            f"{name}.alpha": torch.tensor(2.0),
        },
        file,
    )
    with pytest.raises(FaceExprError, match=r"wide\.safetensors does not fit this model"):
        generate(tmp_path / "out", "--lora", str(file))


def test_a_lora_of_which_no_layer_fits_is_refused(tmp_path: Path) -> None:
    name, file = "transformer.blocks.0.attn.to_q", tmp_path / "flux.safetensors"
    save_file({f"{name}.lora_A.weight": torch.zeros(2, 8), f"{name}.lora_B.weight": torch.zeros(8, 2)}, file)
    with pytest.raises(FaceExprError, match=r"flux\.safetensors does not fit this model: none of its layers is one of SDXL's"):
        generate(tmp_path / "out", "--lora", str(file))


def test_models_that_are_not_sdxl_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FaceExprError, match="there is no model"):
        pipeline.load_pipeline(tmp_path / "absent")
    with pytest.raises(FaceExprError, match=r"no model_index\.json"):
        pipeline.load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(FaceExprError, match="holds a StableDiffusionPipeline; an SDXL"):
        pipeline.load_pipeline(tmp_path)
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3)}, tmp_path / "sd15.safetensors")
    with pytest.raises(FaceExprError, match="is no SDXL checkpoint"):
        pipeline.load_pipeline(tmp_path / "sd15.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(FaceExprError, match="not a whole"):
        pipeline.load_pipeline(tmp_path / "broken.safetensors")


def test_a_model_that_predicts_neither_noise_nor_velocity_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "velocity"
    shutil.copytree(mini.path(), copy)
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace('"epsilon"', '"sample"'))
    with pytest.raises(FaceExprError, match="predicts sample"):
        pipeline.load_pipeline(copy)


def test_a_picture_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(FaceExprError, match="could not be saved"):
        save_picture(picture, Path("/proc/faceexpr"), "x", {})

    def full(self: Image.Image, file: Any, **_: object) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(FaceExprError, match="No space left on device"):
        save_picture(picture, tmp_path, "x", {})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("interrupted", ["while it is encoded", "while it is written"])
def test_ctrl_c_while_a_picture_is_saved_leaves_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: str) -> None:
    plain = Image.Image.save

    def half(self: Image.Image, file: Any, **how: Any) -> None:
        plain(self, whole := io.BytesIO(), **how)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        raise KeyboardInterrupt

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    first = save_picture(Image.new("RGB", (64, 64)), tmp_path, "happy_0", {})
    if interrupted == "while it is encoded":
        monkeypatch.setattr(Image.Image, "save", half)
    else:
        monkeypatch.setattr("os.fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        save_picture(Image.new("RGB", (64, 64)), tmp_path, "happy_0", {})
    assert [*tmp_path.iterdir()] == [first]


def test_pictures_lie_at_the_first_free_number_and_keep_the_letters_of_any_language(tmp_path: Path) -> None:
    stems = {"安娜_happy": "安娜_happy", "José (2)_sad": "José_2__sad", "अनीता/..x": "अनीता_..x", "a__b": "a__b", "50% à?": "50_à_"}
    for stem, name in stems.items():
        for number in (1, 2):
            assert save_picture(Image.new("RGB", (8, 8)), tmp_path, stem, None) == tmp_path / f"{name}_{number:05}.png"
    assert len([*tmp_path.iterdir()]) == 2 * len(stems)


def test_sdxls_configurations_describe_sdxl() -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(pipeline.SDXL_CONFIGS / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(pipeline.SDXL_CONFIGS / "vae"))
    assert sum(weight.numel() for weight in unet.parameters()) == 2_567_463_684
    assert sum(weight.numel() for weight in vae.parameters()) == 83_653_863
    widths = [CLIPTextConfig.from_pretrained(pipeline.SDXL_CONFIGS / name).hidden_size for name in ("text_encoder", "text_encoder_2")]
    assert sum(widths) == unet.config.cross_attention_dim


@pytest.mark.parametrize(
    ("first", "encoder", "told"),
    [
        ((320, 9, 3, 3), 1, r"9 channels .* inpainting"),
        ((384, 4, 3, 3), 0, r"is an SDXL refiner, .* Give a complete SDXL checkpoint"),
    ],
    ids=["inpainting", "refiner"],
)
def test_a_checkpoint_of_another_kind_is_refused_by_what_it_is(tmp_path: Path, first: tuple[int, ...], encoder: int, told: str) -> None:
    path, last = tmp_path / "other.safetensors", f"conditioner.embedders.{encoder}.model.ln_final.weight"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(first), last: torch.zeros(1280)}, path)
    with pytest.raises(FaceExprError, match=told):
        pipeline.load_pipeline(path)
