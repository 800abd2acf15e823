"""A drawn picture as a PNG file that says how it was made, under a name that every disk takes."""

from __future__ import annotations

import io
import json
import os
import re
import unicodedata
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FaceExprError
from ..files import write_first_free
from ..provenance import DRAWN_BY_A_MODEL, say_drawn_by_a_model

if TYPE_CHECKING:
    from PIL import Image

METADATA_KEY = "faceexpr"
"""The PNG text chunk that holds a picture's settings as JSON."""


def require_folder(folder: Path) -> None:
    """Raise FaceExprError, before the work, for a folder that cannot be, or in which nothing may be written."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is None:  # a drive's letter, on Windows
        raise FaceExprError(f"pictures cannot be saved in {folder}: its drive is not there. Choose another --output_dir.")
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "nothing may be written there" if there.is_dir() else "it is no folder"
        raise FaceExprError(f"pictures cannot be saved in {folder}: {there}: {why}. Choose another --output_dir.")


def save_picture(picture: Image.Image, folder: Path, stem: str, settings: Mapping[str, Any] | None, source: str = DRAWN_BY_A_MODEL) -> Path:
    """Save as the first free `<stem>_00001.png` in `folder`; the file holds the settings as text, and that a model drew it (`source`).
    Without settings it holds neither.

    Raises FaceExprError if it cannot be written; nothing is left then.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if settings is not None:
        info.add_text(METADATA_KEY, json.dumps(settings))
        say_drawn_by_a_model(info, source)
    stream, name = io.BytesIO(), _for_files(stem)
    try:
        picture.save(stream, format="PNG", pnginfo=info)
        return write_first_free((folder / f"{name}_{number:05d}.png" for number in count(1)), stream.getvalue())
    except OSError as error:
        raise FaceExprError(
            f"the picture could not be saved in {folder}: {error}. Free some space or choose another --output_dir."
        ) from error


def _for_files(stem: str) -> str:
    """`stem` with nothing in it but letters, digits and marks of any language and `._-`: every disk takes these."""
    kept = (letter if letter in "._-" or unicodedata.category(letter)[0] in "LMN" else "/" for letter in stem)
    return re.sub("/+", "_", "".join(kept))
