"""Lists in a graph sent over the API: ComfyUI passes any value on, the nodes refuse what is not in them."""

from __future__ import annotations

from typing import Any

import pytest
from comfy_process import ComfyError, ComfyProcess, Graph
from workflow_api import input_specs

SAMPLING = {"seed": 1, "steps": 1, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
DRAWING = {"positive": ["words", 0], "negative": ["words", 1], "latent_image": ["empty", 0], **SAMPLING}
PHOTOS = {"folder": "example: a rendered person", "trigger_word": "ohwx", "class_word": "man", "resolution": 64, "padding": 0.75, "face": 0}
WORDS = {"prompt": "a photo of a woman", "expression": "happy", "second_expression": "none", "intensity": 1.0, "second_weight": 0.5}
TRAINING = {"lora_name": "choices", "preset": "default", "steps": 1, "learning_rate": 1e-4, "rank": 4, "seed": 0}
LOADED = {"model": ["mini", 0], "clip": ["mini", 1], "vae": ["mini", 2]}
SHEET = {"prompt": "a photo of a woman", "expressions": "happy", "intensities": "1", "frames": 0}
NODES: dict[str, tuple[str, dict[str, Any]]] = {
    "mini": ("FaceExprLoadMini", {}),
    "empty": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
    "photos": ("FaceExprLoadSubjectImages", {**PHOTOS, "framing": "whole picture", "drop_small_faces": True, "drop_duplicates": True}),
    "train": ("FaceExprTrainLoRA", {"model": ["mini", 0], "clip": ["mini", 1], "vae": ["mini", 2], "subject": ["photos", 0], **TRAINING}),
    "words": ("FaceExprExpressionTextEncode", {"clip": ["mini", 1], **WORDS}),
    "extract": ("FaceExprExtractExpressionFeatures", {"model": ["mini", 0], "neutral": ["words", 1], "expression": "happy", **DRAWING}),
    "apply": ("FaceExprApplyAttentionFocusedFusion", {"model": ["mini", 0], "features": ["extract", 0], "strength": 1.0}),
    "load features": ("FaceExprLoadFeatures", {"file": "none"}),
    "load lora": ("FaceExprLoadLoRA", {"model": ["mini", 0], "lora_name": "none", "strength_model": 1.0, "strength_clip": 1.0}),
    "draw": ("FaceExprSampler", {"model": ["apply", 0], **DRAWING}),
    "score": ("FaceExprScore", {"images": ["photos", 1], "subject": ["photos", 0], "expression": "happy", "intensity": 1.0, "best_k": 1}),
    "picture": ("EmptyImage", {"width": 64, "height": 64, "batch_size": 1, "color": 0}),
    "change": ("FaceExprChangeExpression", {"image": ["picture", 0], **LOADED, **WORDS, "strength": 1.0, "face": -1}),
    "sheet": (
        "FaceExprExpressionSheet",
        {**LOADED, "negative": ["words", 1], "latent_image": ["empty", 0], **SAMPLING, **SHEET},
    ),
}
LISTS = [
    ("photos", "folder"),
    ("photos", "framing"),
    *(("train", name) for name in ("preset", "resume", "prior", "schedule", "precision", "gradient_checkpointing", "file_precision")),
    ("train", "train_text_encoder"),
    ("train", "base"),
    ("train", "finished_state"),
    ("train", "start_from"),
    ("train", "model_predicts"),
    ("words", "expression"),
    ("words", "second_expression"),
    *(("extract", name) for name in ("sampler_name", "scheduler", "expression", "photo_neutral", "site", "layers", "tokens")),
    ("apply", "mode"),
    ("apply", "regions"),
    ("load features", "file"),
    ("load lora", "lora_name"),
    ("load lora", "embeddings"),
    ("draw", "sampler_name"),
    ("draw", "scheduler"),
    ("draw", "fusion_text"),
    ("score", "expression"),
    *(("change", name) for name in ("expression", "second_expression", "shown", "scheduler")),
    ("sheet", "sampler_name"),
    ("sheet", "scheduler"),
]
FILES = ("folder", "file", "lora_name")
"""Lists of what lies in a folder: as many as there are files."""


def graph(node: str, **inputs: Any) -> Graph:
    """A node with those before it; an output is shown, as ComfyUI wants of each graph."""
    made: Graph = {}
    waiting = [node]
    while waiting:
        name = waiting.pop()
        kind, given = NODES[name]
        made[name] = {"class_type": kind, "inputs": {**given, **(inputs if name == node else {})}}
        waiting += [value[0] for value in given.values() if isinstance(value, list)]
    made["show"] = {"class_type": "PreviewAny", "inputs": {"source": [node, 0]}}
    return made


def test_these_are_all_the_lists_of_the_nodes(comfy: ComfyProcess) -> None:
    kinds = {kind: name for name, (kind, _) in NODES.items()}
    found = {
        (kinds[kind], name)
        for kind, info in comfy.object_info().items()
        if kind in kinds
        for name, shape, _ in input_specs(info)
        if shape == "COMBO"
    }
    assert found == set(LISTS)


@pytest.mark.parametrize(("node", "widget"), LISTS, ids=[" ".join(one) for one in LISTS])
def test_a_value_that_is_not_in_the_list_is_refused_by_name(comfy: ComfyProcess, node: str, widget: str) -> None:
    with pytest.raises(ComfyError) as failed:
        comfy.run(graph(node, **{widget: "nonsense"}))
    told = failed.value.exception_message
    assert failed.value.node_id == node
    assert widget in told and "nonsense" in told
    assert widget in FILES or f"{widget} is 'nonsense'; choose one of" in told
