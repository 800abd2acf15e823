"""What nodes that take long say on themselves while they work."""

from __future__ import annotations

import io
import json
import shutil
from collections import defaultdict

import numpy as np
import pytest
from comfy_process import ComfyProcess, Graph, Progress
from mini_graphs import ids, shortened
from PIL import Image
from workflow_api import WORKFLOWS

from faceexpr_core import mini

pytestmark = pytest.mark.long

WIRES = ("positive", "neutral", "negative", "latent_image")


class Told:
    """What ComfyUI's page is told of each node: the values of its progress bar, and pictures."""

    def __init__(self) -> None:
        self.bars: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.pictures: dict[str, list[Image.Image]] = defaultdict(list)

    def __call__(self, step: Progress) -> None:
        if step.preview is None:
            self.bars[step.node_id].append((step.value, step.total))
        else:
            self.pictures[step.node_id].append(Image.open(io.BytesIO(step.preview)).convert("L"))

    def fills(self, node: str, total: int) -> bool:
        """Whether the bar only ever went on, to its end."""
        values = [value for value, _ in self.bars[node]]
        return values == sorted(values) and self.bars[node][-1] == (total, total) and {of for _, of in self.bars[node][1:]} == {total}


def test_long_work_says_what_it_is_at(comfy: ComfyProcess) -> None:
    graph: Graph = json.loads((WORKFLOWS / "api" / "faceexpr_mini_my_lora_frowns.json").read_text())
    photos, frowning = ids(graph, "FaceExprLoadSubjectImages")
    (train,), (change,) = ids(graph, "FaceExprTrainLoRA"), ids(graph, "FaceExprChangeExpression")
    for number in (photos, frowning):
        graph[number]["inputs"]["trigger_word"] = "progress"  # so that nothing of it was made in another test
        graph[number]["inputs"]["class_word"] = "gentleman"  # nor its pictures of the class
    graph = shortened({number: node for number, node in graph.items() if number in (photos, frowning, train, change, "1")})
    graph[change]["inputs"]["prompt"] = "a photo of a progress man"
    graph[train]["inputs"] |= {"lora_name": "test/progress", "prior": "images", "prior_images": 2, "steps": 3, "preview_every": 2}
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
    shown = Told()
    comfy.run(graph, shown, on_text=lambda node, text: told.setdefault(node, []).append(text))
    assert told[photos][-1] == "looking at photo 6 of 6"
    assert "looking for faces in picture 6 of 6" in told[change]
    assert any(text.startswith("drawing face 6 of 6, ") for text in told[change])
    assert told["score"] == [f"measuring picture {number} of 6" for number in range(1, 7)]
    assert told["sheet"] == ["reading the words of 2 pictures", "picture 1 of 2: happy", "picture 2 of 2: sad"]
    training = [text.split("\n")[-1] for text in told[train]]  # below what it warns of
    assert [text.split(":")[0] for text in training if text.startswith("picture ")] == [
        "picture 1 of 2 of the class",
        "picture 2 of 2 of the class",
    ]
    assert training[-1].startswith("step 3 of 3") and "fp16 is for GPUs" in told[train][-1]
    assert shown.fills(photos, 6) and len(shown.pictures[photos]) == 6
    assert [picture.size for picture in shown.pictures[change]] == [(512, 512)] * 6  # as ComfyUI enlarges them
    assert shown.fills("score", 6) and len(shown.pictures["score"]) == 6
    assert shown.fills("sheet", 2)
    one, both = shown.pictures["sheet"]
    right = [float(np.asarray(page)[:, 300:480].std()) for page in (one, both)]
    assert right[0] < 5 < right[1]  # the sheet as far as it is drawn
    assert len(shown.pictures[train]) >= 3  # of the class, and a preview


def test_extracting_says_which_face_it_is_at_and_drawing_shows_what_it_sees(comfy: ComfyProcess) -> None:
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
    sample = {name: extract[name] for name in ("seed", "cfg", "sampler_name", "scheduler", "denoise", *WIRES)}
    sample |= {"steps": 4, "base_model": ["1", 0], "fusion_strength": 1.0, "model": ["1", 0], "vae": ["1", 2]}
    graph |= {
        "sampler": {"class_type": "FaceExprSampler", "inputs": sample},
        "decoded": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["1", 2]}},
        "drawn": {"class_type": "PreviewImage", "inputs": {"images": ["decoded", 0]}},
    }
    told: dict[str, list[str]] = {}
    shown = Told()
    comfy.run(graph, shown, on_text=lambda node, text: told.setdefault(node, []).append(text))
    neutral, expressive = "drawing the neutral face, step {}", "drawing the face with the expression, step {}"
    steps = [neutral.format(number) for number in (1, 2, 3)] + [expressive.format(number) for number in (4, 5)]
    assert told["of words"] == ["reading the words", *(f"{step} of 5" for step in steps)]
    of_photo = told["of a photo"]
    assert of_photo[:2] == ["looking for the face in the photo", "drawing the neutral face, step 1 of 16"]
    assert of_photo[-2:] == ["reading the face with the expression, step 15 of 16", "reading the neutral face, step 16 of 16"]
    assert len(of_photo) == 17
    assert shown.fills("of words", 5) and shown.fills("of a photo", 16)
    assert shown.fills("sampler", 4)
    # the twins; of a photo the neutral one alone is drawn; the picture in which the sampler looks for the face
    for node, least in (("of words", 2), ("of a photo", 1), ("sampler", 1)):
        assert len(shown.pictures[node]) >= least
        assert all(float(np.asarray(picture).std()) > 5 for picture in shown.pictures[node])
