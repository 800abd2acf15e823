"""A MODEL that holds its weights packed, as ComfyUI-GGUF's loader makes one: LoRAs fit it as ever, and nothing is trained on it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch
from test_load_lora_node import MINI, SD15, written

BLOCK, BYTES = 32, 34
"""Numbers in a block of Q8_0, and the bytes that it takes: a half for the scale, then a byte for each number."""


class Packed(torch.Tensor):
    """Bytes that stand for a matrix, as that pack's `GGMLTensor` (city96/ComfyUI-GGUF, 795e451): `shape` is the matrix's, `size()` is not,
    and a copy is the tensor itself."""

    tensor_shape: torch.Size

    def clone(self, *args: Any, **named: Any) -> Packed:
        return self

    def detach(self) -> Packed:
        return self

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        return getattr(self, "tensor_shape", self.size())


class PackedLayer(torch.nn.Module):
    """As that pack's `GGMLLayer`: its state has the sizes of the bytes, on no device."""

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in self.named_parameters(recurse=False):
            destination[prefix + name] = torch.zeros_like(value, device="meta")


def pack_linear(layer: torch.nn.Linear) -> None:
    shape = layer.weight.shape
    data = torch.zeros(shape[0], shape[1] // BLOCK * BYTES, dtype=torch.uint8).as_subclass(Packed)
    data.tensor_shape = shape
    layer.weight = torch.nn.Parameter(data, requires_grad=False)
    layer.__class__ = type("Linear", (PackedLayer, type(layer)), {})


@pytest.fixture(scope="module")
def quantised(comfy_modules) -> SimpleNamespace:
    with torch.inference_mode():
        model, clip, vae = pack.host().load_mini()
        for module in model.model.diffusion_model.modules():
            if isinstance(module, torch.nn.Linear) and module.weight.shape[1] % BLOCK == 0:
                pack_linear(module)
    return SimpleNamespace(
        model=model,
        clip=clip,
        vae=vae,
        folder=Path(comfy_modules.folder_paths.get_folder_paths("loras")[0]),
        error=comfy_modules.core.errors.FaceExprError,
    )


def test_a_lora_is_judged_by_the_size_of_the_weights_and_not_of_their_bytes(quantised) -> None:
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    assert quantised.model.model.state_dict()[key].shape == (160, 96 // BLOCK * BYTES)
    load, folder = pack.node("load_lora").LoadLoRA.execute, quantised.folder
    with torch.inference_mode():
        model, clip, report = load(quantised.model, written(MINI, "kohya", folder, "quantised"), 0.7, 0.4, quantised.clip).args
        assert "MODEL: 9 layers at strength 0.7" in report and "CLIP: 4 layers" in report and "NOT USED" not in report
        assert len(model.patches) == 9 and len(clip.patcher.patches) == 4
        with pytest.raises(quantised.error, match="does not fit this MODEL"):
            load(quantised.model, written(SD15, "kohya", folder, "quantised_sd15"), 1.0, 1.0, quantised.clip)


def test_training_on_it_is_refused_by_name_before_anything_is_encoded(quantised) -> None:
    named = r"a MODEL that is quantised: it holds .* as \[\d+, \d+\] instead of \[\d+, \d+\].*GGUF.*load the checkpoint itself"
    with torch.inference_mode():
        with pytest.raises(quantised.error, match="Train FaceExpr LoRA got " + named):
            pack.node("host.training").TrainingHost(quantised.model, quantised.clip, quantised.vae, "Train FaceExpr LoRA")
        with pytest.raises(quantised.error, match=named):
            pack.host().export_unet(quantised.model)
