"""Templates drawn: Mini's as they are, SDXL's with Mini in the checkpoint's place and LoRAs and a ControlNet of random weights."""

from __future__ import annotations

import io
import json
from itertools import combinations

import numpy as np
import pytest
from comfy_process import ComfyProcess, Graph
from mini_graphs import difference, drawn, ids, put_mini_in, shortened, unfused
from PIL import Image
from workflow_api import WORKFLOWS

from faceexpr_core.mini import RESOLUTION

SHORTER = ("faceexpr_sdxl_fusion_photo", "faceexpr_sdxl_two_people")
FUSED = (*SHORTER, "faceexpr_sdxl_controlnet", "faceexpr_sdxl_few_steps")
DRAWN = (*FUSED, "faceexpr_sdxl_fusion_text", "faceexpr_sdxl_my_lora_frowns", "faceexpr_sdxl_small_faces")


def api(name: str) -> Graph:
    graph: Graph = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())
    return shortened(graph)


def picture(comfy: ComfyProcess, shown: dict[str, str]) -> np.ndarray:
    """One of the pictures that a node shows, float [H, W, 3] in 0..255."""
    return np.asarray(Image.open(io.BytesIO(comfy.view(shown))).convert("RGB"), float)


@pytest.mark.parametrize("name", [name if name in SHORTER else pytest.param(name, marks=pytest.mark.long) for name in DRAWN])
def test_a_template_for_sdxl_draws_with_mini_in_the_checkpoints_place(comfy: ComfyProcess, name: str) -> None:
    graph = put_mini_in(comfy, api(name))
    pictures = drawn(comfy, graph)
    assert all(picture.std() > 5 for picture in pictures.values())
    if name in FUSED:
        (fused, *_), (neutral, *_) = pictures.values(), drawn(comfy, unfused(graph)).values()
        assert difference(fused, neutral) > 0.3
    elif name == "faceexpr_sdxl_fusion_text":
        title = "With fusion"
        assert difference(pictures[title], drawn(comfy, unfused(graph))[title]) > 0.3
    elif name == "faceexpr_sdxl_my_lora_frowns":  # in three steps the other one draws no face that could be found
        one, other = pictures.values()
        assert difference(one, other) > 0.3


@pytest.mark.long
def test_a_person_is_learned_with_mini_in_the_checkpoints_place_and_drawn_with_three_expressions(comfy: ComfyProcess) -> None:
    graph = put_mini_in(comfy, api("faceexpr_sdxl"))
    (train,) = ids(graph, "FaceExprTrainLoRA")
    graph[train]["inputs"] |= {"lora_name": "test/of_the_template", "prior_images": 2}
    shown = comfy.run(graph)
    neutral, happy, surprised = (picture(comfy, shown[number]["images"][0]) for number in ids(graph, "SaveImage"))
    assert neutral.shape == (RESOLUTION, RESOLUTION, 3) and neutral.std() > 5
    assert min(difference(*pair) for pair in combinations((neutral, happy, surprised), 2)) > 0.3
    assert (comfy.lora_dir / "test" / "of_the_template.safetensors").is_file()


@pytest.mark.long
def test_your_picture_is_changed_with_mini_in_the_checkpoints_place(comfy: ComfyProcess) -> None:
    graph = put_mini_in(comfy, api("faceexpr_sdxl_change"))
    given = np.asarray(Image.open(comfy.input_dir / "example.png").convert("RGB"), float)
    shown = comfy.run(graph)
    changed = picture(comfy, shown[ids(graph, "SaveImage")[0]]["images"][0])
    assert "a face of" in shown[ids(graph, "FaceExprChangeExpression")[0]]["text"][0]
    assert np.array_equal(changed[:, :4], given[:, :4]) and difference(changed, given) > 0.3


@pytest.mark.long
def test_the_sheet_is_drawn_with_mini_in_the_checkpoints_place(comfy: ComfyProcess) -> None:
    graph = put_mini_in(comfy, api("faceexpr_sdxl_sheet"))
    shown = comfy.run(graph)
    (sheet,), frames = ([picture(comfy, one) for one in shown[number]["images"]] for number in ids(graph, "SaveImage"))
    assert sheet.std() > 5 and min(sheet.shape[:2]) > 2 * RESOLUTION
    assert len(frames) == 5 and difference(frames[0], frames[-1]) > 0.3


@pytest.mark.long
def test_a_lora_learned_from_frowns_is_drawn_with_and_without_fusion(comfy: ComfyProcess) -> None:
    graph = api("faceexpr_mini_my_lora_frowns")
    pictures = drawn(comfy, graph)
    assert difference(pictures["Without fusion"], pictures["With fusion"]) > 0.5
    _, fused = ids(graph, "FaceExprSampler")
    graph[fused]["inputs"]["fusion_strength"] = 0.0
    assert difference(drawn(comfy, graph)["With fusion"], pictures["Without fusion"]) == 0


@pytest.mark.parametrize("model", ["mini", pytest.param("sdxl", marks=pytest.mark.long)])
def test_the_template_of_intensities_draws_a_sheet_and_a_blend_of_two(comfy: ComfyProcess, model: str) -> None:
    graph = put_mini_in(comfy, api(f"faceexpr_{model}_intensity_and_blend"))
    pictures = drawn(comfy, graph)
    height, width = pictures["Intensities"].shape[:2]
    assert width > height  # two expressions, four intensities
    (text,) = ids(graph, "FaceExprExpressionTextEncode")
    graph[text]["inputs"]["second_expression"] = "none"
    assert difference(drawn(comfy, graph)["The blend"], pictures["The blend"]) > 0.5


@pytest.mark.long
def test_of_two_people_each_has_an_expression_of_its_own(comfy: ComfyProcess) -> None:
    graph = api("faceexpr_mini_two_people")
    pictures = drawn(comfy, graph)
    together = pictures["Each with an expression of its own"]
    quarter = together.shape[1] // 4
    assert difference(together[:, :quarter], pictures["As they are"][:, :quarter]) > 0.5
    _, right = ids(graph, "FaceExprExpressionTextEncode")
    graph[right]["inputs"]["expression"] = "surprised"
    other = drawn(comfy, graph)["Each with an expression of its own"]
    assert difference(together[:, -quarter:], other[:, -quarter:]) > 3 * difference(together[:, :quarter], other[:, :quarter])


@pytest.mark.long
def test_a_small_face_is_drawn_again_and_the_rest_is_left(comfy: ComfyProcess) -> None:
    graph = api("faceexpr_mini_small_faces")
    for number in ids(graph, "FaceExprSampler"):
        graph[number]["inputs"]["steps"] = 10
    pictures = drawn(comfy, graph)
    before, after = pictures["As it was"], pictures["With an expression"]
    height, width = before.shape[:2]
    middle = (slice(height // 4, -height // 4), slice(width // 4, -width // 4))
    changed = np.abs(before - after).mean(2)
    assert changed[middle].mean() > 2
    edge = np.concatenate([changed[:8].ravel(), changed[-8:].ravel(), changed[:, :8].ravel(), changed[:, -8:].ravel()])
    assert edge.mean() < 0.2 * changed[middle].mean()
