"""Graphs made small enough for a test, with Mini in an SDXL checkpoint's place."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from comfy_process import ComfyProcess, Graph, Progress
from PIL import Image
from random_lora import write_lora

from faceexpr_core import mini

SDXL_SIDE = 1024
LORA_LOADERS = ("FaceExprLoadLoRA", "LoraLoaderModelOnly", "CreateHookLora")
SHORT: dict[str, dict[str, Any]] = {
    "FaceExprTrainLoRA": {"steps": 4, "rank": 4, "batch_size": 2, "preview_every": 0, "state_every": 0},
    "FaceExprChangeExpression": {"steps": 2},
    "FaceExprExpressionSheet": {"steps": 1},
    "FaceExprExtractExpressionFeatures": {"steps": 3},
    "FaceExprSampler": {"steps": 3},
}
STRENGTHS = {
    "FaceExprSampler": ("fusion_strength",),
    "FaceExprApplyAttentionFocusedFusion": ("strength",),
    "FaceExprChangeExpression": ("strength",),
}


def ids(graph: Graph, class_type: str) -> list[str]:
    return [number for number, node in graph.items() if node["class_type"] == class_type]


def shortened(graph: Graph) -> Graph:
    for node in graph.values():
        node["inputs"] |= SHORT.get(node["class_type"], {})
    return graph


def put_mini_in(comfy: ComfyProcess, graph: Graph) -> Graph:
    """The graph with Mini where it loads a checkpoint. The LoRAs that it names become files of random weights in this ComfyUI's folder,
    its ControlNet one of random weights, the photos of a person the pack's example, and `example.png` a photo with a neutral face."""
    for seed, node in enumerate(graph.values()):
        inputs = node["inputs"]
        if node["class_type"] == "CheckpointLoaderSimple":
            node |= {"class_type": "FaceExprLoadMini", "inputs": {}}
        elif node["class_type"] == "ControlNetLoader":
            node |= {"class_type": "TestRandomControlNet", "inputs": {"model": [ids(graph, "FaceExprLoadMini")[0], 0]}}
        elif node["class_type"] in LORA_LOADERS:
            write_lora(comfy.lora_dir / inputs["lora_name"], seed=seed)
        elif node["class_type"] == "LoadImage":
            Image.open(mini.subject_path() / "photo_6.png").save(comfy.input_dir / inputs["image"])
        elif node["class_type"] == "FaceExprLoadSubjectImages":
            inputs |= {"folder": "example: a rendered person", "resolution": mini.RESOLUTION, "framing": "whole picture"}
        elif node["class_type"] == "EmptyLatentImage":
            inputs |= {side: inputs[side] * mini.RESOLUTION // SDXL_SIDE // 16 * 16 for side in ("width", "height")}
    return graph


def drawn(comfy: ComfyProcess, graph: Graph, on_progress: Callable[[Progress], None] | None = None) -> dict[str, np.ndarray]:
    """The last picture of each node that saves or previews some, float [H, W, 3] in 0..255, by the node's title."""
    shown = comfy.run(graph, on_progress)
    return {
        graph[number]["_meta"]["title"]: np.asarray(Image.open(io.BytesIO(comfy.view(shown[number]["images"][-1]))).convert("RGB"), float)
        for number in (*ids(graph, "SaveImage"), *ids(graph, "PreviewImage"))
    }


def unfused(graph: Graph) -> Graph:
    """The graph with a neutral face asked for and nothing fused: what is drawn where fusion does nothing."""
    for node in graph.values():
        if node["class_type"] == "FaceExprExpressionTextEncode":
            node["inputs"]["expression"] = "neutral"
        for strength in STRENGTHS.get(node["class_type"], ()):
            node["inputs"][strength] = 0.0
    return graph


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())
