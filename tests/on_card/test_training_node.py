"""Train FaceExpr LoRA in ComfyUI on a card: every preset learns there, `auto` and the plan are said, what cannot fit is refused.
Run by `make card` (with `-p lab.pretended.plugin` where there is no card)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch
from test_run import subject_of

from faceexpr_core.lora.files import read_lora

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card, or -p lab.pretended.plugin")
GB = 1 << 30


@pytest.fixture(scope="module")
def mini(comfy_modules: SimpleNamespace) -> Any:
    with torch.inference_mode():
        model, clip, vae = pack.host().load_mini()
    return SimpleNamespace(inputs={"model": model, "clip": clip, "vae": vae, "subject": subject_of(comfy_modules)}, core=comfy_modules.core)


def trained(mini: Any, name: str, **wishes: Any) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    common = {"steps": 2, "accumulation": 1, "rank": 4, "learning_rate": 1e-3, "preview_every": 0, "prior_images": 1, "seed": 1}
    with torch.inference_mode():
        result = pack.node("train_lora").TrainLoRA.execute(**mini.inputs, lora_name=name, **{**common, **wishes}).result
    return read_lora(Path(result[1]))


@pytest.mark.parametrize(("preset", "numbers"), [("paper", "fp16"), ("low-vram", "bf16"), ("default", "bf16")])
def test_every_preset_learns_on_the_card_in_the_node(mini: Any, preset: str, numbers: str) -> None:
    state, told = trained(mini, f"card_{preset}", preset=preset)
    assert (told["ss_optimizer"], told["ss_mixed_precision"]) == ("bitsandbytes.optim.AdamW8bit", numbers)
    assert told["faceexpr.steps"] == "2" and all(0 < loss < 5 for loss in json.loads(told["faceexpr.losses"]))
    ups = [value.float() for key, value in state.items() if key.endswith("lora_up.weight")]
    assert all(bool(up.isfinite().all()) for up in ups) and max(float(up.abs().max()) for up in ups) > 0
    assert any("lora_te" in key for key in state) == (preset == "default")


@pytest.fixture
def full_size(comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mini in SDXL's place: what is planned and chosen is SDXL's, what runs is not."""
    monkeypatch.setattr(pack.node("host.training"), "FULL_WIDTH", 64)


def test_auto_and_the_plan_are_said_in_the_node(mini: Any, full_size: None, caplog: pytest.LogCaptureFixture) -> None:
    assert mini.inputs["model"].model.model_config.unet_config["model_channels"] == 64
    with caplog.at_level(logging.INFO):
        _, told = trained(mini, "card_auto", preset="auto")
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Train FaceExpr LoRA: ")]
    starts = ("auto: preset default, photos at 64 px, without gradient checkpointing", "plan: preset default, photos at 64 px")
    places = [
        next(number for number, line in enumerate(lines) if line.removeprefix("Train FaceExpr LoRA: ").startswith(one)) for one in starts
    ]
    assert places == sorted(places)
    assert told["faceexpr.preset"] == "default" and json.loads(told["faceexpr.settings"])["gradient_checkpointing"] is False


@pytest.mark.parametrize("preset", ["auto", "default"])
def test_what_does_not_fit_is_refused_in_the_node(mini: Any, full_size: None, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2 * GB, 2 * GB))
    with pytest.raises(mini.core.errors.FaceExprError, match=r"does not fit: 1\.0 GB are free for it\. Nothing would fit; the least"):
        trained(mini, "card_refused", preset=preset)
