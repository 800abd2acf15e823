"""A VAE in a file of its own: in the names that diffusers has and in the original ones, with the scale of its model's latents."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from faceexpr_core import mini
from faceexpr_core.diffusers_host.pipeline import SDXL_CONFIGS
from faceexpr_core.diffusers_host.training import load_vae
from faceexpr_core.errors import FaceExprError


def vae_of(configs: Path) -> dict[str, Tensor]:
    """Weights of the shapes that the configurations give, all distinct, in float16."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        shapes = AutoencoderKL.from_config(json.loads((configs / "vae" / "config.json").read_text())).state_dict()
    count = torch.arange(max(one.numel() for one in shapes.values()), dtype=torch.int32).remainder(1009).half()
    return {name: (count[: one.numel()] + index).reshape(one.shape) for index, (name, one) in enumerate(shapes.items())}


@pytest.mark.parametrize("prefix", [None, "", "first_stage_model."], ids=["diffusers", "sdxl_vae", "checkpoint"])
@pytest.mark.parametrize("size", ["sdxl", "mini"])
def test_a_bare_file_has_its_models_scale_and_its_own_weights(
    tmp_path: Path, size: str, prefix: str | None, comfy_modules: SimpleNamespace
) -> None:
    from comfy.diffusers_convert import convert_vae_state_dict

    configs, scale = (SDXL_CONFIGS, 0.13025) if size == "sdxl" else (mini.path(), 0.537653)
    weights, path = vae_of(configs), tmp_path / "some vae.safetensors"
    original = weights if prefix is None else {f"{prefix}{name}": one for name, one in convert_vae_state_dict(weights).items()}
    save_file({name: one.contiguous() for name, one in original.items()}, path)
    vae = load_vae(str(path), torch.float16)
    assert vae.config.scaling_factor == scale
    assert vae.dtype == (torch.float32 if vae.config.force_upcast else torch.float16)
    read = vae.state_dict()
    assert read.keys() == weights.keys() and all(torch.equal(read[name].half(), one) for name, one in weights.items())


def test_a_file_that_is_no_vae_of_sdxl_or_not_all_of_one_is_refused(tmp_path: Path) -> None:
    weights, path = vae_of(mini.path()), tmp_path / "vae.safetensors"
    others: dict[str, dict[str, Tensor]] = {
        "weights of it are missing": {name: one for name, one in weights.items() if name != "decoder.conv_in.weight"},
        r"it has no encoder\.conv_in\.weight": {"decoder.conv_in.weight": torch.zeros(8, 4, 3, 3)},
        "its first layer has 96 channels, SDXL's has 128": {"encoder.conv_in.weight": torch.zeros(96, 3, 3, 3)},
        "cannot be read as a VAE": {**weights, "encoder.conv_out.weight": torch.zeros(32, 112, 3, 3)},  # 16 channels, as Flux has them
    }
    for message, held in others.items():
        save_file(held, path)
        with pytest.raises(FaceExprError, match=rf"{message}.* give the folder or the \.safetensors file of one for SDXL"):
            load_vae(str(path), torch.float32)
    path.write_bytes(b"\x00" * 64)
    with pytest.raises(FaceExprError, match="cannot be read as a VAE"):
        load_vae(str(path), torch.float32)
