"""Every template opened from the browser of templates and run by the page's button. Run by `make page-tests`.

Mini's run as they are, on a ComfyUI with nothing but this pack. SDXL's run with Mini as `sd_xl_base_1.0.safetensors`, with LoRAs and a
ControlNet of random weights, and with what a user sets. FACEEXPR_PAGE_TEMPLATES (names, with commas) chooses some of them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import comfyui_page
from comfy_process import REPOSITORY, ComfyProcess, comfyui, make_home
from mini_graphs import LORA_LOADERS
from PIL import Image
from playwright.sync_api import Page
from random_lora import write_lora
from template_browser import FIT, grown_out, open_template, press_run, troubles, without_picture
from workflow_api import WORKFLOWS

from faceexpr_core import mini

CHOSEN = list(filter(None, os.environ.get("FACEEXPR_PAGE_TEMPLATES", "").split(",")))
NAMES = [path.stem for path in sorted(WORKFLOWS.glob("*.json")) if not CHOSEN or path.stem in CHOSEN]
STAND_IN = Path(__file__).parent.parent / "comfy_nodes" / "faceexpr_sdxl_is_mini.py"
SHOWN = REPOSITORY / "build" / "page" / "templates"
OF_A_USER = {
    "FaceExprLoadSubjectImages": {"folder": "example: a rendered person", "resolution": mini.RESOLUTION, "framing": "whole picture"},
    "FaceExprTrainLoRA": {"steps": 20, "prior_images": 8},
}
"""What is set in SDXL's templates before they are run: a person's photos, and as long as it takes to see that training works."""
SET = """given => app.graph.nodes.filter(node => node.type in given).flatMap(node => node.widgets.map(widget => [given[node.type], widget]))
    .filter(([values, widget]) => widget.name in values).forEach(([values, widget]) => {
        widget.value = values[widget.name]
        widget.callback?.(widget.value)
    })"""


def kind(name: str) -> str:
    """The ComfyUI that a template needs."""
    return "sdxl" if "_sdxl" in name else "mini"


def put_files(comfy: ComfyProcess) -> None:
    """What SDXL's templates name, in this ComfyUI's folders."""
    for path in WORKFLOWS.glob("api/faceexpr_sdxl*.json"):
        for seed, node in enumerate(json.loads(path.read_text()).values()):
            if node["class_type"] in LORA_LOADERS:
                write_lora(comfy.lora_dir / node["inputs"]["lora_name"], seed=seed)
            elif node["class_type"] == "LoadImage":
                Image.open(mini.subject_path() / "photo_6.png").save(comfy.input_dir / node["inputs"]["image"])
            for kind, name in (("checkpoints", "ckpt_name"), ("controlnet", "control_net_name")):
                if name in node["inputs"]:
                    (comfy.home / "models" / kind).mkdir(exist_ok=True)
                    (comfy.home / "models" / kind / node["inputs"][name]).touch()


@pytest.fixture(scope="module")
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ComfyProcess, Page]]:
    home = make_home(tmp_path_factory.mktemp(request.param))
    if request.param == "sdxl":
        (home / "custom_nodes" / STAND_IN.name).symlink_to(STAND_IN)
    with comfyui(home) as comfy:
        if request.param == "sdxl":
            put_files(comfy)
        with comfyui_page(comfy) as (page, _):
            yield comfy, page


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("opened", "name"), [(kind(name), name) for name in NAMES], indirect=["opened"], ids=NAMES, scope="module")
def test_a_template_opens_without_trouble_and_the_button_draws_its_pictures(opened: tuple[ComfyProcess, Page], name: str) -> None:
    comfy, page = opened
    open_template(page, name)
    if kind(name) == "sdxl":
        page.evaluate(SET, OF_A_USER)
    assert troubles(page) == []
    start = time.monotonic()
    pictures = press_run(page, comfy)
    seconds = time.monotonic() - start
    assert troubles(page) == []
    page.evaluate(FIT)  # a node that lies outside the window has its picture only once it is drawn
    assert without_picture(page) == []
    assert grown_out(page) == []
    assert pictures and all(picture.std() > 5 for picture in pictures)
    page.wait_for_timeout(1500)
    SHOWN.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOWN / f"{name}.png", timeout=120_000)
    keep_figures(page, name, {"pictures": len(pictures), "seconds": round(seconds, 1)})


def keep_figures(page: Page, name: str, figures: dict[str, Any]) -> None:
    """Figures of a run, beside the pictures, by the page's version."""
    version = str(page.evaluate("globalThis.__COMFYUI_FRONTEND_VERSION__"))
    path = SHOWN / f"{version}.json"
    told = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**told, name: figures}, indent=2, sort_keys=True) + "\n")
