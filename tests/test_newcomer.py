"""A newcomer's path in ComfyUI's page: from opening it to a picture with an expression set on the head."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from browser import READY, comfyui_page
from comfy_process import REPOSITORY, ComfyProcess
from editor import keep_picture
from PIL import Image

pytestmark = pytest.mark.long

PICTURES = "faceexpr/expression_*.png"
DRAWN = "app.graph.nodes.find(node => node.type === 'SaveImage')?.imgs?.length"


def test_five_clicks_and_no_typing_from_the_page_to_an_expression(comfy: ComfyProcess) -> None:
    before = {*comfy.output_dir.glob(PICTURES)}
    with comfyui_page(comfy) as (page, errors):
        page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
        start = time.monotonic()
        page.reload()
        page.wait_for_function(READY, timeout=120_000)
        ready = time.monotonic() - start
        clicks = [
            page.get_by_role("button", name="Templates"),
            page.get_by_role("dialog").get_by_text("faceexpr", exact=True),
            page.get_by_role("dialog").get_by_text("faceexpr_mini_expression"),
            page.locator(".fx-face", has_text="surprised").first,
            page.get_by_role("button", name="Run").first,
        ]
        for thing in clicks:
            thing.first.click(timeout=60_000)
        page.wait_for_function(DRAWN, timeout=300_000)
        took = time.monotonic() - start
        page.wait_for_timeout(500)  # the picture fades in
        keep_picture(page, "newcomer")
        # a time is told, not asserted
        figures = {"clicks": len(clicks), "page_seconds": round(ready, 1), "picture_seconds": round(took, 1)}
        Path(REPOSITORY / "build" / "page" / "newcomer.json").write_text(json.dumps(figures) + "\n")
        expression = page.evaluate("app.graph.nodes.find(node => node.type === 'FaceExprExpressionTextEncode').widgets[1].value")
        assert expression == "surprised"
        (picture,) = {*comfy.output_dir.glob(PICTURES)} - before
        assert np.asarray(Image.open(io.BytesIO(picture.read_bytes()))).std() > 20
        assert errors == []
