"""A headless Chromium with Playwright, for the tests of ComfyUI's page."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest
from comfy_process import ComfyProcess
from playwright.sync_api import Page, ViewportSize, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--no-sandbox",  # it needs kernel rights that containers lack; only ComfyUI on this machine is opened
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
# WebGL on the processor: there is no graphics card to count on. The page itself is put together without it, which is much faster.
SOFTWARE_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-compositing")
NO_WEBGL = ("--disable-gpu", "--disable-3d-apis")
WINDOW: ViewportSize = {"width": 1600, "height": 1000}
READY = "globalThis.app?.vueAppReady && app.graph?.nodes.length > 0 && 'FaceExprSampler' in LiteGraph.registered_node_types"


def find_chromium() -> str | None:
    """The browser's path: `CHROMIUM`, else the first of the usual names on PATH; None when there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def require_chromium() -> str:
    """The browser's path. Without one the test is skipped, but where CI is set it fails."""
    if path := find_chromium():
        return path
    missing = f"no Chromium: none of {', '.join(NAMES)} is on PATH and CHROMIUM is not set. `make browser` installs it on Debian, as root."
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@contextlib.contextmanager
def comfyui_page(comfy: ComfyProcess, options: tuple[str, ...] = SOFTWARE_WEBGL, scale: int = 1) -> Iterator[tuple[Page, list[str]]]:
    """ComfyUI's page with its default graph, at `scale` pixels a point, and the errors that it did not catch, added as they happen."""
    program = require_chromium()
    # the page's first visit would open the template browser over the graph; a test before may have left Nodes 2.0 on
    comfy.post("/settings", {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": False})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*OPTIONS, *options])
        page = browser.new_page(viewport=WINDOW, device_scale_factor=scale)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(comfy.url, timeout=120_000)
        page.wait_for_function(READY, timeout=120_000)
        yield page, errors
        browser.close()
