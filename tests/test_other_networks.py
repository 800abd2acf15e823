"""Load FaceExpr LoRA with files that are no plain LoRA: each kind as ComfyUI or PEFT itself has it, and what cannot be used by its name."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pack
import pytest
import torch
from comfy_process import ComfyProcess
from diffusers import UNet2DConditionModel
from distances import relative
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from test_load_lora_node import MINI, changes, graph, written

from faceexpr_core import mini
from faceexpr_core.commands.cli import main
from faceexpr_core.lora.formats import decode, load

K = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
CONV = "lora_unet_down_blocks_0_resnets_1_conv2"
Q = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"

State = dict[str, torch.Tensor]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * 0.1


def named(name: str, **tensors: torch.Tensor) -> State:
    return {f"{name}.{ending.replace('__', '.')}": value for ending, value in tensors.items()}


def alpha(value: float) -> torch.Tensor:
    return torch.tensor(value)


def glora(rank: int = 4, rows: int = 128, columns: int = 96) -> State:
    """As LyCORIS' first version wrote it: W a2 a1 + b2 b1."""
    a, b = (random(rank, columns), random(columns, rank)), (random(rank, columns, seed=1), random(rows, rank))
    return named(K, a1__weight=a[0], a2__weight=a[1], b1__weight=b[0], b2__weight=b[1], alpha=alpha(2.0))


def newer_glora() -> State:
    return named(
        K, a1__weight=random(96, 4), a2__weight=random(4, 96), b1__weight=random(128, 4), b2__weight=random(4, 96), alpha=alpha(1.0)
    )


def loha(rows: int = 128, columns: int = 96) -> State:
    sides = {f"hada_w{n}_{s}": random(*shape, seed=n) for n in (1, 2) for s, shape in (("a", (rows, 4)), ("b", (4, columns)))}
    return named(K, **sides, alpha=alpha(2.0))


def loha_of_a_convolution() -> State:
    sides = {f"hada_w{n}_{s}": random(4, 64, seed=n) for n in (1, 2) for s in "ab"}
    return named(CONV, **sides, hada_t1=random(4, 4, 3, 3), hada_t2=random(4, 4, 3, 3, seed=1), alpha=alpha(4.0))


def lokr(rows: int = 32) -> State:
    return named(K, lokr_w1=random(4, 8), lokr_w2_a=random(rows, 4), lokr_w2_b=random(4, 12), alpha=alpha(2.0))


def oft(blocks: int = 4) -> State:
    return named(K, oft_blocks=random(blocks, 32, 32), alpha=alpha(1.0))


def boft() -> State:
    return named(K, oft_blocks=random(2, 4, 32, 32))


def tucker() -> State:
    down, up = random(4, 64, 1, 1), random(64, 4, 1, 1)
    return named(CONV, lora_down__weight=down, lora_mid__weight=random(4, 4, 3, 3), lora_up__weight=up, alpha=alpha(2.0))


def dora_of_columns() -> State:
    pair = {"lora_down__weight": random(4, 96), "lora_up__weight": random(128, 4)}
    return named(K, **pair, alpha=alpha(2.0), dora_scale=random(1, 96).abs() + 1)


def ia3() -> State:
    return named(K, weight=random(128, 1), on_input=torch.tensor(False))


KINDS: dict[str, Callable[[], State]] = {
    "GLoRA": glora,
    "GLoRA, newer": newer_glora,
    "LoHa": loha,
    "LoHa of a convolution": loha_of_a_convolution,
    "LoKr": lokr,
    "OFT": oft,
    "LoRA with a Tucker core": tucker,
    "DoRA": dora_of_columns,
}


@pytest.fixture(scope="module")
def comfyui(comfy_modules) -> Iterator[SimpleNamespace]:
    host, node = pack.host(), pack.node("load_lora")
    errors = importlib.import_module("faceexpr_pack.faceexpr_core.errors")
    with torch.inference_mode():
        model, clip, _ = host.load_mini()
        yield SimpleNamespace(
            model=model,
            clip=clip,
            node=node,
            load=node.LoadLoRA.execute,
            error=errors.FaceExprError,
            folder=Path(comfy_modules.folder_paths.get_folder_paths("loras")[0]),
            embeddings=Path(comfy_modules.folder_paths.get_folder_paths("embeddings")[0]),
            native=comfy_modules.nodes.LoraLoader().load_lora,
        )


def put(comfyui, name: str, state: State) -> str:
    comfyui.folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, comfyui.folder / f"{name}.safetensors")
    return f"{name}.safetensors"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_applied_as_comfyuis_own_loader_applies_it_and_is_named(comfyui, kind: str) -> None:
    name = put(comfyui, f"kind_{kind}", KINDS[kind]())
    expected = changes(comfyui.native(comfyui.model, comfyui.clip, name, 0.7, 0.7)[0])
    model, _, report = comfyui.load(comfyui.model, name, 0.7, 0.7, comfyui.clip).args
    made = changes(model)
    ((key, value),) = made.items()
    assert made.keys() == expected.keys() and torch.allclose(value, expected[key], atol=1e-6)
    assert not torch.allclose(value, comfyui.model.model.state_dict()[key], atol=1e-4)
    assert kind.split(",")[0].split(" of")[0] in report and "MODEL: 1 layers at strength 0.7" in report and "NOT USED" not in report


def test_a_boft_that_names_no_alpha_is_applied(comfyui) -> None:
    """ComfyUI's own loader logs an error and leaves the weight as it was."""
    named_alpha = put(comfyui, "boft_alpha", boft() | {f"{K}.alpha": alpha(0.0)})
    expected = changes(comfyui.native(comfyui.model, comfyui.clip, named_alpha, 1.0, 1.0)[0])
    model, _, report = comfyui.load(comfyui.model, put(comfyui, "boft", boft())).args
    ((key, value),) = changes(model).items()
    assert torch.allclose(value, expected[key], atol=1e-6) and "BOFT" in report
    assert not torch.allclose(value, comfyui.model.model.state_dict()[key], atol=1e-4)


def staged(value: object, seen: list[torch.Tensor]) -> object:
    """As ComfyUI 0.33 brings a patch onto a card (`comfy.lora.prefetch_prepared_value`): its tensors one by one, around them a new patch.
    What is not among them stays where it was: on the CPU."""
    if isinstance(value, torch.Tensor):
        seen.append(value)
        return value.clone()
    if hasattr(value, "calculate_weight"):
        return type(value)(value.loaded_keys, staged(value.weights, seen))  # type: ignore[call-arg, attr-defined]
    return type(value)(staged(item, seen) for item in value) if isinstance(value, (tuple, list)) else value  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [*KINDS, "BOFT"])
def test_comfyui_with_dynamic_vram_can_take_a_patch_apart_and_bring_all_of_it_onto_the_card(comfyui, kind: str) -> None:
    state = KINDS[kind]() if kind in KINDS else boft()
    patched = comfyui.load(comfyui.model, put(comfyui, f"staged_{kind}", state)).args[0]
    expected, seen = changes(patched), list[torch.Tensor]()
    patched.patches = {key: [staged(patch, seen) for patch in patches] for key, patches in patched.patches.items()}
    assert changes(patched).keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in changes(patched).items())
    learned = [value.numel() for name, value in state.items() if value.ndim > 0 and not name.endswith("alpha")]
    assert sorted(value.numel() for value in seen) == sorted(learned)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (ia3(), r"1: their change is \(IA\)\^3, which ComfyUI does not apply"),
        ({"base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.ia3_l": random(128, 1)}, r"\(IA\)\^3"),
        (loha(rows=64), "1: their LoHa is for a layer of another size"),
        (lokr(rows=16), "1: their LoKr is for a layer of another size"),
        (oft(blocks=3), "1: their OFT is for a layer of another size"),
        (glora(rows=64), "1: their GLoRA is for a layer of another size"),
        ({key: value for key, value in loha().items() if "w2_b" not in key}, "are a part of LoHa alone .hada_w2_b is missing"),
        ({**loha(), f"{K}.hada_w1_b": random(3, 96)}, "the parts of their LoHa do not fit together"),
        ({**dora_of_columns(), f"{K}.dora_scale": random(1, 64)}, "their DoRA is for a layer of another size"),
        ({f"{K}.alpha": alpha(1.0)}, "no known U-Net"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_cannot_be_applied_is_an_error_that_says_why(comfyui, state: State, message: str) -> None:
    name = put(comfyui, f"wrong_{len(list(comfyui.folder.iterdir()))}", state)
    with pytest.raises(comfyui.error, match=message):
        comfyui.load(comfyui.model, name, 1.0, 1.0, comfyui.clip)


def test_beside_layers_that_can_be_used_the_others_are_counted_apart(comfyui) -> None:
    state = load_file(comfyui.folder / written(MINI, "kohya", comfyui.folder, "mixed_source"))
    other = "lora_unet_mid_block_attentions_0_proj_in"
    state |= named(other, weight=random(160, 1), on_input=torch.tensor(False))
    state |= {f"{Q.replace('to_q', 'to_v')}.alpha": alpha(4.0), f"{CONV}.strange": random(2)}
    _, _, report = comfyui.load(comfyui.model, put(comfyui, "mixed", state), 1.0, 1.0, comfyui.clip).args
    assert "MODEL: 9 layers" in report and "CLIP: 4 layers" in report
    assert "NOT USED: 1, since their change is (IA)^3, which ComfyUI does not apply: unet.mid_block.attentions.0.proj_in" in report
    assert "NOT USED: 2, since they are half a pair, or no change that is known" in report and f"{CONV}.strange" in report


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(mini.path() / "unet", torch_dtype=torch.float32)


def merged_by_peft(unet: UNet2DConditionModel, config, folder: Path) -> State:
    """Weights of the U-Net with a random adapter of this config, which is saved in `folder`, merged by PEFT."""
    torch.manual_seed(5)
    model = get_peft_model(copy.deepcopy(unet), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "magnitude" in name:
                weight.mul_(1 + 0.2 * torch.rand_like(weight))
            elif "lora_" in name or "hada_" in name or "lokr_" in name:
                weight.copy_(torch.randn_like(weight) * (0.2 if "lora_" in name else 0.4))
    model.save_pretrained(folder)
    return dict(model.merge_and_unload().state_dict())


CONVOLUTIONS = [
    "down_blocks.0.resnets.1.conv2",
    "up_blocks.1.resnets.2.conv_shortcut",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
]
PEFT = {
    "DoRA": LoraConfig(r=4, lora_alpha=6, use_dora=True, target_modules=CONVOLUTIONS),
    "LoHa": LoHaConfig(r=4, alpha=2, target_modules=CONVOLUTIONS, use_effective_conv2d=True),
    "LoKr": LoKrConfig(r=2, alpha=3, target_modules=CONVOLUTIONS, use_effective_conv2d=True),
    "LoKr of whole factors": LoKrConfig(r=64, alpha=16, target_modules=CONVOLUTIONS),
}


@pytest.mark.parametrize("kind", PEFT)
def test_pefts_adapters_change_the_weights_as_peft_does_convolutions_too(comfyui, unet, kind: str) -> None:
    folder = comfyui.folder / f"peft_{kind}"
    expected = merged_by_peft(unet, PEFT[kind], folder)
    model, _, report = comfyui.load(comfyui.model, f"{folder.name}/adapter_model.safetensors").args
    made = changes(model)
    names = importlib.import_module("comfy.utils").unet_to_diffusers(comfyui.model.model.model_config.unet_config)
    assert "MODEL: 3 layers" in report and len(made) == 3 and kind.split()[0] in report
    for target in CONVOLUTIONS:
        given, right = made[f"diffusion_model.{names[f'{target}.weight']}"], expected[f"{target}.weight"]
        assert relative(given, right) < 1e-5, target
        assert relative(unet.state_dict()[f"{target}.weight"], right) > 1e-2


def bundle() -> State:
    pair = named(K, lora_down__weight=random(4, 96), lora_up__weight=random(128, 4), alpha=alpha(4.0))
    return {**pair, "bundle_emb.anna.clip_l": random(2, 32).half(), "bundle_emb.anna.clip_g": random(2, 64).half()}


def test_embeddings_in_the_file_are_told_and_left_unless_asked_for(comfyui) -> None:
    name = put(comfyui, "bundle", bundle())
    before = set(comfyui.embeddings.iterdir()) if comfyui.embeddings.is_dir() else set()
    _, _, report = comfyui.load(comfyui.model, name).args
    assert "MODEL: 1 layers" in report and "NOT USED: it carries embeddings: anna (2 vectors)" in report
    assert (set(comfyui.embeddings.iterdir()) if comfyui.embeddings.is_dir() else set()) == before


def test_embeddings_are_saved_once_and_read_by_comfyuis_own_prompt(comfyui, comfy_modules) -> None:
    name = put(comfyui, "bundle_saved", bundle())
    for _ in range(2):
        _, _, report = comfyui.load(comfyui.model, name, embeddings=comfyui.node.SAVE).args
    assert "write in the prompt: embedding:anna" in report and "NOT USED" not in report
    assert [path.name for path in comfyui.embeddings.glob("anna*")] == ["anna.safetensors"]
    read = importlib.import_module("comfy.sd1_clip").load_embed
    for encoder, width in (("clip_l", 32), ("clip_g", 64)):
        found = read("anna", str(comfyui.embeddings), width, encoder)
        assert torch.equal(found, bundle()[f"bundle_emb.anna.{encoder}"])
    other = {**bundle(), "bundle_emb.anna.clip_l": random(2, 32, seed=9)}
    for _ in range(2):
        comfyui.load(comfyui.model, put(comfyui, "bundle_other", other), embeddings=comfyui.node.SAVE)
    assert sorted(path.name for path in comfyui.embeddings.glob("anna*")) == ["anna.safetensors", "anna_00001_.safetensors"]


def test_embeddings_stay_in_their_folder_whatever_they_are_called(comfyui) -> None:
    state = {
        "bundle_emb.../../out.clip_l": random(1, 32),
        "bundle_emb.my face.clip_l": random(1, 32),
        "bundle_emb.a1111.string_to_param.*": random(3, 32),
    }
    before = {path for path in comfyui.embeddings.parent.parent.rglob("*") if path.is_file()}
    comfyui.load(comfyui.model, put(comfyui, "escape", state), embeddings=comfyui.node.SAVE)
    new = {path for path in comfyui.embeddings.parent.parent.rglob("*") if path.is_file()} - before
    assert {path.parent for path in new if "escape" not in path.name} == {comfyui.embeddings}
    assert (comfyui.embeddings / "my_face.safetensors").is_file()  # a prompt's word has no space
    assert torch.equal(load_file(comfyui.embeddings / "a1111.safetensors")["emb_params"], random(3, 32))
    with pytest.raises(comfyui.error, match="holds no LoRA, only this: it carries embeddings"):
        comfyui.load(comfyui.model, put(comfyui, "words_alone", {"bundle_emb.anna.clip_l": random(2, 32)}))


def test_in_a_graph_a_glora_changes_the_picture_and_the_embedding_is_found(comfy: ComfyProcess) -> None:
    save_file(glora(), comfy.lora_dir / "graph_glora.safetensors")
    strong = {key: value * 40 if "emb" in key else value for key, value in bundle().items()}
    save_file(strong, comfy.lora_dir / "graph_bundle.safetensors")

    def drawn(loader: str, name: str, **more: str) -> np.ndarray:
        asked = graph(loader, name)
        asked["lora"]["inputs"] |= {key: value for key, value in more.items() if key != "text"}
        asked["text"]["inputs"]["text"] = more.get("text", "a photo of ohwx woman")
        return np.asarray(Image.open(BytesIO(comfy.view(comfy.run(asked)["save"]["images"][0]))), np.int16)

    ours, native = (drawn(loader, "graph_glora.safetensors") for loader in ("FaceExprLoadLoRA", "LoraLoader"))
    assert np.array_equal(ours, native)
    words = {"text": "a photo of embedding:anna"}
    without = drawn("FaceExprLoadLoRA", "graph_bundle.safetensors", **words)
    taken = drawn("FaceExprLoadLoRA", "graph_bundle.safetensors", embeddings="save in the embeddings folder", **words)
    assert np.abs(taken - without).mean() > 0.2


def test_converting_keeps_what_a_format_can_hold_and_names_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source.safetensors"
    save_file({**glora(), **bundle(), **ia3()} | named(Q, weight=random(128, 1), on_input=torch.tensor(False)), source)
    for to in ("kohya", "comfyui"):
        assert main(["lora", "convert", str(source), "--to", to, "--output", str(tmp_path / to)]) == 0
        back, start = load(tmp_path / f"{to}.safetensors"), load(source)
        assert back.modules == start.modules and back.embeddings.keys() == {"anna"} and not back.unknown
        assert all(torch.equal(back.others[m][e], value) for m, extra in start.others.items() for e, value in extra.items())
    save_file({f"{K}.alpha": alpha(1.0)}, tmp_path / "empty.safetensors")
    for name, to in (("empty", "kohya"), ("source", "peft")):
        save_file(glora(), source) if name == "source" else None
        assert main(["lora", "convert", str(tmp_path / f"{name}.safetensors"), "--to", to, "--output", str(tmp_path / f"{name}_{to}")]) == 2
        assert "Nothing of this LoRA can be written" in capsys.readouterr().err
    save_file(bundle(), source)
    assert main(["lora", "convert", str(source), "--to", "diffusers", "--output", str(tmp_path / "d")]) == 0
    assert "left out: the embeddings anna" in capsys.readouterr().err
    assert main(["lora", "embeddings", str(source), "--output_dir", str(tmp_path / "words")]) == 0
    assert torch.equal(load_file(tmp_path / "words" / "anna.safetensors")["clip_g"], bundle()["bundle_emb.anna.clip_g"])
    assert main(["lora", "inspect", str(source)]) == 0
    assert "embeddings: anna (2 vectors)" in capsys.readouterr().out


def test_a_whole_checkpoint_is_not_taken_for_a_lora() -> None:
    state = {"unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": random(128, 96)}
    assert not decode(state, {}, {}).modules
