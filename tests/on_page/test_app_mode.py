"""Templates in the app mode of a newer page: what a template names is asked for, and the button draws. Run by `make page-tests`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from browser import comfyui_page
from comfy_process import ComfyProcess
from editor import keep_picture
from playwright.sync_api import Page, expect
from template_browser import finished, open_template
from workflow_api import WORKFLOWS

NAMES = [path.stem for path in sorted(WORKFLOWS.glob("*.json"))]
DRAWN = "faceexpr_mini_expression"
HAS_APP_MODE = "app.extensionManager.command.commands.some(command => command.id === 'Comfy.ToggleLinear')"
TURN = "app.extensionManager.command.execute('Comfy.ToggleLinear')"
ITEMS = "[data-testid=app-mode-widget-item]"


@pytest.fixture(scope="module")
def page(comfy: ComfyProcess) -> Iterator[Page]:
    with comfyui_page(comfy) as (page, _):
        if not page.evaluate(HAS_APP_MODE):
            pytest.skip(f"page {page.evaluate('globalThis.__COMFYUI_FRONTEND_VERSION__')} has no app mode")
        yield page


def show_app(page: Page, name: str) -> None:
    open_template(page, name)
    page.evaluate(TURN)
    tour = page.get_by_role("button", name="Skip", exact=True)
    if not page.evaluate("globalThis.faceexprToured"):
        tour.dispatch_event("click", timeout=60_000)  # what it shows goes on moving
        page.evaluate("globalThis.faceexprToured = true")
    page.locator(ITEMS).first.wait_for(timeout=60_000)


@pytest.mark.parametrize("name", NAMES)
def test_app_mode_asks_for_what_the_template_names(page: Page, name: str) -> None:
    show_app(page, name)
    named = [f"{node}:{widget}" for node, widget in json.loads((WORKFLOWS / f"{name}.json").read_text())["extra"]["linearData"]["inputs"]]
    expect(page.locator(ITEMS)).to_have_count(len(named), timeout=60_000)
    keys = page.evaluate("items => [...document.querySelectorAll(items)].map(item => item.dataset.widgetKey)", ITEMS)
    assert [":".join(key.split(":")[-2:]) for key in keys] == named
    if name == "faceexpr_sdxl_change":
        keep_picture(page, f"app {name}")
    page.evaluate(TURN)


def test_app_mode_draws_the_expression_that_is_chosen_there(page: Page, comfy: ComfyProcess) -> None:
    show_app(page, DRAWN)
    page.evaluate("document.querySelectorAll('.p-toast-close-button').forEach(button => button.click())")  # ComfyUI's own, of versions
    page.get_by_role("combobox", name="expression", exact=True).click()
    page.get_by_role("option", name="surprised", exact=True).click()
    before = set(json.loads(comfy.get("/history")))
    page.get_by_test_id("linear-run-button").get_by_role("button", name="Run", exact=True).click()
    ended = finished(comfy, before, page, timeout=600)
    (words,) = (node["inputs"] for node in ended["prompt"][2].values() if node["class_type"] == "FaceExprExpressionTextEncode")
    assert words["expression"] == "surprised"
    (saved,) = (image for output in ended["outputs"].values() for image in output["images"])
    expect(page.locator(f"img[src*='{saved['filename']}']").first).to_be_visible(timeout=60_000)
    page.wait_for_timeout(1000)  # it fades in
    keep_picture(page, "app mode")
    page.evaluate(TURN)
