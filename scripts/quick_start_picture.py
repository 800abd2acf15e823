"""The quick start in ComfyUI's own page after a run, for the documents: docs/images/quick_start.png. A part of `make page-pictures`.

It trains as the template does, some minutes on two cores. Needs Chromium.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from browser import READY, comfyui_page
from comfy_process import REPOSITORY, ComfyProcess, comfyui, copy_subject
from PIL import Image
from playwright.sync_api import Page, ViewportSize
from workflow_api import WORKFLOWS

PICTURE = REPOSITORY / "docs" / "images" / "quick_start.png"
WINDOW: ViewportSize = {"width": 1600, "height": 1280}
SCALE, CORNER = 0.62, (136, 233)
"""Of the canvas, so that the graph fills the window beside ComfyUI's bars."""
MINUTES = 60
PLAIN = {"Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False, "Comfy.Workflow.WorkflowTabsPosition": "Sidebar"}
"""The page's settings, by which nothing lies over the graph."""

OPEN = """async ([workflow, scale, offset]) => {
    await app.loadGraphData(workflow, true, true, 'faceexpr_mini_quick_start')
    Object.assign(app.canvas.ds, {scale, offset})
    app.canvas.setDirty(true, true)
}"""


def main() -> None:
    workflow = json.loads((WORKFLOWS / "faceexpr_mini_quick_start.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as home, comfyui(Path(home)) as comfy:
        copy_subject(comfy.input_dir)
        comfy.post("/settings", PLAIN)
        with comfyui_page(comfy) as (page, errors):
            show(page, workflow)
            page.evaluate("app.queuePrompt(0)")
            page.evaluate("app.canvas.pause_rendering = true")  # the training needs the processor
            wait_for_the_run(comfy, page)
            Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(PICTURE, optimize=True)
            if errors:
                raise SystemExit(f"the page reported: {errors}")


def show(page: Page, workflow: dict[str, Any]) -> None:
    """The workflow on the canvas, with nothing of the page's own over it."""
    page.set_viewport_size(WINDOW)
    page.evaluate("localStorage.setItem('vueNodesBannerDismissed', 'true')")
    page.reload()
    page.wait_for_function(READY, timeout=120_000)
    page.evaluate(OPEN, [workflow, SCALE, CORNER])


def wait_for_the_run(comfy: ComfyProcess, page: Page) -> None:
    """Until the history has it, and the page its pictures. Raises SystemExit where the run failed."""
    until = time.monotonic() + 60 * MINUTES
    while not (history := json.loads(comfy.get("/history"))):
        if time.monotonic() > until:
            raise SystemExit(f"the run took more than {MINUTES} minutes")
        page.wait_for_timeout(1000)
    (run,) = history.values()
    if run["status"]["status_str"] != "success":
        raise SystemExit(f"the run failed: {run['status']['messages']}")
    page.evaluate("app.canvas.pause_rendering = false; app.canvas.setDirty(true, true)")  # a node loads its pictures when it is drawn
    page.wait_for_function("app.graph.nodes.filter(node => node.type === 'SaveImage').every(node => node.imgs?.length)", timeout=120_000)
    page.wait_for_timeout(5000)


if __name__ == "__main__":
    main()
