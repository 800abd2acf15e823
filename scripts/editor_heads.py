"""The head as the expression editor draws it, for the documents' pictures. Needs Chromium."""

from __future__ import annotations

from typing import Any

from editor import Editor
from PIL import Image

GROUND = (54, 54, 60)


def head(editor: Editor, **values: Any) -> Image.Image:
    """The head with the editor set to `values` (`Editor.set`), RGB on GROUND."""
    editor.set(**values)
    drawn = Image.fromarray(editor.head().astype("uint8"), "RGBA")
    ground = Image.new("RGBA", drawn.size, (*GROUND, 255))
    ground.alpha_composite(drawn)
    return ground.convert("RGB")
