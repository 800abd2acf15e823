"""What nodes that take long say on themselves while they work."""

from __future__ import annotations

import json
import shutil

from comfy_process import ComfyProcess, Graph
from mini_graphs import ids, shortened
from workflow_api import WORKFLOWS

from faceexpr_core import mini


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


def test_extracting_says_which_face_it_is_at(comfy: ComfyProcess) -> None:
    donor = next(mini.donor_path().glob("*happy*"))
    shutil.copy(donor, comfy.input_dir / "told.jpg")
    words = {"prompt": "a photo of a man", "expression": "happy", "intensity": 1.0, "second_expression": "none", "second_weight": 0.5}
    extract = {"seed": 1, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    extract |= {"expression": "happy", "model": ["1", 0], "vae": ["1", 2], "latent_image": ["empty", 0]}
    extract |= {"positive": ["words", 0], "neutral": ["words", 1], "negative": ["none", 0]}
    graph: Graph = {
        "1": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "photo": {"class_type": "LoadImage", "inputs": {"image": "told.jpg"}},
        "words": {"class_type": "FaceExprExpressionTextEncode", "inputs": {**words, "clip": ["1", 1]}},
        "none": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    }
    for number, more in (("of words", {}), ("of a photo", {"photo": ["photo", 0], "levels": 2})):
        graph[number] = {"class_type": "FaceExprExtractExpressionFeatures", "inputs": {**extract, **more}}
        graph[f"{number}, shown"] = {"class_type": "PreviewImage", "inputs": {"images": [number, 1]}}
    told: dict[str, list[str]] = {}
    comfy.run(graph, on_text=lambda node, text: told.setdefault(node, []).append(text))
    neutral, expressive = "drawing the neutral face, step {}", "drawing the face with the expression, step {}"
    steps = [neutral.format(number) for number in (1, 2, 3)] + [expressive.format(number) for number in (4, 5)]
    assert told["of words"] == ["reading the words", *(f"{step} of 5" for step in steps)]
    of_photo = told["of a photo"]
    assert of_photo[:2] == ["looking for the face in the photo", "drawing the neutral face, step 1 of 16"]
    assert of_photo[-2:] == ["reading the face with the expression, step 15 of 16", "reading the neutral face, step 16 of 16"]
    assert len(of_photo) == 17
