"""FaceExprLoadLoRA on Mini in ComfyUI: all four formats, what it cannot use, and files of other models."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pack
import pytest
import torch
from comfy_process import ComfyError, ComfyProcess, Graph
from numpy.typing import NDArray
from PIL import Image

from faceexpr_core.commands.lora import save_adapter
from faceexpr_core.lora.files import save_lora
from faceexpr_core.lora.formats import Layer, Lora, encode

FORMATS = ("kohya", "diffusers", "peft", "comfyui")
BLOCK = "unet.{}.attentions.0.transformer_blocks.0.{}"


def layer(inside: int, outside: int, alpha: float, seed: int) -> Layer:
    generator = torch.Generator().manual_seed(seed)
    return Layer(torch.randn(4, inside, generator=generator) * 0.1, torch.randn(outside, 4, generator=generator) * 0.3, alpha)


def made_for(text_width: int, widths: dict[str, int], text_encoders: dict[str, int]) -> Lora:
    """A random LoRA, its alphas not its rank, for a U-Net with these blocks and text encoders of these widths."""
    layers: dict[str, Layer] = {}
    for block, width in widths.items():
        for name, inside in (("attn1.to_q", width), ("attn2.to_k", text_width), ("attn2.to_out.0", width)):
            layers[BLOCK.format(block, name)] = layer(inside, width, 2.0 if name == "attn1.to_q" else 6.0, len(layers))
    for part, width in text_encoders.items():
        layers[f"{part}.text_model.encoder.layers.0.self_attn.q_proj"] = layer(width, width, 4.0, len(layers))
        layers[f"{part}.text_model.encoder.layers.0.self_attn.out_proj"] = layer(width, width, 4.0, len(layers))
    return Lora(layers, {}, {}, {"modelspec.trigger_phrase": "ohwx woman"}, "kohya")


MINI = made_for(96, {"down_blocks.1": 128, "mid_block": 160, "up_blocks.0": 160}, {"text_encoder": 32, "text_encoder_2": 64})
SD15 = made_for(768, {"down_blocks.1": 640, "mid_block": 1280}, {"text_encoder": 768})


def written(lora: Lora, spelling: str, folder: Path, name: str) -> str:
    """The name in the loras folder."""
    encoded = encode(lora, spelling)
    if spelling == "peft":
        return f"{save_adapter(folder / name, encoded).name}/adapter_model.safetensors"
    return save_lora(folder / f"{name}.safetensors", encoded.state, encoded.metadata, None).name


@pytest.fixture(scope="module")
def comfyui(comfy_modules) -> Iterator[SimpleNamespace]:
    host, node = pack.host(), pack.node("load_lora")
    errors = importlib.import_module("faceexpr_pack.faceexpr_core.errors")
    with torch.inference_mode():
        model, clip, _ = host.load_mini()
        yield SimpleNamespace(
            model=model,
            clip=clip,
            load=node.LoadLoRA.execute,
            error=errors.FaceExprError,
            folder=Path(comfy_modules.folder_paths.get_folder_paths("loras")[0]),
            native=comfy_modules.nodes.LoraLoader().load_lora,
        )


def changes(patcher) -> dict[str, torch.Tensor]:
    """What the patches make of each weight, computed by ComfyUI."""
    calculate = importlib.import_module("comfy.lora").calculate_weight
    state = patcher.model.state_dict()
    return {key: calculate(patches, state[key].clone(), key) for key, patches in patcher.patches.items()}


@pytest.mark.parametrize("spelling", FORMATS)
def test_every_format_gives_what_comfyuis_own_loader_makes_of_the_kohya_file(
    comfyui, spelling: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = written(MINI, spelling, comfyui.folder, f"mini_{spelling}")
    kohya = written(MINI, "kohya", comfyui.folder, f"reference_{spelling}")
    native_model, native_clip = comfyui.native(comfyui.model, comfyui.clip, kohya, 0.7, 0.4)
    with caplog.at_level(logging.WARNING):
        model, clip, report = comfyui.load(comfyui.model, name, 0.7, 0.4, comfyui.clip).args
    assert not [record for record in caplog.records if "lora" in record.message.lower()]
    for ours, theirs, count in ((model, native_model, 9), (clip.patcher, native_clip.patcher, 4)):
        made, expected = changes(ours), changes(theirs)
        assert len(made) == count and made.keys() == expected.keys()
        assert all(torch.equal(made[key], expected[key]) for key in made)
    assert f"{name}: {spelling} format, made for FaceExpr Mini, rank 4" in report
    assert "MODEL: 9 layers at strength 0.7" in report and "CLIP: 4 layers at strength 0.4" in report
    assert "write in the prompt: ohwx woman" in report and "NOT USED" not in report
    assert not comfyui.model.patches and not comfyui.clip.patcher.patches


def test_what_cannot_be_used_is_said(comfyui) -> None:
    extra = {
        BLOCK.format("down_blocks.7", "attn1.to_q"): layer(128, 128, 4.0, 1),
        BLOCK.format("up_blocks.1", "attn1.to_q"): layer(64, 128, 4.0, 2),
    }
    lora = Lora({**MINI.layers, **extra}, {}, {}, {}, "kohya")
    state = {**encode(lora, "kohya").state, "odd.key": torch.zeros(1)}
    name = save_lora(comfyui.folder / "partly.safetensors", state, {}, None).name
    model, clip, report = comfyui.load(comfyui.model, name).args
    assert clip is None and len(model.patches) == 9
    told = [line for line in report.splitlines() if line.startswith("NOT USED")]
    assert [line.split(":")[1] for line in told] == [
        " 4, since they are for the CLIP, and none is connected",
        " 1, since this model has no such layers",
        " 1, since their size is another in this model",
        " 1, since they name no module of Stable Diffusion",
    ]
    assert "down_blocks.7" in told[1] and "up_blocks.1" in told[2] and "odd.key" in told[3]


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (SD15, "was made for SD 1.x and does not fit this MODEL"),
        (made_for(2048, {"mid_block": 1280}, {}), "was made for SDXL and does not fit this MODEL"),
        # self-attention of another family may fit; the width of the text tells
        (made_for(768, {"mid_block": 160}, {}), r"was made for SD 1.x and does not fit this MODEL \(2 of its 3 layers would\)"),
    ],
)
def test_a_lora_of_another_model_is_an_error(comfyui, lora: Lora, message: str) -> None:
    name = written(lora, "diffusers", comfyui.folder, f"other_{len(list(comfyui.folder.iterdir()))}")
    with pytest.raises(comfyui.error, match=message):
        comfyui.load(comfyui.model, name, 1.0, 1.0, comfyui.clip)


def test_a_lora_of_another_kind_of_network_is_an_error(comfyui) -> None:
    state = {f"transformer.blocks.0.attn.to_q.lora_{side}.weight": torch.ones(4, 4) for side in "AB"}
    name = save_lora(comfyui.folder / "flux.safetensors", state, {}, None).name
    with pytest.raises(comfyui.error, match="was made for no known U-Net and does not fit this MODEL"):
        comfyui.load(comfyui.model, name)


def test_a_lora_for_the_clip_alone_needs_one(comfyui) -> None:
    layers = {name: one for name, one in MINI.layers.items() if not name.startswith("unet")}
    name = written(Lora(layers, {}, {}, {}, "kohya"), "kohya", comfyui.folder, "clip_only")
    with pytest.raises(comfyui.error, match="changes only the CLIP, and none is connected"):
        comfyui.load(comfyui.model, name)
    _, clip, report = comfyui.load(comfyui.model, name, 1.0, 1.0, comfyui.clip).args
    assert len(clip.patcher.patches) == 4 and "MODEL: 0 layers" in report


def graph(loader: str, lora_name: str) -> Graph:
    """A picture of Mini with a LoRA."""
    sampling = {"seed": 1, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": ["lora", 0], "positive": ["text", 0], "negative": ["text", 0], "latent_image": ["empty", 0]}
    lora = {"model": ["mini", 0], "clip": ["mini", 1], "lora_name": lora_name, "strength_model": 1.0, "strength_clip": 1.0}
    return {
        "mini": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "lora": {"class_type": loader, "inputs": lora},
        "text": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["lora", 1], "text": "a photo of ohwx woman"}},
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "draw": {"class_type": "KSampler", "inputs": {**links, **sampling}},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["draw", 0], "vae": ["mini", 2]}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "loaded"}},
    }


def test_in_a_graph_a_diffusers_file_draws_what_the_kohya_file_draws(comfy: ComfyProcess) -> None:
    kohya, diffusers, other = (
        written(lora, spelling, comfy.lora_dir, f"graph_{spelling}_{number}")
        for number, (lora, spelling) in enumerate([(MINI, "kohya"), (MINI, "diffusers"), (SD15, "kohya")])
    )

    def drawn(loader: str, name: str) -> np.ndarray:
        picture = comfy.run(graph(loader, name))["save"]["images"][0]
        return np.asarray(Image.open(BytesIO(comfy.view(picture))), np.int16)

    expected = drawn("LoraLoader", kohya)
    assert np.array_equal(drawn("FaceExprLoadLoRA", kohya), expected)
    assert np.array_equal(drawn("FaceExprLoadLoRA", diffusers), expected)
    assert np.abs(drawn("LoraLoader", diffusers) - expected).mean() > 0.2  # ComfyUI's own loader drops it
    with pytest.raises(ComfyError, match=r"was made for SD 1\.x and does not fit this MODEL"):
        comfy.run(graph("FaceExprLoadLoRA", other))


def test_a_file_that_was_replaced_under_its_name_is_read_again(comfy: ComfyProcess) -> None:
    def shown() -> NDArray[np.int16]:
        picture = comfy.run(graph("FaceExprLoadLoRA", name))["save"]["images"][0]
        return np.asarray(Image.open(BytesIO(comfy.view(picture))), np.int16)

    name = written(MINI, "kohya", comfy.lora_dir, "replaced")
    before = shown()
    louder = {module: replace(layer, up=layer.up * 4) for module, layer in MINI.layers.items()}
    made = written(replace(MINI, layers=louder), "kohya", comfy.lora_dir, "replacement")
    (comfy.lora_dir / made).replace(comfy.lora_dir / name)
    after = shown()
    assert np.abs(after - before).mean() > 1 and np.array_equal(shown(), after)


def test_only_the_file_that_a_node_reads_makes_it_run_again(comfyui, comfy_modules: SimpleNamespace) -> None:
    stamps = [pack.node("load_lora").LoadLoRA.fingerprint_inputs, pack.node("train_lora").TrainLoRA.fingerprint_inputs]
    adapter, other = (written(MINI, spelling, comfyui.folder, f"stamped_{spelling}") for spelling in ("peft", "kohya"))

    def told(name: str) -> list[tuple[int, ...]]:
        return [stamps[0](lora_name=name, strength_model=1.0), stamps[1](start_from=name, steps=3)]

    home = (comfyui.folder / adapter).parent
    for file in (home / "adapter_config.json", home / "text_encoder" / "adapter_model.safetensors"):
        before = told(adapter), told(other)
        with file.open("a") as changed:
            changed.write("\n")
        assert all(one != earlier for one, earlier in zip(told(adapter), before[0], strict=True)) and told(other) == before[1]
    assert told("not there.safetensors") == [(), ()]
    assert stamps[1]() == stamps[1](start_from="none") == ()
