"""A node that shows pictures while it works is as tall after a run as its user had it. Run by `make page-tests`."""

from __future__ import annotations

from pathlib import Path

from browser import comfyui_page
from comfy_process import comfyui, make_home
from template_browser import FIT, open_template, press_run

NODE = "app.graph.nodes.find(node => node.type === 'FaceExprChangeExpression')"
TALL = 1300


def test_a_node_keeps_the_height_that_its_user_gave_it_between_two_runs(tmp_path: Path) -> None:
    with comfyui(make_home(tmp_path)) as comfy, comfyui_page(comfy) as (page, _):
        open_template(page, "faceexpr_mini_change")
        heights = []
        for strength, height in ((1.0, None), (0.0, None), (1.5, TALL)):  # at 0 there is nothing to show
            page.evaluate(f"value => {{ {NODE}.widgets.find(widget => widget.name === 'strength').value = value }}", strength)
            if height:
                page.evaluate(f"height => {NODE}.setSize([{NODE}.size[0], height])", height)
            assert len(press_run(page, comfy)) == 3
            page.evaluate(FIT)
            page.wait_for_timeout(2000)
            heights.append(page.evaluate(f"{NODE}.size[1]"))
            assert not page.evaluate(f"{NODE}.widgets.some(widget => widget.name === '$$canvas-image-preview')")
    assert heights[0] == heights[1] < 1000 and heights[2] == TALL
