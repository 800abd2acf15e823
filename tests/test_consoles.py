"""A template opened and run by the button: neither console, the browser's or ComfyUI's, has a line of ours that its user does not need."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser import READY, comfyui_page
from browser_console import Told, listen
from comfy_process import ComfyProcess
from playwright.sync_api import Locator
from template_browser import choose_template, list_templates, press_run, without_picture
from workflow_api import WORKFLOWS

pytestmark = pytest.mark.long

TEMPLATE = "faceexpr_mini_change"  # finds faces, fuses, and has the expression editor
LINKED = """() => {
    const node = app.graph.nodes.find(node => node.type === 'FaceExprChangeExpression')
    const source = LiteGraph.createNode('PrimitiveFloat')
    app.graph.add(source)
    source.connect(0, node, node.inputs.findIndex(input => input.name === 'intensity'))
    app.graph.remove(source)
}"""
COMFYUIS = re.compile(
    r"|got prompt|model weight dtype .*|model_type .*|Using .* attention in VAE|VAE load device: .*|CLIP/text encoder model load device: .*"
    r"|Requested to load .*|loaded (completely|partially).*|Prompt executed in .*|.*\d+%\|.*\|.*|.*0it \[.*"
)
"""Lines that ComfyUI itself has for any graph."""


@pytest.fixture(scope="module")
def heard(comfy: ComfyProcess) -> Iterator[tuple[list[Told], list[str]]]:
    """What the browser's console and ComfyUI's were told, from opening the page to a picture."""
    with comfyui_page(comfy) as (page, _):
        told = listen(page)
        page.reload()
        page.wait_for_function(READY, timeout=120_000)
        show_each_card(list_templates(page))
        choose_template(page, TEMPLATE)
        page.locator(".fx-face", has_text="surprised").first.click(timeout=60_000)
        page.evaluate(LINKED)
        start = len(comfy.log())
        assert len(press_run(page, comfy, timeout=500)) == 3
        assert without_picture(page) == []
        yield told, re.sub(r"\x1b\[[0-9;]*m", "", comfy.log()[start:]).replace("\r", "\n").splitlines()


def show_each_card(browser: Locator) -> None:
    """Scroll by the cards of the browser of templates, so that the page asks for the picture of each."""
    for path in sorted(WORKFLOWS.glob("*.json")):
        browser.get_by_text(path.stem, exact=True).first.scroll_into_view_if_needed(timeout=120_000)
        browser.page.wait_for_timeout(100)


def test_the_browsers_console_has_nothing_of_this_pack(heard: tuple[list[Told], list[str]]) -> None:
    told, _ = heard
    assert told  # the page itself asks for files of the user's that are not there
    assert [one for one in told if one.ours] == []


def test_comfyuis_console_has_only_its_own_lines(heard: tuple[list[Told], list[str]]) -> None:
    _, lines = heard
    assert any("Prompt executed" in line for line in lines)
    assert [line for line in lines if not COMFYUIS.fullmatch(line.removeprefix("[INFO] ").strip())] == []
