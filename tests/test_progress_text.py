"""What nodes that take long say on themselves while they work."""

from __future__ import annotations

import json

from comfy_process import ComfyProcess, Graph
from mini_graphs import ids, shortened
from workflow_api import WORKFLOWS


def test_long_work_says_what_it_is_at(comfy: ComfyProcess) -> None:
    graph: Graph = json.loads((WORKFLOWS / "api" / "faceexpr_mini_my_lora_frowns.json").read_text())
    photos, frowning = ids(graph, "FaceExprLoadSubjectImages")
    (train,), (change,) = ids(graph, "FaceExprTrainLoRA"), ids(graph, "FaceExprChangeExpression")
    for number in (photos, frowning):
        graph[number]["inputs"]["trigger_word"] = "progress"  # so that nothing of it was made in another test
    graph = shortened({number: node for number, node in graph.items() if number in (photos, frowning, train, change, "1")})
    graph[change]["inputs"]["prompt"] = "a photo of a progress man"
    graph[train]["inputs"]["lora_name"] = "test/progress"
    score = {"expression": "sad", "intensity": 1.0, "best_k": 1, "images": [change, 0], "subject": [photos, 0]}
    sheet = {
        "prompt": "a photo of a man",
        "expressions": "happy, sad",
        "intensities": "1.0",
        "frames": 0,
        "seed": 1,
        "steps": 1,
        "cfg": 1.0,
    }
    sheet |= {"sampler_name": "euler", "scheduler": "normal", "denoise": 1.0, "model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}
    sheet |= {"negative": ["words", 0], "latent_image": ["empty", 0]}
    graph |= {
        "score": {"class_type": "FaceExprScore", "inputs": score},
        "words": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "sheet": {"class_type": "FaceExprExpressionSheet", "inputs": sheet},
        "curve": {"class_type": "PreviewImage", "inputs": {"images": [train, 2]}},
        "shown": {"class_type": "PreviewImage", "inputs": {"images": ["sheet", 0]}},
    }
    told: dict[str, list[str]] = {}
    comfy.run(graph, on_text=lambda node, text: told.setdefault(node, []).append(text))
    assert told[photos][-1] == "looking at photo 6 of 6"
    assert "looking for faces in picture 6 of 6" in told[change]
    assert any(text.startswith("drawing face 6 of 6, ") for text in told[change])
    assert told["score"] == [f"measuring picture {number} of 6" for number in range(1, 7)]
    assert told["sheet"] == ["picture 1 of 2: happy", "picture 2 of 2: sad"]
    assert told[train]
