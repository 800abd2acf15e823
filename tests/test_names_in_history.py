"""Where ComfyUI's history says what a file is called that a node wrote: for who asked over HTTP, without a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from comfy_process import ComfyProcess, Graph

PERSON: dict[str, Any] = {"trigger_word": "ohwx", "class_word": "person", "resolution": 64, "framing": "face crop", "padding": 0.75}
PERSON |= {"folder": "example: another person", "face": 0, "drop_small_faces": True, "drop_duplicates": True}
LEARNS: dict[str, Any] = {
    "steps": 1,
    "rank": 1,
    "learning_rate": 1e-4,
    "batch_size": 1,
    "accumulation": 1,
    "preview_every": 0,
    "preset": "default",
}
LEARNS |= {"prior": "off", "crafting_weight": 0.0, "train_text_encoder": "off", "state_every": 0}
RUN: dict[str, Any] = {"seed": 7, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}


def saving(name: str) -> Graph:
    words: dict[str, Any] = {
        "prompt": "a photo of a man",
        "expression": "happy",
        "intensity": 1.0,
        "second_expression": "none",
        "second_weight": 0.5,
    }
    wires: dict[str, Any] = {
        "model": ["mini", 0],
        "positive": ["words", 0],
        "neutral": ["words", 1],
        "negative": ["words", 1],
        "latent_image": ["empty", 0],
    }
    save: dict[str, Any] = {"class_type": "FaceExprSaveFeatures", "inputs": {"features": ["features", 0], "name": name}}
    return {
        "mini": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "words": {"class_type": "FaceExprExpressionTextEncode", "inputs": {**words, "action_units": "", "clip": ["mini", 1]}},
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 64, "batch_size": 1}},
        "features": {"class_type": "FaceExprExtractExpressionFeatures", "inputs": {**wires, **RUN, "expression": "happy"}},
        "first": save,
        "second": {**save, "_meta": {"title": "the name is taken"}, "inputs": {**save["inputs"], "name": f"{name}.safetensors"}},
    }


def learning(name: str) -> Graph:
    sources: dict[str, Any] = {"model": ["mini", 0], "clip": ["mini", 1], "vae": ["mini", 2], "subject": ["photos", 0], "lora_name": name}
    return {
        "mini": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "photos": {"class_type": "FaceExprLoadSubjectImages", "inputs": PERSON},
        "first": {"class_type": "FaceExprTrainLoRA", "inputs": {**sources, **LEARNS, "seed": 1}},
        "second": {"class_type": "FaceExprTrainLoRA", "inputs": {**sources, **LEARNS, "seed": 2}},
    }


@pytest.mark.parametrize("make", [saving, learning])
def test_history_names_the_file_within_its_models_folder_also_when_the_name_was_taken(comfy: ComfyProcess, make) -> None:
    outputs = comfy.run(make("in_history/wide"))
    folder = comfy.lora_dir if make is learning else comfy.home / "models" / "faceexpr_features"
    names = []
    for node in ("first", "second"):
        (text,) = outputs[node]["text"]
        assert str(comfy.home) not in text
        names.append(text.splitlines()[-1])
        assert bool(outputs[node].get("images")) == (make is learning)  # the curve of the loss
    assert {Path(name).as_posix() for name in names} == {"in_history/wide.safetensors", "in_history/wide_00001_.safetensors"}
    assert all((folder / name).is_file() for name in names)
