"""Cards of SDXL's templates for ComfyUI's browser of templates: what each asks for, on the editor's head. Part of `make page-pictures`.

A picture of SDXL would have to be drawn by the template's own graph, on a checkpoint; without a card the page asks for one and says on the
browser's console that there is none. Writes workflows/<name>.jpg. Needs Chromium.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from browser import comfyui_page
from comfy_process import comfyui
from editor import add_editor
from editor_heads import GROUND, head
from PIL import Image, ImageDraw, ImageFont
from workflow_api import WORKFLOWS

Values = dict[str, Any]  # what the editor is set to
WIDTH, TALLEST, LINE = 480, 240, 44
WORDS = (230, 230, 230)
SHEET = ("happy", "sad", "angry", "surprised", "fearful", "disgusted", "contempt", "shocked", "happily surprised", "sadly angry")
HAPPY: Values = {"expression": "happy"}


def _faces(*names: str) -> list[Values]:
    return [{"expression": name} for name in names]


CARDS: dict[str, tuple[str, list[list[Values]]]] = {
    "faceexpr_sdxl": ("a person from photos", [_faces("neutral", "happy", "surprised")]),
    "faceexpr_sdxl_best_of_four": ("the best of four", [[HAPPY | {"intensity": strength} for strength in (0.3, 0.5, 0.7, 1.0)]]),
    "faceexpr_sdxl_change": ("change of expression", [_faces("neutral", "happy")]),
    "faceexpr_sdxl_controlnet": ("with ControlNet", [_faces("neutral", "angry")]),
    "faceexpr_sdxl_few_steps": ("few steps", [_faces("happy", "angry")]),
    "faceexpr_sdxl_fusion_photo": ("from a photo", [_faces("happily surprised", "happily surprised")]),
    "faceexpr_sdxl_fusion_text": ("your LoRA, fusion", [_faces("neutral", "happy", "angry")]),
    "faceexpr_sdxl_intensity_and_blend": (
        "intensity and blend",
        [[HAPPY | {"intensity": 0.5}, HAPPY, HAPPY | {"second_expression": "surprised", "second_weight": 0.8}]],
    ),
    "faceexpr_sdxl_my_lora_frowns": ("my LoRA frowns", [_faces("sad", "neutral", "happy")]),
    "faceexpr_sdxl_sheet": ("a sheet", [_faces(*SHEET[:5]), _faces(*SHEET[5:])]),
    "faceexpr_sdxl_small_faces": ("small faces", [_faces(*["happy"] * 6)]),
    "faceexpr_sdxl_two_people": ("two people", [_faces("happy", "angry")]),
}
"""Template -> words and rows of faces."""


def main() -> None:
    with tempfile.TemporaryDirectory() as home, comfyui(Path(home)) as comfy, comfyui_page(comfy, scale=2) as (page, _):
        editor = add_editor(page, "nodes 2.0")
        for name, (words, rows) in CARDS.items():
            card(words, [[middle(head(editor, **values)) for values in row] for row in rows]).save(WORKFLOWS / f"{name}.jpg", quality=88)


def middle(picture: Image.Image) -> Image.Image:
    """The largest square in the middle of a picture."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def card(words: str, rows: list[list[Image.Image]]) -> Image.Image:
    """Rows of heads, WIDTH wide, over the line `SDXL: words`."""
    sides = [min(WIDTH // len(row), TALLEST) for row in rows]
    made = Image.new("RGB", (WIDTH, sum(sides) + LINE), GROUND)
    top = 0
    for row, side in zip(rows, sides, strict=True):
        for i, one in enumerate(row):
            made.paste(one.resize((side, side), Image.Resampling.LANCZOS), (i * side + (WIDTH - len(row) * side) // 2, top))
        top += side
    draw = ImageDraw.Draw(made)
    draw.rectangle((0, top, WIDTH, top + LINE), fill=(32, 32, 32))
    draw.text((WIDTH / 2, top + LINE / 2), f"SDXL: {words}", anchor="mm", font=ImageFont.load_default(30), fill=WORDS)
    return made


if __name__ == "__main__":
    main()
