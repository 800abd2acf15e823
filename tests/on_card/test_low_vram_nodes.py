"""ComfyUI on a card too small for the model, so that some weights stay on the host and are cast as they are used: fusion of every site
and the export of weights as on a large one. Run by `make card` (with `-p lab.pretended.plugin` where there is no card)."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from distances import relative

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card, or -p lab.pretended.plugin")
FREE = 8 << 20
"""Bytes for weights; Mini's U-Net takes 19 MB."""
RUN = (7, 3, 4.0, "euler", "normal")


@pytest.fixture(scope="module")
def nodes(comfy_modules: SimpleNamespace) -> Any:
    names = ("expression_text_encode", "extract_expression_features", "apply_attention_focused_fusion", "sampler", "host.mini")
    more = ("host.conditioning", "host.weights")
    found = {name.split(".")[-1]: importlib.import_module(f"faceexpr_pack.nodes.{name}") for name in (*names, *more)}
    return SimpleNamespace(**found)


@pytest.mark.parametrize("site", ["skip", "cross_attention", "cross_attention_difference"])
def test_partly_loaded_weights_draw_the_same(nodes: Any, monkeypatch: pytest.MonkeyPatch, site: str) -> None:
    management = importlib.import_module("comfy.model_management")
    with torch.inference_mode():
        model, clip, _ = nodes.mini.load_mini()
        encode = nodes.expression_text_encode.ExpressionTextEncode.execute
        positive, neutral = encode(clip, "a photo of a man", "happy", 1.0, "none", 0.5, "").args
        negative = nodes.conditioning.encode_conditioning(clip, "blurry")
        empty = {"samples": torch.zeros(1, 4, 12, 20)}
        extract = nodes.extract_expression_features.ExtractExpressionFeatures.execute
        bank = extract(model, positive, neutral, negative, empty, *RUN, 1.0, "happy", site=site, tokens="all").args[0]
        fused = nodes.apply_attention_focused_fusion.ApplyAttentionFocusedFusion.execute(model, bank, 1.0).args[0]

        def drawn() -> torch.Tensor:
            return nodes.sampler.Sampler.execute(fused, *RUN, neutral, negative, empty, 1.0).args[0]["samples"]

        plenty = drawn()
        free = {"get_free_memory": lambda dev=None, torch_free_too=False: (FREE, FREE) if torch_free_too else FREE}
        for name, answer in {**free, "minimum_inference_memory": lambda: 1 << 20, "extra_reserved_memory": lambda: 0}.items():
            monkeypatch.setattr(management, name, answer)
        whole = drawn()  # every weight is on the card still, but with so little left ComfyUI asks for one prediction at a time
        assert fused.loaded_size() == fused.model_size()
        management.unload_all_models()
        partly = drawn()
        assert 0 < fused.loaded_size() < fused.model_size()
        assert torch.equal(partly, whole)
        assert relative(partly, plenty) < 0.1  # float16 rounds otherwise in batches of another size
        unet = nodes.weights.export_unet(model)
        assert {parameter.device.type for parameter in unet.parameters()} == {"cpu"}
