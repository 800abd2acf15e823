"""Widgets that count for nothing beside what is connected are hidden in ComfyUI's own page, in both renderers, and keep their values."""

from __future__ import annotations

from typing import Any

import pytest
from editor import RENDERERS, keep_picture
from playwright.sync_api import Page

HIDDEN_AT_FIRST = {
    "FaceExprExtractExpressionFeatures": {"photo_neutral", "window_low", "window_high", "tokens", "levels"},
    "FaceExprSampler": {"expression_scale", "fusion_strength", "refine_below", "refine_denoise", "fusion_text"},
    "FaceExprExpressionSheet": {"fusion_strength"},
}
OF_A_PHOTO = {"window_low", "window_high", "tokens", "levels"}
ADD = """async ([type, nodes2]) => {
    await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', nodes2)
    for (const other of [...app.graph.nodes]) app.graph.remove(other) // clear() would have newer pages give their values to the next
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [400, 80]
    globalThis.node = LiteGraph.createNode(type)
    node.showAdvanced = true // newer pages hide those
    app.graph.add(node)
}"""
CONNECT = """([type, name, output = 0]) => {
    const source = LiteGraph.createNode(type)
    source.pos = [-380, 40]
    app.graph.add(source)
    source.connect(output, node, node.inputs.findIndex(input => input.name === name))
}"""
CUT = "name => node.disconnectInput(node.inputs.findIndex(input => input.name === name))"
SET = """([name, value]) => {
    const widget = node.widgets.find(widget => widget.name === name)
    widget.value = value
    widget.callback?.(value)
}"""
HIDDEN = "(node.widgets ?? []).filter(widget => widget.hidden).map(widget => widget.name)"
SEEN = """() => {
    const lines = document.querySelector(`[data-node-id="${node.id}"]`)?.innerText.split('\\n').map(line => line.trim()) ?? []
    return node.widgets.filter(widget => lines.includes(widget.label || widget.name)).map(widget => widget.name)
}"""
SETTLE = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(params=RENDERERS)
def renderer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def add(page: Page, kind: str, renderer: str) -> None:
    page.evaluate(ADD, [kind, RENDERERS[renderer]])
    page.evaluate(SETTLE)


def hidden(page: Page, renderer: str) -> set[str]:
    """The widgets that are hidden. Those that Nodes 2.0 shows are the others."""
    found = set(page.evaluate(HIDDEN))
    if RENDERERS[renderer]:
        page.wait_for_function(f"found => {{ const seen = ({SEEN})(); return !seen.some(name => found.includes(name)) }}", arg=list(found))
        names = set(page.evaluate("node.widgets.map(widget => widget.name)"))
        page.wait_for_function(
            f"wanted => {{ const seen = ({SEEN})(); return wanted.every(name => seen.includes(name)) }}",
            arg=sorted(names - found - {"control_after_generate", "prompt", "expressions", "expression_editor"}),
        )
    return found


def height(page: Page) -> float:
    page.evaluate(SETTLE)
    return float(page.evaluate("node.size[1]"))


def inputs(page: Page) -> dict[str, Any]:
    return dict(page.evaluate("async () => (await app.graphToPrompt()).output[String(node.id)].inputs"))


def test_a_new_node_shows_what_counts_for_it(opened: tuple[Page, list[str]], renderer: str) -> None:
    page = opened[0]
    kinds = page.evaluate("Object.keys(LiteGraph.registered_node_types).filter(type => type.startsWith('FaceExpr'))")
    assert set(kinds) > set(HIDDEN_AT_FIRST)
    for kind in kinds if renderer == "canvas" else HIDDEN_AT_FIRST:
        add(page, kind, renderer)
        assert hidden(page, renderer) == HIDDEN_AT_FIRST.get(kind, set()), kind


def test_extract_asks_for_words_or_for_a_photo_by_what_is_connected(opened: tuple[Page, list[str]], renderer: str) -> None:
    page = opened[0]
    add(page, "FaceExprExtractExpressionFeatures", renderer)
    words = height(page)
    page.evaluate(CONNECT, ["LoadImage", "photo"])
    assert hidden(page, renderer) == set()
    assert height(page) > words
    keep_picture(page, f"extract from a photo {renderer}")
    page.evaluate(CONNECT, ["LoadImage", "neutral_photo"])
    assert hidden(page, renderer) == {"photo_neutral"}
    for name in ("photo", "neutral_photo"):
        page.evaluate(CUT, name)
    assert hidden(page, renderer) == {"photo_neutral"} | OF_A_PHOTO
    page.evaluate(SET, ["site", "cross_attention"])
    assert hidden(page, renderer) == {"photo_neutral"}
    page.evaluate(SET, ["site", "default"])
    assert hidden(page, renderer) == {"photo_neutral"} | OF_A_PHOTO
    if renderer == "canvas":
        assert height(page) == words
    keep_picture(page, f"extract from words {renderer}")


def test_the_sampler_shows_the_settings_of_what_is_connected(opened: tuple[Page, list[str]], renderer: str) -> None:
    page = opened[0]
    add(page, "FaceExprSampler", renderer)
    page.evaluate(CONNECT, ["FaceExprLoadMini", "base_model"])
    assert hidden(page, renderer) == {"expression_scale", "refine_below", "refine_denoise", "fusion_text"}
    page.evaluate(CONNECT, ["CLIPTextEncode", "neutral"])
    assert hidden(page, renderer) == {"refine_below", "refine_denoise"}
    page.evaluate(CONNECT, ["FaceExprLoadMini", "vae", 2])
    assert hidden(page, renderer) == {"refine_denoise"}
    page.evaluate(SET, ["refine_below", 0.25])
    assert hidden(page, renderer) == set()


def test_hidden_widgets_are_saved_and_queued_with_their_values_and_a_link_shows_them(opened: tuple[Page, list[str]], renderer: str) -> None:
    page = opened[0]
    add(page, "FaceExprExtractExpressionFeatures", renderer)
    page.evaluate(SET, ["window_low", 0.3])
    page.evaluate(SET, ["photo_neutral", "none"])
    assert {"window_low", "photo_neutral"} <= hidden(page, renderer)
    queued = inputs(page)
    assert (queued["window_low"], queued["photo_neutral"]) == (0.3, "none")
    widgets = page.evaluate("node.widgets.filter(widget => widget.serialize !== false).map(widget => [widget.name, widget.value])")
    assert page.evaluate("node.serialize().widgets_values") == [value for _, value in widgets]
    page.evaluate("async () => { await app.loadGraphData(app.graph.serialize()); globalThis.node = app.graph.nodes[0] }")
    assert hidden(page, renderer) == {"photo_neutral"} | OF_A_PHOTO
    assert inputs(page) == queued
    page.evaluate(CONNECT, ["PrimitiveFloat", "window_low"])
    assert hidden(page, renderer) == {"photo_neutral"} | OF_A_PHOTO - {"window_low"}
