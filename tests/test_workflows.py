"""The workflows open on the page as they run in the tests: both forms agree with each other and with the nodes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from comfy_process import ComfyProcess
from workflow_api import NOTES, WORKFLOWS, input_specs, to_api

NAMES = sorted(path.name for path in WORKFLOWS.glob("*.json"))


@pytest.fixture(scope="module")
def object_info(comfy: ComfyProcess) -> dict[str, Any]:
    return comfy.object_info()


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(name: str) -> dict[str, Any]:
    return dict(json.loads((WORKFLOWS / name).read_text()))


def test_both_workflows_are_there() -> None:
    assert NAMES == ["faceexpr_mini_quick_start.json", "faceexpr_sdxl.json"]
    assert sorted(path.name for path in (WORKFLOWS / "api").glob("*.json")) == NAMES


def test_the_api_twin_has_the_same_nodes_links_and_values(name: str, page: dict[str, Any], object_info: dict[str, Any]) -> None:
    assert json.loads((WORKFLOWS / "api" / name).read_text()) == to_api(page, object_info)


def test_links_are_the_same_seen_from_either_end(page: dict[str, Any], object_info: dict[str, Any]) -> None:
    nodes = {node["id"]: node for node in page["nodes"]}
    for number, source, output, target, slot, kind in page["links"]:
        assert number in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == number
        assert nodes[source]["outputs"][output]["type"] == kind
        assert nodes[target]["inputs"][slot]["type"] in (kind, "*")
    assert sum(len(output["links"]) for node in page["nodes"] for output in node["outputs"]) == len(page["links"])
    assert page["last_node_id"] == max(nodes)
    assert page["last_link_id"] == max(link[0] for link in page["links"])


def test_slots_are_those_of_the_nodes(page: dict[str, Any], object_info: dict[str, Any]) -> None:
    for node in page["nodes"]:
        if node["type"] in NOTES:
            continue
        info = object_info[node["type"]]
        types = {name: kind for name, kind, _ in input_specs(info)}
        assert {slot["name"]: slot["type"] for slot in node["inputs"]}.items() <= types.items()
        assert [output["type"] for output in node["outputs"]] == info["output"]
        assert [output["name"] for output in node["outputs"]] == info["output_name"]


def test_every_value_is_one_that_its_widget_allows(name: str, page: dict[str, Any], object_info: dict[str, Any]) -> None:
    for node in to_api(page, object_info).values():
        specs = {name: (kind, options) for name, kind, options in input_specs(object_info[node["class_type"]])}
        for key, value in node["inputs"].items():
            kind, options = specs[key]
            if isinstance(value, list):
                continue
            if kind in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"], (node, key)
            elif node["class_type"].startswith("FaceExpr") and (choices := kind if isinstance(kind, list) else options.get("options")):
                assert value in choices or key == "folder", (node, key)


def test_no_two_nodes_overlap_and_every_node_lies_in_a_group_or_is_a_note(page: dict[str, Any]) -> None:
    title = 30

    def box(node: dict[str, Any]) -> tuple[float, float, float, float]:
        (x, y), (width, height) = node["pos"], node["size"]
        return x, y - title, x + width, y + height

    for one, other in itertools.combinations(page["nodes"], 2):
        a, b = box(one), box(other)
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (one["type"], other["type"], one["pos"], other["pos"])
    groups = [(x, y, x + width, y + height) for x, y, width, height in (group["bounding"] for group in page["groups"])]
    for node in page["nodes"]:
        left, top, right, bottom = box(node)
        held = any(x <= left and y <= top and right <= x2 and bottom <= y2 for x, y, x2, y2 in groups)
        assert held or node["type"] in NOTES, node["type"]


def test_the_template_browser_finds_them(comfy: ComfyProcess, name: str) -> None:
    stem = name.removesuffix(".json")
    assert stem in json.loads(comfy.get("/workflow_templates"))["faceexpr"]
    assert json.loads(comfy.get(f"/api/workflow_templates/faceexpr/{name}")) == json.loads((WORKFLOWS / name).read_text())
