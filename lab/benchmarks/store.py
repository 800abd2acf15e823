"""Files of a benchmark: written whole, and lines that survive a killed run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceexpr_core.errors import FaceExprError

Picture = NDArray[np.uint8]


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path`, in the place of what was there; never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def write_json(path: Path, value: Any) -> None:
    write_whole(path, (json.dumps(value, indent=1) + "\n").encode())


def keep_meaning(path: Path, given: Mapping[str, Any]) -> None:
    """Keep in a JSON file what each name of `given` stands for. Raises FaceExprError where one stood for something else before."""
    known = json.loads(path.read_text()) if path.exists() else {}
    plain = json.loads(json.dumps(dict(given)))
    if changed := [name for name in plain if known.get(name, plain[name]) != plain[name]]:
        raise FaceExprError(
            f"{path.parent} holds pictures for which '{changed[0]}' was {known[changed[0]]}, now it is {plain[changed[0]]}; "
            "give another --output_dir."
        )
    write_json(path, known | plain)


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


class Lines:
    """A file of JSON lines to add to. A line that a killed run left unfinished is cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            write_whole(path, whole)
        self.values: list[dict[str, Any]] = [json.loads(line) for line in whole.decode().splitlines()]

    def add(self, value: Mapping[str, Any]) -> None:
        """Append one value, on the disk before this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(value)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.values.append(dict(value))


def read_all(folder: Path) -> list[dict[str, Any]]:
    """The values of every file of JSON lines in a folder, by name; unfinished last lines are left out."""
    values = []
    for path in sorted(folder.glob("*.jsonl")):
        content = path.read_bytes()
        values += [json.loads(line) for line in content[: content.rfind(b"\n") + 1].decode().splitlines()]
    return values
