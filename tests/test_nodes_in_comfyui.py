"""The nodes as a user meets them: in a real ComfyUI process, over HTTP and its websocket."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from comfy_process import ComfyError, ComfyProcess, Graph, Progress
from PIL import Image
from safetensors import safe_open
from workflow_api import WORKFLOWS

from faceexpr_core import mini

DISPLAY_NAMES = {
    "FaceExprLoadSubjectImages": "Load Subject Images",
    "FaceExprTrainLoRA": "Train FaceExpr LoRA",
    "FaceExprExpressionTextEncode": "Expression Text Encode",
    "FaceExprExtractExpressionFeatures": "Extract Expression Features",
    "FaceExprApplyAttentionFocusedFusion": "Apply Attention-Focused Fusion",
    "FaceExprSaveFeatures": "Save Features",
    "FaceExprLoadFeatures": "Load Features",
    "FaceExprSampler": "FaceExpr Sampler",
    "FaceExprLoadMini": "Load FaceExpr Mini",
    "FaceExprLoadLoRA": "Load FaceExpr LoRA",
    "FaceExprScore": "FaceExpr Score",
    "FaceExprChangeExpression": "Change Expression",
    "FaceExprExpressionSheet": "Expression Sheet",
}
PHOTOS, TRAIN = "2", "4"
"""Ids in the quick start."""


def quick_start(steps: int = 6, lora_name: str = "test/quick", preview_every: int = 0, **photos: Any) -> Graph:
    """The quick start, small enough for a test."""
    graph: Graph = json.loads((WORKFLOWS / "api" / "faceexpr_mini_quick_start.json").read_text())
    graph[TRAIN]["inputs"] |= {"steps": steps, "rank": 4, "batch_size": 2, "preview_every": preview_every, "lora_name": lora_name}
    graph[PHOTOS]["inputs"] |= photos
    for node in graph.values():
        if node["class_type"] == "FaceExprSampler":
            node["inputs"]["steps"] = 3
    return graph


def subject_alone(folder: str, **settings: Any) -> Graph:
    node = quick_start()[PHOTOS]
    return {PHOTOS: {**node, "inputs": {**node["inputs"], "folder": folder, **settings}}}


def report_of(shown: dict[str, dict[str, Any]]) -> str:
    return "\n".join(shown[PHOTOS]["text"])


@pytest.fixture
def folder(comfy: ComfyProcess, request: pytest.FixtureRequest) -> Path:
    """An empty folder of its own inside ComfyUI's input folder."""
    path = comfy.input_dir / re.sub(r"\W", "_", request.node.name)
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def portrait() -> Image.Image:
    """A real photograph with one face (NASA, public domain), 320 px."""
    from skimage.data import astronaut

    return Image.fromarray(astronaut()).crop((80, 0, 400, 320))


def test_comfyui_lists_the_nodes_by_their_ids_with_a_tooltip_on_every_input(comfy: ComfyProcess) -> None:
    info = {name: node for name, node in comfy.object_info().items() if name.startswith("FaceExpr")}
    assert {name: node["display_name"] for name, node in info.items()} == DISPLAY_NAMES
    for name, node in info.items():
        assert node["description"], name
        assert len(node["output_tooltips"]) == len(node["output"]) and all(node["output_tooltips"]), name
        for inputs in (node["input"].get("required", {}), node["input"].get("optional", {})):
            for key, spec in inputs.items():
                assert len(spec) > 1 and len(spec[1].get("tooltip", "")) > 10, f"{name}.{key}"


def test_the_pack_is_imported_and_says_nothing(comfy: ComfyProcess) -> None:
    started = comfy.log().split("Starting server")[0]
    (seconds,) = re.findall(r"([\d.]+) seconds( \(IMPORT FAILED\))?: .*custom_nodes/faceexpr\n", started)
    assert seconds[1] == ""
    others = [line for line in started.splitlines() if "faceexpr" in line.lower() and "seconds" not in line]
    assert [line for line in others if str(comfy.home) not in line] == []
    assert "Traceback" not in started


def test_each_node_has_a_help_page(comfy: ComfyProcess) -> None:
    for name, node in comfy.object_info().items():
        if name.startswith("FaceExpr"):
            package = node["python_module"].removeprefix("custom_nodes.")
            page = comfy.get(f"/extensions/{package}/docs/{name}.md").decode()
            assert node["display_name"] in page, name


def test_the_quick_start_learns_and_draws(comfy: ComfyProcess) -> None:
    told: list[Progress] = []
    shown = comfy.run(quick_start(preview_every=3), told.append)
    assert "6 of 6 pictures kept" in report_of(shown)

    training = [step for step in told if step.node_id == TRAIN]
    steps = [step.value for step in training if step.preview is None and step.value]
    assert steps == sorted(set(steps))
    assert {3, 6} <= set(steps) <= {1, 2, 3, 4, 5, 6}  # newer ComfyUI leaves out those that follow within 0.1 s, but none with a preview
    assert {step.total for step in training} == {6}
    previews = [Image.open(io.BytesIO(step.preview)) for step in training if step.preview is not None]
    assert [preview.format for preview in previews] == ["JPEG", "JPEG"]

    pictures = [Image.open(io.BytesIO(comfy.view(shown[node]["images"][0]))) for node in ("10", "14", "18")]
    assert [picture.size for picture in pictures] == [(mini.RESOLUTION, mini.RESOLUTION)] * 3
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert Image.open(io.BytesIO(comfy.view(shown[TRAIN]["images"][0]))).size[0] > 200

    with safe_open(str(comfy.lora_dir / "test" / "quick.safetensors"), "pt") as lora:
        assert any(key.endswith(".alpha") for key in lora.keys())  # noqa: SIM118 - not a mapping
        assert lora.metadata()

    other, again = quick_start(preview_every=3), list[Progress]()
    other["11"]["inputs"]["expression"] = "sad"
    comfy.run(other, again.append)
    assert {step.node_id for step in again} == {"12"}  # it does not train again
    assert [path.name for path in (comfy.lora_dir / "test").glob("quick*")] == ["quick.safetensors"]


def test_an_empty_folder_is_an_error_that_says_what_to_put_there(comfy: ComfyProcess, folder: Path) -> None:
    (folder / "notes.txt").write_text("no picture")
    with pytest.raises(ComfyError, match=r"holds no pictures\. Put photos of one person into it"):
        comfy.run(subject_alone(folder.name))


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ("../output", "is not inside ComfyUI's input folder"),
        ("/etc", "is not inside ComfyUI's input folder"),
        ("a/../../models", "is not inside ComfyUI's input folder"),
        ("no such folder", "There is no folder 'no such folder'"),
    ],
)
def test_a_folder_outside_the_input_folder_or_absent_is_refused_before_anything_runs(comfy: ComfyProcess, choice: str, text: str) -> None:
    with pytest.raises(ComfyError) as refused:
        comfy.run(subject_alone(choice))
    assert refused.value.refused
    assert refused.value.node_id == PHOTOS
    assert text in refused.value.exception_message


def test_a_link_that_leads_out_of_the_input_folder_is_refused(comfy: ComfyProcess, tmp_path: Path) -> None:
    (comfy.input_dir / "link_out").symlink_to(tmp_path)
    with pytest.raises(ComfyError, match="is not inside ComfyUI's input folder"):
        comfy.run(subject_alone("link_out"))


def test_pictures_without_a_face_are_an_error_that_names_each(comfy: ComfyProcess, folder: Path) -> None:
    for name in ("sea.png", "sky.png"):
        Image.new("RGB", (200, 200), "#4477aa").save(folder / name)
    with pytest.raises(ComfyError) as failed:
        comfy.run(subject_alone(folder.name))
    assert "None of the 2 pictures can be used" in failed.value.exception_message
    assert "sea.png: no face found" in failed.value.exception_message
    assert "sky.png: no face found" in failed.value.exception_message


def test_a_tiny_face_is_dropped_by_name_and_copies_are_found(comfy: ComfyProcess, folder: Path, portrait: Image.Image) -> None:
    portrait.save(folder / "a.png")
    portrait.save(folder / "b.jpg", quality=80)
    scene = Image.new("RGB", (320, 320), "#888888")
    scene.paste(portrait.resize((110, 110)), (100, 100))
    scene.save(folder / "far.png")
    report = report_of(comfy.run(subject_alone(folder.name)))
    assert re.search(r"^dropped +b.jpg: nearly the same as a.png", report, re.M), report
    assert re.search(r"^dropped +far.png: face of \d+ px is smaller than 48 px", report, re.M), report


def test_a_missing_model_file_is_an_error_that_names_the_command(comfy: ComfyProcess, folder: Path, portrait: Image.Image) -> None:
    portrait.save(folder / "a.png")
    link = comfy.home / "models" / "faceexpr"
    kept = link.rename(link.with_name("faceexpr.away"))
    try:
        with pytest.raises(ComfyError, match=r"cli\.py models fetch face_landmarker"):
            comfy.run(subject_alone(folder.name))
    finally:
        kept.rename(link)
    assert "1 of 1 pictures kept" in report_of(comfy.run(subject_alone(folder.name)))
