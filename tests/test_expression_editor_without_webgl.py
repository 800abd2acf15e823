"""The expression editor where the browser cannot draw the head. A file of its own: Playwright runs one browser session at a time."""

import pytest
from browser import NO_WEBGL, comfyui_page
from comfy_process import ComfyProcess
from editor import NEUTRAL, add_editor
from playwright.sync_api import expect

pytestmark = pytest.mark.long


def test_without_webgl_it_says_so_and_the_controls_work(comfy: ComfyProcess) -> None:
    with comfyui_page(comfy, NO_WEBGL) as (page, errors):
        editor = add_editor(page, "canvas", faces=False)
        expect(editor.root.get_by_role("alert")).to_contain_text("no WebGL")
        editor.set()
        editor.face("sad").click()
        editor.slider("intensity").fill("1.2")
        assert editor.values() == NEUTRAL | {"expression": "sad", "intensity": 1.2}
        assert errors == []
