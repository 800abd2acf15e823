"""Graphs that were saved with earlier versions open and run with this one: inputs, outputs and choices of the nodes stay, in their order.

tests/data/0.1.0 holds the workflows that version 0.1.0 brought, tests/data/saved_graphs.json what graphs may hold that are saved today.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfy_process import ComfyProcess, Graph, copy_subject
from mini_graphs import put_mini_in
from workflow_api import NOTES, input_specs, is_widget, to_api

DATA = Path(__file__).parent / "data"
OLD = sorted((DATA / "0.1.0").glob("*.json"))
SAVED: dict[str, dict[str, Any]] = json.loads((DATA / "saved_graphs.json").read_text())
LISTED_BY_COMFYUI = {"folder", "file", "lora_name", "start_from", "sampler_name", "scheduler"}
"""Choices that are files, or ComfyUI's own."""


@pytest.fixture(scope="module")
def object_info(comfy: ComfyProcess) -> dict[str, Any]:
    return comfy.object_info()


@pytest.fixture(params=OLD, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def opened(path: Path, object_info: dict[str, Any]) -> Graph:
    """A saved workflow as the page opens it: the saved values in their order, and a widget for which none was saved as the node has it."""
    page = json.loads(path.read_text())
    for node in (node for node in page["nodes"] if node["type"] not in NOTES):
        own = []
        for _, kind, options in input_specs(object_info[node["type"]]):
            if is_widget(kind, options):
                own += [options.get("default")] + ["fixed"] * bool(options.get("control_after_generate"))
        node["widgets_values"] += own[len(node["widgets_values"]) :]
    return to_api(page, object_info)


def test_each_saved_value_comes_to_the_widget_that_it_was_saved_from(old: Path, object_info: dict[str, Any]) -> None:
    saved: Graph = json.loads((old.parent / "api" / old.name).read_text())
    shown = opened(old, object_info)
    assert shown.keys() == saved.keys()
    for number, node in saved.items():
        specs = {name: options for name, _, options in input_specs(object_info[node["class_type"]])}
        newer = {name: value for name, value in shown[number]["inputs"].items() if name not in node["inputs"]}
        assert shown[number]["inputs"] == node["inputs"] | newer, node["class_type"]
        assert newer == {name: specs[name].get("default") for name in newer}, node["class_type"]
        choices = {name: specs[name].get("options") for name in node["inputs"].keys() - LISTED_BY_COMFYUI}
        assert [name for name, known in choices.items() if known and node["inputs"][name] not in known and name != "image"] == []


@pytest.mark.parametrize("form", ["page", "api"])
def test_comfyui_takes_it(comfy: ComfyProcess, old: Path, form: str, object_info: dict[str, Any]) -> None:
    copy_subject(comfy.input_dir)
    graph: Graph = opened(old, object_info) if form == "page" else json.loads((old.parent / "api" / old.name).read_text())
    told = comfy.post("/faceexpr_test/validate", put_mini_in(comfy, graph))
    assert told["error"] is None and told["nodes"] == {}
    assert {number for number, node in graph.items() if node["class_type"] in ("SaveImage", "PreviewImage")} <= set(told["outputs"])


def test_every_nodes_inputs_outputs_and_choices_stay_in_their_order_and_new_ones_come_last(object_info: dict[str, Any]) -> None:
    """What fails here for something new belongs at the end, and then into tests/data/saved_graphs.json, at the end too."""
    assert {name for name in object_info if name.startswith("FaceExpr")} == SAVED.keys()
    for name, saved in SAVED.items():
        info = object_info[name]
        assert [one for one, _, _ in input_specs(info)] == saved["inputs"], name
        assert info["output_name"] == saved["outputs"], name
        offered = {one: options["options"] for one, kind, options in input_specs(info) if kind == "COMBO" and one not in LISTED_BY_COMFYUI}
        assert offered.keys() == saved["choices"].keys(), name
        assert {one: set(choices) - set(offered[one]) for one, choices in saved["choices"].items()} == {one: set() for one in offered}, name


def test_what_is_saved_today_begins_with_what_0_1_0_saved(object_info: dict[str, Any]) -> None:
    for path in OLD:
        for node in (node for node in json.loads(path.read_text())["nodes"] if node["type"] in SAVED):
            outputs = [output["name"] for output in node["outputs"]]
            assert SAVED[node["type"]]["outputs"][: len(outputs)] == outputs, (path.name, node["type"])
