"""The workflows in ComfyUI's own page: a real Chromium opens it and loads them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from browser import require_chromium
from comfy_process import REPOSITORY, ComfyProcess
from playwright.sync_api import Page
from workflow_api import WORKFLOWS

TITLE_HEIGHT = 30
LOAD = """async workflow => {
    await app.loadGraphData(workflow)
    const nodes = app.graph.nodes
    return {
        missing: nodes.filter(node => !(node.type in LiteGraph.registered_node_types)).map(node => node.type),
        nodes: nodes.map(node => ({
            id: Number(node.id), // newer pages keep ids as text
            title: node.title,
            widgets: (node.widgets ?? []).map(widget => widget.name),
            box: [...node.pos, ...node.size],
            // the button of Load Image and the expression editor are widgets too, whose value no file needs
            values: (node.widgets ?? [])
                .filter(widget => widget.name !== 'upload' && widget.serialize !== false).map(widget => widget.value),
        })),
        links: [...app.graph.links.values()].map(link =>
            [Number(link.origin_id), link.origin_slot, Number(link.target_id),
                app.graph.getNodeById(link.target_id).inputs[link.target_slot].name]),
        prompt: (await app.graphToPrompt()).output,
    }
}"""


WITH_EDITOR = """() => Object.keys(LiteGraph.registered_node_types).filter(type => type.startsWith('FaceExpr')).filter(type => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    const found = node.widgets?.some(widget => widget.name === 'expression_editor')
    app.graph.remove(node)
    return found
})"""


ASKS = {"expression", "expressions"}


def inputs_of(node: dict[str, Any]) -> set[str]:
    """The names of all inputs of a node of ComfyUI's `/object_info`."""
    return {name for inputs in node["input"].values() for name in inputs}


@pytest.fixture(scope="module", params=sorted(path.name for path in WORKFLOWS.glob("*.json")))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def workflow(name: str) -> dict[str, Any]:
    return dict(json.loads((WORKFLOWS / name).read_text()))


@pytest.fixture(scope="module")
def shown(opened: tuple[Page, list[str]], workflow: dict[str, Any]) -> dict[str, Any]:
    return dict(opened[0].evaluate(LOAD, workflow))


def test_the_page_knows_every_node(shown: dict[str, Any], workflow: dict[str, Any]) -> None:
    assert shown["missing"] == []
    assert sorted(node["id"] for node in shown["nodes"]) == sorted(node["id"] for node in workflow["nodes"])


def test_widgets_show_the_values_of_the_file(shown: dict[str, Any], workflow: dict[str, Any]) -> None:
    assert {node["id"]: node["values"] for node in shown["nodes"]} == {node["id"]: node["widgets_values"] for node in workflow["nodes"]}


def test_links_end_where_the_file_says(shown: dict[str, Any], workflow: dict[str, Any]) -> None:
    nodes = {node["id"]: node for node in workflow["nodes"]}
    expected = [[source, output, target, nodes[target]["inputs"][slot]["name"]] for _, source, output, target, slot, _ in workflow["links"]]
    assert sorted(shown["links"]) == sorted(expected)


def test_app_mode_finds_its_widgets(shown: dict[str, Any], workflow: dict[str, Any]) -> None:
    named = workflow["extra"]["linearData"]["inputs"]
    widgets = {node["id"]: node["widgets"] for node in shown["nodes"]}
    assert [widget for number, widget in named if widget not in widgets[number]] == []


def test_the_page_queues_the_api_twin(shown: dict[str, Any], name: str) -> None:
    assert shown["prompt"] == json.loads((WORKFLOWS / "api" / name).read_text())


def test_nodes_keep_their_size_and_do_not_overlap(shown: dict[str, Any], workflow: dict[str, Any]) -> None:
    boxes = {node["id"]: node["box"] for node in shown["nodes"]}
    assert boxes == {node["id"]: [*node["pos"], *node["size"]] for node in workflow["nodes"]}
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        apart = a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] + TITLE_HEIGHT <= b[1] or b[1] + b[3] + TITLE_HEIGHT <= a[1]
        assert apart, (one, other)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "subgraphs").glob("*.json")), ids=lambda path: path.stem)
def test_a_blueprint_opens_as_one_node_with_its_widgets(opened: tuple[Page, list[str]], path: Path) -> None:
    blueprint = json.loads(path.read_text())
    shown = opened[0].evaluate(LOAD, blueprint)
    assert shown["missing"] == []
    (node,) = shown["nodes"]
    named = [widget for _, widget in blueprint["nodes"][0]["properties"]["proxyWidgets"]]
    names = [widget for widget in named if widget != "control_after_generate"]  # which newer pages do not show on a subgraph
    assert [name for name in names if not any(name in widget for widget in node["widgets"])] == []
    kinds = {inner["type"] for inner in blueprint["definitions"]["subgraphs"][0]["nodes"]}
    assert {queued["class_type"] for queued in shown["prompt"].values()} == kinds
    assert opened[1] == []


def test_the_editor_stands_where_an_expression_is_asked(opened: tuple[Page, list[str]], comfy: ComfyProcess) -> None:
    asking = {name for name, node in comfy.object_info().items() if name.startswith("FaceExpr") and ASKS & inputs_of(node)}
    assert set(opened[0].evaluate(WITH_EDITOR)) == asking
    assert {"FaceExprExtractExpressionFeatures", "FaceExprExpressionSheet", "FaceExprScore"} < asking


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_a_browser_these_tests_are_skipped_but_where_ci_is_set_they_fail(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="make browser"):
        require_chromium()


def test_what_python_misses_is_said_in_the_page(opened: tuple[Page, list[str]], comfy: ComfyProcess) -> None:
    browser = opened[0].context.browser
    assert browser is not None
    page = browser.new_page()
    sentence = "mediapipe is missing (finding faces and reading expressions). Type: python -m pip install mediapipe"
    page.route("**/faceexpr/missing", lambda route: route.fulfill(json=[sentence]))
    page.goto(comfy.url, timeout=120_000)
    page.get_by_text(sentence).wait_for(timeout=120_000)
    page.close()
