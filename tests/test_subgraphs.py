"""Blueprints: subgraphs that ComfyUI offers in its node library, each as one node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfy_process import REPOSITORY, ComfyError, ComfyProcess, Graph
from mini_graphs import difference, drawn, ids, put_mini_in, shortened, unfused
from workflow_api import WORKFLOWS, to_api

SUBGRAPHS = sorted((REPOSITORY / "subgraphs").glob("*.json"))
CHANGE = REPOSITORY / "subgraphs" / "FaceExpr change of expression.json"
INPUTS, OUTPUTS = -10, -20
SEED_CONTROL = "control_after_generate"
"""A widget of the page beside each seed, which is none of the node's inputs."""
USUAL = {"prompt", "text", "expression", "intensity", "second_expression", "second_weight", "action_units"}
USUAL |= {"seed", "steps", "cfg", "sampler_name", "scheduler", "strength_model", "strength_clip", "shown"}
"""What a user wants to set without opening a subgraph, where one of its nodes has it."""


def inside(blueprint: dict[str, Any]) -> dict[str, Any]:
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    return dict(subgraph)


def unpacked(blueprint: dict[str, Any], object_info: dict[str, Any], **more: list[Any]) -> Graph:
    """The subgraph in API form, fed by Mini, a photo and `more` by the names of its inputs; its first picture is shown."""
    subgraph = inside(blueprint)
    links = [list(link.values()) for link in subgraph["links"]]
    within = [link for link in links if link[1] != INPUTS and link[3] != OUTPUTS]
    kept = {link[0] for link in within}
    nodes = json.loads(json.dumps(subgraph["nodes"]))
    for slot in (slot for node in nodes for slot in node["inputs"]):
        slot["link"] = slot["link"] if slot["link"] in kept else None
    graph = to_api({"nodes": nodes, "links": within}, object_info)
    graph |= {
        "mini": {"class_type": "FaceExprLoadMini", "inputs": {}, "_meta": {"title": "Mini"}},
        "photo": {"class_type": "LoadImage", "inputs": {"image": "example.png"}, "_meta": {"title": "Photo"}},
    }
    given = {"model": ["mini", 0], "clip": ["mini", 1], "vae": ["mini", 2], "image": ["photo", 0], **more}
    slots = {node["id"]: [slot["name"] for slot in node["inputs"]] for node in nodes}
    for _, source, output, target, slot, _ in links:
        if source == INPUTS and (name := subgraph["inputs"][output]["name"]) in given:
            graph[str(target)]["inputs"][slots[target][slot]] = given[name]
        if target == OUTPUTS and slot == 0:
            graph["shown"] = {"class_type": "PreviewImage", "inputs": {"images": [str(source), output]}, "_meta": {"title": "Shown"}}
    return graph


@pytest.fixture(params=SUBGRAPHS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def blueprint(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("ascii")))  # ComfyUI 0.3.75 reads it in the system's own encoding


def test_comfyui_offers_them(comfy: ComfyProcess) -> None:
    offered = json.loads(comfy.get("/global_subgraphs"))
    ours = {number: entry["name"] for number, entry in offered.items() if entry["info"]["node_pack"] == "custom_nodes.faceexpr"}
    assert sorted(ours.values()) == ["FaceExpr change of expression", "FaceExpr person with an expression"]
    for number, name in ours.items():
        data = json.loads(comfy.get(f"/global_subgraphs/{number}"))["data"]
        assert json.loads(data) == json.loads((REPOSITORY / "subgraphs" / f"{name}.json").read_text())


def test_a_blueprint_is_one_node_with_the_slots_of_its_subgraph(path: Path, blueprint: dict[str, Any]) -> None:
    (node,), subgraph = blueprint["nodes"], inside(blueprint)
    assert node["type"] == subgraph["id"] and node["title"] == subgraph["name"] == path.stem
    for kind in ("inputs", "outputs"):
        assert [(slot["name"], slot["type"]) for slot in node[kind]] == [(slot["name"], slot["type"]) for slot in subgraph[kind]]
    ends = [(slot["linkIds"], INPUTS, "origin_id", "origin_slot", number) for number, slot in enumerate(subgraph["inputs"])]
    ends += [(slot["linkIds"], OUTPUTS, "target_id", "target_slot", number) for number, slot in enumerate(subgraph["outputs"])]
    for numbers, end, node_key, slot_key, place in ends:
        assert numbers == [link["id"] for link in subgraph["links"] if link[node_key] == end and link[slot_key] == place] != []


def test_the_widgets_that_it_shows_are_those_of_its_nodes(comfy: ComfyProcess, blueprint: dict[str, Any]) -> None:
    graph = unpacked(blueprint, comfy.object_info())
    shown = [(number, widget) for number, widget in blueprint["nodes"][0]["properties"]["proxyWidgets"] if widget != SEED_CONTROL]
    for number, widget in shown:
        assert widget in graph[number]["inputs"], (number, widget)
    usual = {(number, name) for number, node in graph.items() for name, value in node["inputs"].items() if name in USUAL}
    assert {one for one in usual if not isinstance(graph[one[0]]["inputs"][one[1]], list)} - set(shown) == set()


def test_model_clip_and_vae_are_given(blueprint: dict[str, Any]) -> None:
    subgraph = inside(blueprint)
    assert {"MODEL", "CLIP", "VAE"} <= {slot["type"] for slot in subgraph["inputs"]}
    assert not [node for node in subgraph["nodes"] if node["type"] == "CheckpointLoaderSimple"]


def test_all_that_the_change_of_an_expression_says_is_handed_out() -> None:
    subgraph = inside(json.loads(CHANGE.read_text()))
    leaving = {link["id"] for link in subgraph["links"] if link["target_id"] == OUTPUTS}
    (change,) = (node for node in subgraph["nodes"] if node["type"] == "FaceExprChangeExpression")
    assert change["outputs"] and all(leaving & set(output["links"]) for output in change["outputs"])


def test_a_person_is_drawn_with_the_settings_of_the_template(comfy: ComfyProcess) -> None:
    blueprint = json.loads((REPOSITORY / "subgraphs" / "FaceExpr person with an expression.json").read_text())
    template: Graph = json.loads((WORKFLOWS / "api" / "faceexpr_sdxl_fusion_text.json").read_text())
    *_, fused = ids(template, "FaceExprSampler")
    graph = unpacked(blueprint, comfy.object_info())
    (sampler,) = ids(graph, "FaceExprSampler")
    settings = {key: value for key, value in template[fused]["inputs"].items() if not isinstance(value, list)}
    assert {key: graph[sampler]["inputs"][key] for key in settings} == settings


def test_every_mask_that_its_nodes_take_can_be_given(blueprint: dict[str, Any]) -> None:
    subgraph = inside(blueprint)
    entering = {link["id"] for link in subgraph["links"] if link["origin_id"] == INPUTS}
    masks = [slot for node in subgraph["nodes"] for slot in node["inputs"] if slot["type"] == "MASK"]
    assert [slot for slot in masks if slot["link"] not in entering] == []


def test_it_draws(comfy: ComfyProcess, blueprint: dict[str, Any]) -> None:
    graph = shortened(put_mini_in(comfy, unpacked(blueprint, comfy.object_info())))
    picture = drawn(comfy, graph)["Shown"]
    assert picture.std() > 5
    assert difference(drawn(comfy, unfused(graph))["Shown"], picture) > 0.3


def test_the_mask_and_the_model_that_are_given_reach_the_change(comfy: ComfyProcess) -> None:
    blueprint = json.loads(CHANGE.read_text())
    graph = unpacked(blueprint, comfy.object_info(), mask=["nowhere", 0], person_model=["mini", 0])
    graph["nowhere"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 64, "height": 64}}
    (change,) = ids(graph, "FaceExprChangeExpression")
    assert graph[change]["inputs"]["person_model"] == ["mini", 0]
    with pytest.raises(ComfyError, match="no face to change was found inside the mask"):
        drawn(comfy, shortened(put_mini_in(comfy, graph)))
