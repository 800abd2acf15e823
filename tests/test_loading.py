"""What a look at the face costs on a card that has no room for U-Net and VAE at once: the U-Net comes back once, and with room left to
draw; in real ComfyUI."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch

from faceexpr_core.fusion.bank import FeatureBank
from faceexpr_core.mini import RESOLUTION

PICTURES = 3


@pytest.mark.parametrize("photo", [False, True], ids=["a batch is drawn", "a photo's features are made"])
def test_the_u_net_comes_back_once_and_with_room_to_draw(
    comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, photo: bool
) -> None:
    """Once after each of two looks at the faces. It came back for each picture of the batch, and as if nothing were to be drawn."""
    management, loads = importlib.import_module("comfy.model_management"), list[tuple[str, int, int | None]]()
    plain = management.load_models_gpu

    def load(models: Any, memory_required: int = 0, *given: Any, minimum_memory_required: int | None = None, **named: Any) -> Any:
        kinds = {type(one.model).__name__ for one in models}
        loads.append(("U-Net" if "SDXL" in kinds else "other", memory_required, minimum_memory_required))
        return plain(models, memory_required, *given, minimum_memory_required=minimum_memory_required, **named)

    side = RESOLUTION // 8
    with torch.inference_mode():
        mini = pack.mini_asked_to_smile("a photo of a young man, black hair")
        texts = (mini["positive"], mini["negative"])
        empty = {"samples": torch.zeros(1 if photo else PICTURES, 4, side, side)}
        monkeypatch.setattr(management, "load_models_gpu", load)
        if photo:
            extract = pack.node("extract_expression_features").ExtractExpressionFeatures.execute
            drawn = pack.node("sampler").Sampler.execute(mini["model"], 1, 4, 4.0, "euler", "normal", *texts, empty, 1.0).args[0]
            face = mini["vae"].decode(drawn["samples"])
            loads.clear()
            extract(
                mini["model"],
                mini["positive"],
                mini["neutral"],
                mini["negative"],
                empty,
                1,
                4,
                4.0,
                "euler",
                "normal",
                1.0,
                "happy",
                photo=face,
                vae=mini["vae"],
            )
        else:
            run = (mini["model"], 1, 6, 4.0, "euler", "normal", *texts, empty, 1.0)
            pack.node("sampler").Sampler.execute(*run, neutral=mini["neutral"], base_model=mini["model"], vae=mini["vae"])
    unet = [load[1:] for load in loads if load[0] == "U-Net"]
    # of a photo: to begin, after its face was encoded, after the neutral twin was looked at; else: to read the words, of one small latent
    began = unet[0 if photo else 1]
    assert len(unet) == (3 if photo else 4) and {*unet[2:]} == {began} and began[0] > 0 and began[1] is not None, loads


def test_comfyui_knows_how_much_memory_features_take() -> None:
    tokens = {"middle.0@0:e": torch.zeros(1, 10, 100).half(), "middle.0@0:n": torch.zeros(1, 10, 100).half()}
    bank = FeatureBank("cross_attention", "twin", (3.0,), tokens, {"middle.0": (2, 5)})
    assert bank.get_ram_usage() == bank.nbytes == 4000
