"""What ComfyUI has on the card while a training is planned."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any, NoReturn

import pack
import pytest
import torch
from test_train_node import PLAIN, SETTINGS

from faceexpr_core import mini


class PlannedError(Exception):
    """Ends a run where its plan is asked for."""


@pytest.mark.parametrize("reading", [False, True], ids=["unet", "and text encoders"])
def test_none_of_comfyuis_models_is_loaded_when_the_training_is_planned(
    comfy_modules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: bool
) -> None:
    management, loaded = importlib.import_module("comfy.model_management"), list[int]()
    core = "faceexpr_pack.faceexpr_core"
    run, images, subject = (importlib.import_module(f"{core}.{name}") for name in ("training.run", "faces.images", "photos.subject"))
    shutil.copytree(mini.subject_path(), tmp_path / "photos")
    person = subject.prepare_subject(images.read_images(tmp_path / "photos"), subject.SubjectSettings(resolution=64))

    def plan(*given: Any) -> NoReturn:
        loaded.append(len(management.current_loaded_models))
        raise PlannedError

    with torch.inference_mode():
        model, clip, vae = pack.host().load_mini()
        # full size, so that it is planned
        monkeypatch.setattr(pack.node("host.training"), "FULL_WIDTH", model.model.model_config.unet_config["model_channels"])
        monkeypatch.setattr(run, "plan_on", plan)
        wishes = {**PLAIN, **SETTINGS, "lora_name": "planned", "preview_every": 2, "train_text_encoder": "on" if reading else "off"}
        with pytest.raises(PlannedError):
            pack.node("train_lora").TrainLoRA.execute(model=model, clip=clip, vae=vae, subject=person, **wishes)
    assert loaded == [0]
