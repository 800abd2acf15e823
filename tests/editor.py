"""The expression editor in ComfyUI's page, for the tests: a node of its own on an empty canvas."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from comfy_process import REPOSITORY
from PIL import Image
from playwright.sync_api import Locator, Page

NAMES = ("expression", "intensity", "second_expression", "second_weight", "action_units")
NEUTRAL = {"expression": "neutral", "intensity": 1.0, "second_expression": "none", "second_weight": 0.5, "action_units": ""}
RENDERERS = {"canvas": False, "nodes 2.0": True}
ADD = """async nodes2 => {
    await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', nodes2)
    app.graph.clear()
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [260, 80]
    globalThis.node = LiteGraph.createNode('FaceExprExpressionTextEncode')
    node.pos = [100, 50]
    app.graph.add(node)
}"""
SET = """values => {
    for (const widget of node.widgets) {
        if (!(widget.name in values)) continue
        widget.value = values[widget.name]
        widget.callback?.(widget.value)
    }
}"""
LINK = """name => {
    const source = LiteGraph.createNode('PrimitiveNode')
    source.title = `source of ${name}`
    source.pos = [-400, 100]
    app.graph.add(source)
    source.connect(0, node, node.inputs.findIndex(input => input.name === name))
}"""
UNLINK = """name => {
    node.disconnectInput(node.inputs.findIndex(input => input.name === name))
    app.graph.remove(app.graph.nodes.find(node => node.title === `source of ${name}`))
}"""
EDITOR = "node.widgets.find(widget => widget.name === 'expression_editor').editor"
SETTLE = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@dataclass(frozen=True)
class Editor:
    page: Page
    root: Locator

    def values(self) -> dict[str, Any]:
        """What the node's own widgets hold."""
        found = self.page.evaluate("Object.fromEntries(node.widgets.map(widget => [widget.name, widget.value]))")
        return {name: found[name] for name in NAMES}

    def set(self, **values: Any) -> None:
        """Set the widgets as a hand on them would; those not named go back to a neutral face."""
        self.page.evaluate(SET, NEUTRAL | values)

    def blendshapes(self) -> dict[str, float]:
        return {shape: weight for shape, weight in self.page.evaluate(f"{EDITOR}.blendshapes()").items() if weight}

    def button(self, name: str) -> Locator:
        return self.root.get_by_role("button", name=name, exact=True)

    def face(self, name: str) -> Locator:
        return self.root.get_by_role("radio", name=name, exact=True)

    def open(self, panel: str) -> None:
        self.root.get_by_role("tab", name=panel).click()

    def slider(self, name: str) -> Locator:
        return self.root.get_by_role("slider", name=name, exact=True)

    def words(self) -> str:
        return self.root.locator(".fx-words").inner_text()

    def note(self) -> Locator:
        """What says which values come by a link."""
        return self.root.locator(".fx-linked")

    @contextmanager
    def linked(self, name: str) -> Iterator[None]:
        """While another node's output is linked to the input of this name."""
        self.page.evaluate(LINK, name)
        try:
            yield
        finally:
            self.page.evaluate(UNLINK, name)

    def head(self) -> np.ndarray:
        """The head as it is drawn: float [H, W, 4] in 0..255."""
        self.page.evaluate(SETTLE)
        address = str(self.page.evaluate("document.querySelector('.fx-head').toDataURL()"))
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGBA"), float)

    def pull(self, x: float, y: float, right: float, down: float) -> None:
        """Drag on the head from a place to a distance, all in fractions of its height."""
        box = self.root.locator(".fx-head").bounding_box()
        assert box is not None
        start = (box["x"] + box["width"] / 2 + x * box["height"], box["y"] + y * box["height"])
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(start[0] + right * box["height"], start[1] + down * box["height"], steps=4)
        self.page.mouse.up()


def add_editor(page: Page, renderer: str, *, faces: bool = True) -> Editor:
    """An Expression Text Encode alone on the canvas, with its editor ready and, where the page can draw them, its faces drawn."""
    page.evaluate(ADD, RENDERERS[renderer])
    page.wait_for_function(EDITOR, timeout=60_000)
    editor = Editor(page, page.locator(".fx-editor"))
    editor.root.wait_for()
    if faces:
        page.wait_for_function("[...document.querySelectorAll('.fx-face img')].every(face => face.src)", timeout=60_000)
    return editor


def keep_picture(page: Page, name: str) -> None:
    """What the page shows, as an artefact for people: build/page/<name>.png."""
    folder = Path(REPOSITORY / "build" / "page")
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")
