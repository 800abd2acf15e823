"""LoRA files of four programs: read as those programs write them, and turned into each other without changing a bit."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pack
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from distances import relative
from mini_noise import epsilon
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file

from faceexpr_core import mini
from faceexpr_core.commands.cli import main
from faceexpr_core.commands.lora import save_adapter
from faceexpr_core.errors import FaceExprError
from faceexpr_core.lora.describe import describe
from faceexpr_core.lora.files import read_lora, save_lora
from faceexpr_core.lora.formats import FORMATS, Layer, Lora, decode, encode, load
from faceexpr_core.lora.given import digest_of_lora, files_of, name_of_lora
from faceexpr_core.lora.names import comfyui_module, from_stability, kohya_module, module_of, sd_scripts_module, to_stability
from faceexpr_core.lora.start import read_start

Q = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
FF = "unet.up_blocks.0.attentions.2.transformer_blocks.0.ff.net.0.proj"
CONV = "unet.down_blocks.0.resnets.1.conv2"
SKIP = "unet.up_blocks.1.resnets.2.conv_shortcut"
TE1 = "text_encoder.text_model.encoder.layers.1.self_attn.q_proj"
TE2 = "text_encoder_2.text_model.encoder.layers.0.mlp.fc1"


def layer(rank: int, inside: tuple[int, ...], outside: int, alpha: float, dtype: torch.dtype = torch.float32) -> Layer:
    generator = torch.Generator().manual_seed(rank * 1000 + outside)
    down = torch.randn(rank, *inside, generator=generator)
    up = torch.randn(outside, rank, *[1] * (len(inside) - 1), generator=generator)
    return Layer(down.to(dtype), up.to(dtype), alpha)


def table(dtype: torch.dtype = torch.float32) -> Lora:
    layers = {
        Q: layer(4, (128,), 128, 4.0, dtype),
        OUT: layer(4, (160,), 160, 1.0, dtype),
        FF: layer(8, (160,), 1280, 2.5, dtype),
        CONV: layer(2, (64, 3, 3), 64, 2.0, dtype),
        SKIP: layer(4, (192, 1, 1), 128, 4.0, dtype),
        TE1: layer(4, (32,), 32, 4.0, dtype),
        TE2: layer(3, (64,), 256, 0.1, dtype),
    }
    return Lora(layers, {}, {}, {"modelspec.trigger_phrase": "ohwx woman"}, "kohya")


def same(first: Lora, second: Lora) -> bool:
    assert first.layers.keys() == second.layers.keys()
    for name, one in first.layers.items():
        two = second.layers[name]
        assert one.down.dtype == two.down.dtype and torch.equal(one.down, two.down), name
        assert torch.equal(one.up, two.up), name
        assert two.alpha == pytest.approx(one.alpha, rel=1e-7), name  # kohya's alpha is a float32
    return True


def written(lora: Lora, spelling: str, path: Path) -> Path:
    encoded = encode(lora, spelling)
    assert encoded.lost == ()
    return (
        save_adapter(path, encoded)
        if spelling == "peft"
        else save_lora(path.with_suffix(".safetensors"), encoded.state, encoded.metadata, None)
    )


def test_a_lora_of_the_second_text_encoder_alone_is_read_back_as_that(tmp_path: Path) -> None:
    start = table(torch.float32)
    second = replace(start, layers={name: layer for name, layer in start.layers.items() if name.startswith("text_encoder_2.")})
    assert second.layers and same(second, load(written(second, "peft", tmp_path / "second")))


def test_an_adapter_needs_a_name_of_its_own(tmp_path: Path) -> None:
    for name in (".", "..", "/"):
        with pytest.raises(FaceExprError, match="give the name of a new one in it"):
            save_adapter(Path(name), encode(table(torch.float32), "peft"))


def test_an_adapter_may_have_the_longest_name_that_the_disk_takes(tmp_path: Path) -> None:
    assert save_adapter(tmp_path / ("a" * 255), encode(table(torch.float32), "peft")).is_dir()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("second", FORMATS)
@pytest.mark.parametrize("first", FORMATS)
def test_any_format_goes_through_any_other_without_changing_a_bit(tmp_path: Path, first: str, second: str, dtype: torch.dtype) -> None:
    start = table(dtype)
    there = load(written(start, first, tmp_path / "first"))
    assert there.spelling == first and not there.unknown and not there.notes and same(start, there)
    back = load(written(there, second, tmp_path / "second"))
    assert back.spelling == second and same(start, back)
    assert back.metadata["modelspec.trigger_phrase"] == "ohwx woman"


@pytest.mark.parametrize(
    ("key", "module"),
    [
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", Q),
        ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q", Q),
        ("lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q", Q),
        ("diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q", Q),
        ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q", Q),
        ("down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q", Q),
        ("unet.base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", Q),
        ("base_model.model.unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", Q),
        ("lora_unet_middle_block_1_transformer_blocks_0_attn2_to_out_0", OUT),
        ("unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out", OUT),
        ("lora_unet_output_blocks_2_1_transformer_blocks_0_ff_net_0_proj", FF),
        ("lora_unet_input_blocks_2_0_out_layers_3", CONV),
        ("diffusion_model.output_blocks.5.0.skip_connection", SKIP),
        ("lora_unet_output_blocks_2_2_conv", "unet.up_blocks.0.upsamplers.0.conv"),
        ("lora_unet_input_blocks_3_0_op", "unet.down_blocks.0.downsamplers.0.conv"),
        ("lora_unet_label_emb_0_2", "unet.add_embedding.linear_2"),
        ("lora_te_text_model_encoder_layers_1_self_attn_q_proj", TE1),
        ("text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc1", TE2),
        ("text_encoder.text_model.encoder.layers.1.self_attn.to_q", TE1),
        ("base_model.model.encoder.layers.1.self_attn.q_proj", TE1),
    ],
)
def test_every_spelling_of_a_module_is_understood(key: str, module: str) -> None:
    found = module_of(key)
    assert found is not None and found[1] == module


@pytest.mark.parametrize(
    "key", ["lora_unet_double_blocks_0_img_attn_proj", "transformer.transformer_blocks.0.attn.to_q", "lora_te1_", "", "x"]
)
def test_modules_of_other_models_are_not_taken_for_ours(key: str) -> None:
    assert module_of(key) is None


def test_every_module_of_the_unet_has_a_name_in_each_spelling() -> None:
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(mini.path() / "unet"))
    modules = [name.removesuffix(".weight") for name, value in unet.named_parameters() if name.endswith(".weight")]
    assert len(modules) > 150
    assert [from_stability(to_stability(name)) for name in modules] == modules
    assert len({to_stability(name) for name in modules}) == len(modules)
    for name in modules:
        for spell in (kohya_module, comfyui_module):
            found = module_of(spell(f"unet.{name}"))
            assert found is not None and found[1] == f"unet.{name}"


def test_sd_scripts_names_are_those_of_stabilitys_unet_which_kohyas_scripts_have(comfy_modules) -> None:
    """kohya's SDXL U-Net is named as Stability's, as ComfyUI's is; its networks put `lora_unet_` before the path, with underscores."""
    import importlib

    model, _, _ = pack.host().load_mini()
    stability = importlib.import_module("comfy.utils").unet_to_diffusers(model.model.model_config.unet_config)
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(mini.path() / "unet"))
    from faceexpr_core.training.adapter import lora_targets

    names = lora_targets(unet, (), True)
    for name in names:
        theirs = stability[f"{name}.weight"].removesuffix(".weight")
        assert sd_scripts_module(f"unet.{name}") == f"lora_unet_{theirs.replace('.', '_')}", name
    assert len(names) > 60 and any(".conv1" in name for name in names)
    for part, prefix in (("text_encoder", "lora_te1_"), ("text_encoder_2", "lora_te2_")):
        path = "text_model.encoder.layers.3.self_attn.q_proj"
        assert sd_scripts_module(f"{part}.{path}") == prefix + path.replace(".", "_")


def test_what_is_written_for_sd_scripts_is_read_back_and_drawn_the_same(
    lora_pipe: StableDiffusionXLPipeline, adapter: PeftModel, tmp_path: Path
) -> None:
    weights = {key.removeprefix("base_model.model."): value for key, value in get_peft_model_state_dict(adapter).items()}
    lora = decode({f"unet.{key}": value for key, value in weights.items()}, {}, {})
    path = written(lora, "sd-scripts", tmp_path / "scripts")
    assert not [key for key in load_file(path) if "down_blocks" in key or "up_blocks" in key or "mid_block_" in key]
    assert same(lora, load(path))
    assert relative(drawn_with(lora_pipe, path), drawn_with(lora_pipe, written(lora, "kohya", tmp_path / "plain"))) < 1e-6


CONFIG = LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"], alpha_pattern={"mid_block.*to_k": 6})


@pytest.fixture(scope="module")
def adapter(lora_pipe: StableDiffusionXLPipeline) -> Iterator[PeftModel]:
    """PEFT's own model of Mini's U-Net, with a random LoRA whose alphas differ."""
    torch.manual_seed(3)
    model = get_peft_model(copy.deepcopy(lora_pipe.unet), CONFIG)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    yield model.eval()


def drawn_with(lora_pipe: StableDiffusionXLPipeline, path: Path) -> torch.Tensor:
    lora_pipe.load_lora_weights(str(path))
    try:
        return epsilon(lora_pipe.unet)
    finally:
        lora_pipe.unload_lora_weights()


@pytest.mark.parametrize("form", ["lora.down", "lora_A"])
def test_diffusers_own_files_are_read_whole_and_written_as_diffusers_reads_them(
    lora_pipe: StableDiffusionXLPipeline, adapter: PeftModel, tmp_path: Path, form: str
) -> None:
    weights = {key.removeprefix("base_model.model."): value for key, value in get_peft_model_state_dict(adapter).items()}
    weights = convert_state_dict_to_diffusers(weights) if form == "lora.down" else weights
    assert any(form in key for key in weights)
    told = {**CONFIG.to_dict(), "target_modules": list(CONFIG.target_modules or ())}
    StableDiffusionXLPipeline.save_lora_weights(tmp_path, unet_lora_layers=weights, unet_lora_adapter_metadata=told)
    lora = load(tmp_path / "pytorch_lora_weights.safetensors")
    assert lora.spelling == "diffusers" and not lora.unknown and not lora.notes
    assert len(lora.layers) == len(weights) // 2
    assert {one.alpha for name, one in lora.layers.items() if "mid_block" in name and name.endswith("to_k")} == {6.0}
    assert {one.alpha for name, one in lora.layers.items() if name.endswith("to_q")} == {2.0}
    through_kohya = load(written(lora, "kohya", tmp_path / "kohya"))  # diffusers itself reads one alpha of a kohya file
    for one in (lora, through_kohya):
        assert relative(drawn_with(lora_pipe, written(one, "diffusers", tmp_path / "ours")), epsilon(adapter)) < 1e-5
    assert relative(epsilon(lora_pipe.unet), epsilon(adapter)) > 1e-2


def test_a_diffusers_file_without_metadata_is_taken_at_scale_1_and_that_is_said(adapter: PeftModel, tmp_path: Path) -> None:
    weights = {key.removeprefix("base_model.model."): value for key, value in get_peft_model_state_dict(adapter).items()}
    StableDiffusionXLPipeline.save_lora_weights(tmp_path, unet_lora_layers=weights)
    lora = load(tmp_path / "pytorch_lora_weights.safetensors")
    assert {one.alpha for one in lora.layers.values()} == {4.0}
    assert lora.notes == (f"{len(lora.layers)} of {len(lora.layers)} layers name no alpha: taken as the rank, scale 1",)


def test_pefts_own_adapters_are_read_and_ours_are_read_by_peft(
    lora_pipe: StableDiffusionXLPipeline, adapter: PeftModel, tmp_path: Path
) -> None:
    adapter.save_pretrained(tmp_path / "theirs")
    lora = load(tmp_path / "theirs")
    assert lora.spelling == "peft" and not lora.notes
    assert same(lora, load(tmp_path / "theirs" / "adapter_model.safetensors"))
    assert relative(drawn_with(lora_pipe, written(lora, "diffusers", tmp_path / "diffusers")), epsilon(adapter)) < 1e-5
    ours = PeftModel.from_pretrained(copy.deepcopy(lora_pipe.unet), written(lora, "peft", tmp_path / "ours"))
    assert relative(epsilon(ours.eval()), epsilon(adapter)) < 1e-6


def test_rank_stabilised_alpha_is_brought_to_plain_alpha(tmp_path: Path) -> None:
    folder = written(table(), "peft", tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    before = load(folder).layers[Q].alpha
    (folder / "adapter_config.json").write_text(json.dumps({**config, "use_rslora": True}))
    assert load(folder).layers[Q].alpha == pytest.approx(before * 4**0.5)


def reading() -> Lora:
    """A LoRA on all three parts."""
    layers = {
        f"{part}.text_model.encoder.layers.0.self_attn.{name}": layer(2, (width,), width, 3.0)
        for part, width in (("text_encoder", 32), ("text_encoder_2", 64))
        for name in ("q_proj", "k_proj", "v_proj", "out_proj")  # diffusers knows kohya's text encoders by out_proj
    }
    return Lora({Q: table().layers[Q], **layers}, {}, {}, {}, "kohya")


def test_text_encoders_go_through_diffusers_too(lora_pipe: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    """A LoRA on all three parts, in both formats that diffusers reads, gives the same text embeddings."""
    lora = reading()
    plain = lora_pipe.encode_prompt("a photo of a woman", device="cpu")[0]
    embeds = []
    for spelling in ("kohya", "diffusers"):
        lora_pipe.load_lora_weights(str(written(lora, spelling, tmp_path / spelling)))
        try:
            embeds.append(lora_pipe.encode_prompt("a photo of a woman", device="cpu")[0])
        finally:
            lora_pipe.unload_lora_weights()
    assert relative(embeds[1], embeds[0]) < 1e-6
    assert relative(embeds[0], plain) > 1e-3


def test_a_peft_adapter_is_whole_on_the_command_line_by_its_folder_and_by_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = reading()
    folder = written(start, "peft", tmp_path / "adapter")
    weights = folder / "adapter_model.safetensors"
    own = {name: one for name, one in start.layers.items() if name.startswith("unet.")}
    given = {"kohya": written(start, "kohya", tmp_path / "kohya"), "folder": folder, "file": weights}
    given |= {"U-Net alone": written(replace(start, layers=own), "kohya", tmp_path / "unet")}
    drawn = {}
    for name, lora in given.items():
        words = ["generate", "--model", "mini", "--steps", "1", "--width", "64", "--height", "64", "--output_dir", str(tmp_path / "out")]
        assert main([*words, "--lora", str(lora)]) == 0
        drawn[name] = np.asarray(Image.open(capsys.readouterr().out.strip())).astype(int)
    assert np.array_equal(drawn["folder"], drawn["file"]) and np.abs(drawn["file"] - drawn["kohya"]).max() <= 1
    assert np.abs(drawn["file"] - drawn["U-Net alone"]).max() > 1

    assert main(["lora", "convert", str(weights), "--to", "kohya", "--output", str(tmp_path / "converted")]) == 0
    assert same(start, load(tmp_path / "converted.safetensors"))
    assert read_start(weights).layers.keys() == start.layers.keys()


def test_an_adapter_is_known_again_by_all_its_files(tmp_path: Path) -> None:
    """The folder and the file of its weights are the same LoRA; another text encoder, or another alpha in its settings, makes another."""
    folder = written(reading(), "peft", tmp_path / "anna.v2")
    weights, part = folder / "adapter_model.safetensors", folder / "text_encoder_2"
    first = digest_of_lora(folder)
    assert first == digest_of_lora(weights) and name_of_lora(folder) == name_of_lora(weights) == "anna.v2"
    assert len(files_of(weights)) == 6
    for changed in (part / "adapter_model.safetensors", part / "adapter_config.json", weights):
        before = changed.read_bytes()
        changed.write_bytes(before + b" ")
        assert digest_of_lora(folder) == digest_of_lora(weights) != first
        changed.write_bytes(before)
    for file in (weights, folder / "adapter_config.json"):
        file.unlink()
    assert digest_of_lora(folder) != first  # of the text encoders alone
    plain = written(reading(), "kohya", tmp_path / "ben")
    assert digest_of_lora(plain) == hashlib.sha256(plain.read_bytes()).hexdigest()[:16] and name_of_lora(plain) == "ben"


def test_a_folder_that_is_no_adapter_is_refused_before_anything_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--model", "nowhere", "--output_dir", str(tmp_path / "out"), "--lora", str(tmp_path)]) == 2
    assert f"The folder {tmp_path} holds no adapter_model.safetensors" in capsys.readouterr().err


def trained_by_comfyui(comfy_modules, steps: int = 2) -> dict[str, torch.Tensor]:
    """What ComfyUI's own Train LoRA node gives on Mini."""
    import importlib

    host = pack.host()
    train = importlib.import_module("comfy_extras.nodes_train").TrainLoraNode
    with torch.inference_mode():
        model, clip, _ = host.load_mini()
        positive = host.encode_conditioning(clip, "a photo of ohwx woman")
        latents = [{"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))} for seed in (0, 1)]
        given = (positive, 1, steps, 1, 1e-2, 4, "AdamW", "MSE", 0, "fp32", "fp32", "LoRA", False, "[None]")
        output = train.execute([model], latents, *([value] for value in given))  # a node that takes lists
    return {key: value.detach().clone() for key, value in output.args[1].items()}


@pytest.fixture(scope="module")
def comfyui_state(comfy_modules) -> dict[str, torch.Tensor]:
    return trained_by_comfyui(comfy_modules)


def test_what_comfyui_trains_is_read_whole(comfyui_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    lora = decode(comfyui_state, {}, {})
    assert lora.spelling == "comfyui" and not lora.unknown and not lora.notes
    assert {one.alpha for one in lora.layers.values()} == {1.0}
    assert lora.layers[CONV].down.shape == (4, 64, 3, 3) and lora.layers[Q].up.shape == (128, 4)
    assert sum(len(extra) for extra in lora.others.values()) > 100  # biases and norms
    kohya = load(written(lora, "kohya", tmp_path / "kohya"))
    back = encode(kohya, "comfyui").state
    assert back.keys() == comfyui_state.keys()
    assert all(torch.equal(back[key], value) for key, value in comfyui_state.items())


def test_what_a_format_cannot_hold_is_named(comfyui_state: dict[str, torch.Tensor]) -> None:
    lora = decode({**comfyui_state, "strange.key": torch.zeros(1)}, {}, {})
    for spelling in ("diffusers", "peft"):
        encoded = encode(lora, spelling)
        assert len(encoded.state) == 2 * len(lora.layers)
        assert "1 keys that name no module of Stable Diffusion (strange.key)" in encoded.lost[0]
        assert "diff_b" in encoded.lost[1] and "x diff," in encoded.lost[1].replace(")", ",")
    assert len(encode(lora, "kohya").lost) == 1


def test_a_dora_is_kept_or_left_out_whole() -> None:
    scale = torch.ones(128)
    peft = {f"base_model.model.{Q[5:]}.lora_magnitude_vector": scale}
    peft |= {f"base_model.model.{Q[5:]}.lora_{side}.weight": torch.ones(shape) for side, shape in (("A", (4, 128)), ("B", (128, 4)))}
    lora = decode(peft, {}, {"lora_alpha": 4})
    assert encode(lora, "kohya").state[f"{kohya_module(Q)}.dora_scale"].shape == (128, 1)
    with pytest.raises(FaceExprError, match="Nothing of this LoRA can be written for diffusers"):
        encode(lora, "diffusers")


def test_half_a_pair_and_pairs_of_unequal_rank_are_unknown() -> None:
    name = kohya_module(Q)
    broken = {
        f"{name}.lora_up.weight": torch.ones(8, 4),
        f"{name}.lora_down.weight": torch.ones(3, 8),
        "lora_unet_conv_in.lora_up.weight": torch.ones(8, 4),
    }
    lora = decode(broken, {}, {})
    assert not lora.layers and lora.unknown.keys() == broken.keys()


def test_the_norm_is_that_of_the_change() -> None:
    one = layer(4, (64, 3, 3), 32, 2.5)
    change = 2.5 / 4 * one.up.flatten(1) @ one.down.flatten(1)
    assert one.norm() == pytest.approx(float(change.norm()), rel=1e-5)


def test_inspect_tells_what_is_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lora = table()
    path = written(lora, "diffusers", tmp_path / "anna")
    assert main(["lora", "inspect", str(path)]) == 0
    report = capsys.readouterr().out
    assert report == describe(load(path)) + "\n"
    assert "format    diffusers" in report and "modelspec.trigger_phrase: ohwx woman" in report
    assert "rank      4 (4 layers), " in report and "8 (1 layers)" in report
    (line,) = (line for line in report.splitlines() if line.startswith("unet.down_blocks.1.attentions.0"))
    assert float(line.split()[-1]) == pytest.approx(lora.layers[Q].norm(), rel=1e-3)


@pytest.mark.parametrize(
    ("inside", "family"), [(768, "SD 1.x"), (2048, "SDXL"), (96, "FaceExpr Mini"), (77, "a U-Net with text of width 77")]
)
def test_the_family_is_told_by_the_width_of_the_text(inside: int, family: str) -> None:
    name = Q.replace("attn1.to_q", "attn2.to_k")
    assert Lora({name: layer(2, (inside,), 640, 1.0)}, {}, {}, {}, "kohya").family() == family


def test_convert_writes_anew_and_says_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoded = encode(table(), "kohya")
    source = save_lora(tmp_path / "anna.safetensors", {**encoded.state, "odd": torch.zeros(2)}, encoded.metadata, None)
    before = source.read_bytes()
    for name in ("out.safetensors", "out_00001_.safetensors"):
        assert main(["lora", "convert", str(source), "--to", "comfyui", "--output", str(tmp_path / "out")]) == 0
        told = capsys.readouterr()
        assert told.out == f"{tmp_path / name}\n" and "left out: 1 keys that name no module of Stable Diffusion (odd)" in told.err
        assert same(table(), load(tmp_path / name))
    assert main(["lora", "convert", str(source), "--to", "kohya", "--output", str(source)]) == 0
    assert source.read_bytes() == before
    for name in ("peft", "peft_00001_"):
        assert main(["lora", "convert", str(source), "--to", "peft", "--output", str(tmp_path / "peft")]) == 0
        assert same(table(), load(tmp_path / name))
    assert not list(tmp_path.glob(".*"))


def test_convert_refuses_what_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"transformer.x.lora_A.weight": torch.ones(2, 2)}, tmp_path / "flux.safetensors")
    source = written(table(), "kohya", tmp_path / "anna")
    for given, to, output, message in (
        (tmp_path / "none.safetensors", "kohya", "a", "cannot be read as a LoRA"),
        (tmp_path / "flux.safetensors", "kohya", "a", "Nothing of this LoRA can be written for kohya"),
        (source, "peft", "a.safetensors", "PEFT keeps an adapter in a folder"),
        (source, "kohya", ".", "is a folder"),
        (tmp_path, "kohya", "a", "holds no adapter_model.safetensors"),
    ):
        assert main(["lora", "convert", str(given), "--to", to, "--output", str(tmp_path / output)]) == 2
        assert message in capsys.readouterr().err
    folder = written(table(), "peft", tmp_path / "adapter")
    (folder / "adapter_config.json").write_text('{"r": 4')
    assert main(["lora", "inspect", str(folder)]) == 2
    assert "adapter_config.json of the LoRA is not whole JSON" in capsys.readouterr().err
    assert read_lora(source)[0]
