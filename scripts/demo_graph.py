"""The demo's graphs for ComfyUI, out of the quick start that comes with the pack."""

from __future__ import annotations

import json
from typing import Any

from comfy_process import REPOSITORY, Graph
from workflow_api import with_sources

API = REPOSITORY / "workflows" / "api"
QUICK_START, STRANGER_PHOTO = API / "faceexpr_mini_quick_start.json", API / "faceexpr_mini_fusion_photo.json"
EXPRESSIONS = ("happy", "sad", "angry", "surprised", "fearful", "disgusted", "contempt", "shocked")
ARMS = {
    "without_lora": "Expression in the prompt, without the LoRA",
    "with_lora": "Expression in the prompt, with the LoRA",
    "fusion": "Expression by fusion, with the LoRA",
}
NEUTRAL = "neutral"
STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5)
STRONGER = "surprised"
BLEND = ("happy", "surprised")
SHARES = (0.0, 0.15, 0.3, 0.45, 0.55, 0.7, 0.85, 1.0)
UNITS = ("AU1+AU2", "R2", "AU4", "AU43", "AU46", "AU12", "L12", "AU27")
WORDS: dict[str, dict[str, dict[str, Any]]] = {
    "strength": {f"{value:g}": {"expression": STRONGER, "intensity": value} for value in STRENGTHS},
    "blend": {
        f"{1 - share:g} + {share:g}": {
            "expression": BLEND[0],
            "intensity": 1 - share,
            "second_expression": BLEND[1],
            "second_weight": share,
        }
        for share in SHARES
    },
    "units": {units: {"expression": "none", "action_units": units} for units in UNITS},
}
"""Strips, all by fusion: what Expression Text Encode is asked for in each of their pictures."""
STRANGER = "stranger"
LEARNING_STEPS = 280
"""Fewer than the quick start's 400, for time."""
STEPS = 14
"""Of each picture: fewer than the quick start's, as there are fifty pictures and minutes to draw them."""
ROWS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(ARMS, (NEUTRAL, *EXPRESSIONS)),
    **{row: tuple(cells) for row, cells in WORDS.items()},
    STRANGER: ("person",),
}
"""What is drawn: the names of the pictures of each row."""


def only(graph: Graph, class_type: str) -> str:
    """The id of the one node of a type, or of the first where there are several alike."""
    return next(node_id for node_id, node in graph.items() if node["class_type"] == class_type)


def changed(node: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    return {"class_type": node["class_type"], "inputs": {**node["inputs"], **inputs}}


def quick_start() -> Graph:
    graph: Graph = json.loads(QUICK_START.read_text())
    return graph


def learning_graph(folder: str) -> Graph:
    """The quick start up to the trained LoRA, its loss curve shown."""
    given = quick_start()
    train, photos = only(given, "FaceExprTrainLoRA"), only(given, "FaceExprLoadSubjectImages")
    graph = with_sources(given, train)
    graph[photos] = changed(graph[photos], folder=folder)
    graph[train] = changed(graph[train], steps=LEARNING_STEPS, preview_every=0)  # nobody sees a preview here
    graph["curve"] = {"class_type": "PreviewImage", "inputs": {"images": [train, 2]}}
    return graph


def drawing_graph(folder: str) -> Graph:
    """The quick start with its one expression replaced by all, each drawn in every arm from the same noise; then the strips, and the person
    with the expression of a stranger's photo.

    The fusion arm's neutral picture is that of the LoRA alone: there is nothing to fuse. Pictures are saved by nodes named `<row> <cell>`.
    """
    given = quick_start()
    graph = learning_graph(folder)
    train, encode, sampler = (only(given, name) for name in ("FaceExprTrainLoRA", "FaceExprExpressionTextEncode", "FaceExprSampler"))
    decode, (prompt, _) = only(given, "VAEDecode"), given[encode]["inputs"]["prompt"]
    trained, base = [train, 0], graph[train]["inputs"]["model"]
    graph = with_sources(given, *(given[sampler]["inputs"][name][0] for name in ("negative", "latent_image", "seed")), prompt) | graph

    def drawn(row: str, cell: str, text: str, **inputs: Any) -> None:
        graph[f"sample {row} {cell}"] = changed(given[sampler], positive=[text, 0], steps=STEPS, **inputs)
        graph[f"decode {row} {cell}"] = changed(given[decode], samples=[f"sample {row} {cell}", 0])
        save = {"images": [f"decode {row} {cell}", 0], "filename_prefix": f"{row}/{cell}"}
        graph[f"{row} {cell}"] = {"class_type": "SaveImage", "inputs": save}

    def fused(text: str) -> dict[str, Any]:
        return {"base_model": base, "neutral": [text, 1], "vae": given[decode]["inputs"]["vae"]}

    for name in (NEUTRAL, *EXPRESSIONS):
        text = f"text {name}"
        graph[text] = changed(given[encode], expression=name)
        drawn("without_lora", name, text, model=base)
        drawn("with_lora", name, text, model=trained)
        drawn("fusion", name, text, model=trained, **({} if name == NEUTRAL else fused(text)))
    for row, cells in WORDS.items():
        for cell, words in cells.items():
            text = f"text {row} {cell}"
            graph[text] = changed(given[encode], **words)
            at_rest = words.get("intensity") == 0 and "second_expression" not in words
            drawn(row, cell, text, model=trained, **({} if at_rest else fused(text)))
    graph |= _photo_graph(base, trained)
    drawn(STRANGER, "person", f"text {NEUTRAL}", model=["photo fuse", 0])
    return graph


def _photo_graph(base: list[Any], trained: list[Any]) -> Graph:
    """The nodes that take an expression from the shipped photos of another person, as the workflow for it has them."""
    given: Graph = json.loads(STRANGER_PHOTO.read_text())
    extract, fuse = (only(given, name) for name in ("FaceExprExtractExpressionFeatures", "FaceExprApplyAttentionFocusedFusion"))
    needed = with_sources(given, *(given[extract]["inputs"][name][0] for name in ("photo", "neutral_photo", "positive", "negative")))
    loader = only(given, "FaceExprLoadMini")
    renamed = {node_id: base[0] if node_id == loader else f"photo {node_id}" for node_id in needed}

    def moved(node: dict[str, Any]) -> dict[str, Any]:
        wired = {key: [renamed.get(value[0], value[0]), value[1]] for key, value in node["inputs"].items() if isinstance(value, list)}
        return changed(node, **wired)

    seed = quick_start()[only(quick_start(), "FaceExprSampler")]["inputs"]["seed"]
    size = quick_start()[only(quick_start(), "FaceExprSampler")]["inputs"]["latent_image"]
    graph = {new: moved(given[old]) for old, new in renamed.items() if old != loader}
    graph["photo extract"] = changed(moved(given[extract]), model=base, vae=[base[0], 2], latent_image=size, seed=seed, steps=STEPS)
    graph["photo fuse"] = changed(given[fuse], model=trained, features=["photo extract", 0])
    del graph["photo fuse"]["inputs"]["vae"]  # without, as the demo's figures were measured
    return graph
