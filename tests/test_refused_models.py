"""Every node that takes a MODEL or a CLIP refuses those that are not SDXL's: at each input, by name, before anything is done."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch

PERSON = "a photo of a young woman"
SD15 = {
    **{"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1], "channel_mult": [1]},
    **{"transformer_depth": [1], "transformer_depth_output": [1, 1], "transformer_depth_middle": 1, "context_dim": 32},
    **{"use_spatial_transformer": True, "use_linear_in_transformer": False, "use_temporal_attention": False, "legacy": False},
}
BARE: dict[str, Any] = {"disable_unet_model_creation": True, "model_channels": 320}
OTHERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "SD 1.5": ("SD15", SD15, "a MODEL of type SD15; it needs an SDXL base model"),
    "Flux": ("Flux", {**BARE, "image_model": "flux", "in_channels": 16}, "a MODEL of type Flux; it needs an SDXL base model"),
    "refiner": ("SDXLRefiner", {**BARE, "in_channels": 4}, "a MODEL of type SDXLRefiner; it needs an SDXL base model"),
    "inpainting": ("SDXL", {**BARE, "in_channels": 9}, "of type SDXL that takes 9 channels .* inpainting, .* needs an SDXL base model"),
    "pix2pix": ("SDXL_instructpix2pix", {**BARE, "in_channels": 8}, "that takes 8 channels .* editing a picture; it needs an SDXL"),
}
SAMPLING: tuple[Any, ...] = (7, 2, 3.0, "euler", "normal")
WORDS: tuple[Any, ...] = (PERSON, "happy", 1.0, "none", 0.5)
PICTURE = torch.zeros(1, 64, 64, 3)


@pytest.fixture(scope="module")
def mini(comfy_modules: SimpleNamespace) -> SimpleNamespace:
    with torch.inference_mode():
        return SimpleNamespace(**pack.mini_asked_to_smile(PERSON), error=comfy_modules.core.errors.FaceExprError)


def latent() -> dict[str, Any]:
    return {"samples": torch.zeros(1, 4, 8, 8)}


def sampler(mini: SimpleNamespace, model: Any, **more: Any) -> None:
    pack.node("sampler").Sampler.execute(model, *SAMPLING, mini.positive, mini.negative, latent(), 1.0, **more)


def extract(mini: SimpleNamespace, model: Any) -> None:
    node = pack.node("extract_expression_features").ExtractExpressionFeatures
    node.execute(model, mini.positive, mini.neutral, mini.negative, latent(), *SAMPLING, 1.0)


def apply(mini: SimpleNamespace, model: Any) -> None:
    features = pack.node("extract_expression_features").ExtractExpressionFeatures.execute(
        mini.model, mini.positive, mini.neutral, mini.negative, latent(), *SAMPLING, 1.0
    )
    pack.node("apply_attention_focused_fusion").ApplyAttentionFocusedFusion.execute(model, features.args[0], 1.0)


def load_lora(mini: SimpleNamespace, model: Any) -> None:
    pack.node("load_lora").LoadLoRA.execute(model, "no_such_file.safetensors")


def change(mini: SimpleNamespace, model: Any, **more: Any) -> None:
    clip = more.pop("clip", mini.clip)
    pack.node("change_expression").ChangeExpression.execute(PICTURE, model, clip, mini.vae, *WORDS, 1.0, -1, **more)


def sheet(mini: SimpleNamespace, model: Any, **more: Any) -> None:
    clip = more.pop("clip", mini.clip)
    node = pack.node("expression_sheet").ExpressionSheet
    node.execute(model, clip, mini.vae, mini.negative, latent(), PERSON, "happy", "1", 0, *SAMPLING, 1.0, **more)


def train(mini: SimpleNamespace, model: Any, **more: Any) -> None:
    node = pack.node("train_lora").TrainLoRA
    node.execute(model=model, clip=more.pop("clip", mini.clip), vae=mini.vae, subject=None, lora_name="of another model", steps=1, **more)


DOORS: dict[str, tuple[str, Callable[[SimpleNamespace, Any], None]]] = {
    "sampler": ("FaceExpr Sampler", sampler),
    "sampler's base": ("FaceExpr Sampler", lambda mini, one: sampler(mini, mini.model, base_model=one, neutral=mini.neutral)),
    "extract": ("Extract Expression Features", extract),
    "apply": ("Apply Attention-Focused Fusion", apply),
    "load lora": ("Load FaceExpr LoRA", load_lora),
    "change": ("Change Expression", change),
    "change's person": ("Change Expression", lambda mini, one: change(mini, mini.model, person_model=one)),
    "sheet": ("Expression Sheet", sheet),
    "sheet's base": ("Expression Sheet", lambda mini, one: sheet(mini, mini.model, base_model=one)),
    "train": ("Train FaceExpr LoRA", train),
}
CLIP_DOORS: dict[str, tuple[str, Callable[[SimpleNamespace, Any], None]]] = {
    "encode": ("Expression Text Encode", lambda mini, clip: pack.node("expression_text_encode").ExpressionTextEncode.execute(clip, *WORDS)),
    "change": ("Change Expression", lambda mini, clip: change(mini, mini.model, clip=clip)),
    "sheet": ("Expression Sheet", lambda mini, clip: sheet(mini, mini.model, clip=clip)),
    "train": ("Train FaceExpr LoRA", lambda mini, clip: train(mini, mini.model, clip=clip)),
}


def small_model(family: str, config: dict[str, Any]) -> Any:
    """A real ComfyUI MODEL of another family, tiny or without its network."""
    supported, patcher = importlib.import_module("comfy.supported_models"), importlib.import_module("comfy.model_patcher")
    known = getattr(supported, family)(dict(config))
    known.set_inference_dtype(torch.float32, None)
    device = torch.device("cpu")
    return patcher.ModelPatcher(known.get_model({}, device=device), load_device=device, offload_device=device)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("door", DOORS)
def test_a_model_that_is_not_sdxls_is_refused_by_name(mini: SimpleNamespace, comfy_modules: SimpleNamespace, door: str, other: str) -> None:
    family, config, told = OTHERS[other]
    name, open_door = DOORS[door]
    with torch.inference_mode(), pytest.raises(mini.error, match=f"^{name} got {'' if told.startswith('a ') else '.*'}{told}"):
        open_door(mini, small_model(family, config))
    loras = Path(comfy_modules.folder_paths.get_folder_paths("loras")[0])
    assert not list(loras.glob("of another model*"))


@pytest.mark.parametrize("door", CLIP_DOORS)
def test_a_clip_that_is_not_sdxls_is_refused_by_name(mini: SimpleNamespace, door: str) -> None:
    name, open_door = CLIP_DOORS[door]
    for clip, told in ((SimpleNamespace(cond_stage_model=torch.nn.Linear(1, 1)), "a CLIP of type Linear"), (None, "nothing")):
        with pytest.raises(mini.error, match=f"^{name} got {told}; it needs SDXL's two text encoders"):
            open_door(mini, clip)


def test_a_missing_model_is_told(mini: SimpleNamespace) -> None:
    with pytest.raises(mini.error, match="got no MODEL"):
        pack.host().require_sdxl(None, "X")
