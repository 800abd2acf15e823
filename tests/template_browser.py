"""Templates opened from ComfyUI's browser of templates and run by the page's button, for the tests."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from comfy_process import ComfyProcess
from PIL import Image
from playwright.sync_api import Locator, Page
from workflow_api import WORKFLOWS

SHOWING = ("SaveImage", "PreviewImage")
TYPES = "() => JSON.stringify(app.graph.nodes.map(node => node.type).sort())"
ACTIVE = "name => app.extensionManager.workflow.activeWorkflow?.filename?.startsWith(name)"
TROUBLES = """() => {
    const visible = found => found.checkVisibility?.() ?? true
    const words = selector => [...document.querySelectorAll(selector)].filter(visible).map(found => found.innerText.slice(0, 300))
    return [
        ...app.graph.nodes.filter(node => !(node.type in LiteGraph.registered_node_types)).map(node => `unknown: ${node.type}`),
        ...app.graph.nodes.filter(node => node.has_errors).map(node => `red: ${node.type}`),
        ...Object.values(app.lastNodeErrors ?? {}).flatMap(told => told.errors).map(told => `refused: ${told.message}: ${told.details}`),
        ...(app.lastExecutionError ? [`failed: ${app.lastExecutionError.exception_message}`] : []),
        ...words('[role=dialog], [data-testid=error-overlay], .p-toast-message-error'),
    ]
}"""
LACKING = """([showing]) => app.graph.nodes.filter(node => showing.includes(node.type))
    .filter(node => !node.imgs?.length || node.imgs.some(picture => !picture.naturalWidth)).map(node => node.title)"""
GROWN = """() => app.graph.nodes.filter(node => {
    const [[left, top], [width, height]] = [node.pos, node.size]
    const over = (x, y, farther, lower) => left < farther && left + width > x && top < lower && top + height > y
    const others = app.graph.nodes.filter(other => other !== node && other.pos[1] > top)
    return others.some(({ pos: [x, y], size: [w, h] }) => over(x, y - 30, x + w, y + h))
        || app.graph.groups.some(({ pos: [x, y], size: [w, h] }) =>
            over(x, y, x + w, y + h) && (left < x || top < y || left + width > x + w || top + height > y + h))
}).map(node => [node.title, node.size[1]])"""
FIT = """() => {
    const boxes = app.graph.nodes.map(node => [node.pos[0], node.pos[1] - 30, node.pos[0] + node.size[0], node.pos[1] + node.size[1]])
    const [left, top] = [0, 1].map(side => Math.min(...boxes.map(box => box[side])))
    const [right, bottom] = [2, 3].map(side => Math.max(...boxes.map(box => box[side])))
    const { clientWidth: width, clientHeight: height } = app.canvas.canvas
    app.canvas.ds.scale = Math.min((width - 160) / (right - left), (height - 140) / (bottom - top))
    app.canvas.ds.offset = [110 / app.canvas.ds.scale - left, 90 / app.canvas.ds.scale - top]
    app.canvas.setDirty(true, true)
}"""

REST = """() => {
    app.canvas.pause_rendering = true
    const style = document.createElement('style')
    style.id = 'faceexpr-rest'
    style.textContent = '*, ::before, ::after { animation-play-state: paused !important }'
    document.head.append(style)
}"""
WAKE = "() => { app.canvas.pause_rendering = false; document.getElementById('faceexpr-rest').remove(); app.canvas.setDirty(true, true) }"


def open_template(page: Page, name: str) -> None:
    """Open a template as a user does: the button, this pack's entry, the card."""
    list_templates(page)
    choose_template(page, name)


def list_templates(page: Page) -> Locator:
    """Open the browser of templates at this pack's."""
    page.get_by_role("button", name="Templates").first.click(timeout=120_000)
    browser = page.get_by_role("dialog")
    browser.get_by_text("faceexpr", exact=True).first.click(timeout=120_000)
    return browser


def choose_template(page: Page, name: str) -> None:
    """Click the card of a template that is listed, and wait until it is open."""
    nodes = json.loads((WORKFLOWS / f"{name}.json").read_text())["nodes"]
    types = json.dumps(sorted(node["type"] for node in nodes), separators=(",", ":"))
    page.evaluate("app.graph.clear()")
    browser = page.get_by_role("dialog")
    browser.get_by_text(name, exact=True).first.click(timeout=120_000)
    page.wait_for_function(f"expected => ({TYPES})() === expected", arg=types, timeout=120_000)
    page.wait_for_function(ACTIVE, arg=name, timeout=120_000)
    browser.first.wait_for(state="hidden", timeout=120_000)


def troubles(page: Page) -> list[str]:
    """What the page shows as missing, red, refused or failed; dialogs and errors that lie over the graph too."""
    return list(page.evaluate(TROUBLES))


@contextlib.contextmanager
def at_rest(page: Page) -> Iterator[None]:
    """The page draws nothing meanwhile: what it shows of a running node goes on moving, which takes as much of the processor as the run."""
    page.evaluate(REST)
    try:
        yield
    finally:
        page.evaluate(WAKE)


def press_run(page: Page, comfy: ComfyProcess, timeout: float = 3000) -> list[np.ndarray]:
    """Press Run and wait until nothing is queued: the pictures that were made, float [H, W, 3] in 0..255."""
    before = set(json.loads(comfy.get("/history")))
    page.get_by_role("button", name="Run").first.click(timeout=120_000)
    with at_rest(page):
        ended = finished(comfy, before, page, timeout)
    shown = [image for output in ended["outputs"].values() for image in output.get("images", [])]
    return [np.asarray(Image.open(io.BytesIO(comfy.view(image))).convert("RGB"), float) for image in shown]


def finished(comfy: ComfyProcess, before: set[str], page: Page, timeout: float) -> dict[str, Any]:
    """ComfyUI's record of the run that was not there `before`, once it has ended."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        page.wait_for_timeout(500)
        history = json.loads(comfy.get("/history"))
        if new := set(history) - before:
            return dict(history[new.pop()])
        if told := troubles(page):
            raise AssertionError(told)
    raise TimeoutError(f"the run did not end within {timeout:.0f} s")


def grown_out(page: Page) -> list[list[Any]]:
    """Titles and heights of nodes that reach out of their group, or over the node below: too little room for what they show after a run."""
    return list(page.evaluate(GROWN))


def without_picture(page: Page, wait: float = 60) -> list[str]:
    """Titles of nodes that should show a picture and do not, after a while of waiting."""
    deadline = time.monotonic() + wait
    while (lacking := list(page.evaluate(LACKING, [SHOWING]))) and time.monotonic() < deadline:
        page.wait_for_timeout(500)
    return lacking
