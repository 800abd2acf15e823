"""Pictures of the expression editor for the documents, from ComfyUI's own page: `make page-pictures`.

Writes editor.jpg, icon.png and banner.jpg into docs/images, editor.jpg into web/docs, and the thumbnail of the template. Needs Chromium.
"""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

from browser import comfyui_page
from comfy_process import REPOSITORY, ComfyProcess, comfyui
from editor import add_editor
from editor_heads import GROUND, head
from PIL import Image, ImageDraw, ImageFont
from workflow_api import WORKFLOWS

IMAGES = REPOSITORY / "docs" / "images"
THUMBNAIL = ("happy", "surprised", "angry")
BANNER = ("sad", "surprised", "happy", "disgusted", "shocked")
TEMPLATE = "faceexpr_mini_expression"


def main() -> None:
    with tempfile.TemporaryDirectory() as home, comfyui(Path(home)) as comfy:
        drawn = {name: _drawn(comfy, name) for name in THUMBNAIL}
        with comfyui_page(comfy, scale=2) as (page, _):
            editor = add_editor(page, "nodes 2.0")
            heads = {name: head(editor, expression=name) for name in dict.fromkeys((*THUMBNAIL, *BANNER))}
            editor.set(expression="happy", intensity=0.85, second_expression="surprised", second_weight=0.45, action_units="L2")
            editor.head()
            node = page.locator("[data-node-id]").first.screenshot()
    picture = Image.open(io.BytesIO(node)).convert("RGB")
    picture.thumbnail((1100, 1600), Image.Resampling.LANCZOS)
    picture.save(IMAGES / "editor.jpg", quality=86)
    picture.save(REPOSITORY / "web" / "docs" / "editor.jpg", quality=80)
    heads["happy"].resize((400, 400), Image.Resampling.LANCZOS).save(IMAGES / "icon.png", optimize=True)
    _row([heads[name] for name in BANNER], 420).crop((0, 0, 2100, 420)).resize((1260, 252)).save(IMAGES / "banner.jpg", quality=88)
    _thumbnail(heads, drawn).save(WORKFLOWS / f"{TEMPLATE}.jpg", quality=88)


def _drawn(comfy: ComfyProcess, expression: str) -> Image.Image:
    """What the template's own graph draws."""
    graph = json.loads((WORKFLOWS / "api" / f"{TEMPLATE}.json").read_text())
    (number,) = (key for key, node in graph.items() if node["class_type"] == "FaceExprExpressionTextEncode")
    graph[number]["inputs"]["expression"] = expression
    (shown,) = comfy.run(graph).values()
    return Image.open(io.BytesIO(comfy.view(shown["images"][0]))).convert("RGB")


def _row(pictures: list[Image.Image], side: int) -> Image.Image:
    row = Image.new("RGB", (side * len(pictures), side), GROUND)
    for i, picture in enumerate(pictures):
        row.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (i * side, 0))
    return row


def _thumbnail(heads: dict[str, Image.Image], drawn: dict[str, Image.Image]) -> Image.Image:
    side, line = 150, 22
    sheet = Image.new("RGB", (side * len(drawn), 2 * side + line), (32, 32, 32))
    sheet.paste(_row([heads[name] for name in drawn], side), (0, 0))
    sheet.paste(_row(list(drawn.values()), side), (0, side))
    for i, name in enumerate(drawn):
        place = (i * side + side / 2, 2 * side + line / 2)
        ImageDraw.Draw(sheet).text(place, name, anchor="mm", font=ImageFont.load_default(13), fill=(230, 230, 230))
    return sheet


if __name__ == "__main__":
    main()
