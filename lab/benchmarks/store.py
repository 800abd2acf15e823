"""Files of a benchmark: written whole, and lines that survive a killed run (those of `faceexpr evaluate`)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceexpr_core.evaluation.records import Lines, keep_meaning, read_all
from faceexpr_core.measure.judges import measured_by

__all__ = [
    "Lines",
    "Picture",
    "file_name",
    "keep_meaning",
    "measures_name",
    "read_all",
    "read_picture",
    "write_json",
    "write_picture",
    "write_whole",
]

Picture = NDArray[np.uint8]


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path`, in the place of what was there; never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def measures_name() -> str:
    """A folder's name for what is measured as it is today."""
    return hashlib.sha256(json.dumps(measured_by()).encode()).hexdigest()[:8]


def write_json(path: Path, value: Any) -> None:
    write_whole(path, (json.dumps(value, indent=1) + "\n").encode())


def write_picture(path: Path, picture: Picture) -> None:
    """A PNG file."""
    import io

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    write_whole(path, stream.getvalue())


def read_picture(path: Path) -> Picture:
    """uint8 [H, W, 3]."""
    with Image.open(path) as opened:
        return np.array(opened.convert("RGB"))


def file_name(words: str) -> str:
    """Words as a file's name; different words may share one only if they differ in punctuation alone."""
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", words)
