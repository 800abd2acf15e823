"""Files of a benchmark: their names, JSON written whole, and the code that they are of."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from faceexpr_core.files import replace_file
from faceexpr_core.measure.judges import measured_by


def measures_name() -> str:
    """A folder's name for what is measured as it is today."""
    return hashlib.sha256(json.dumps(measured_by()).encode()).hexdigest()[:8]


def commit() -> str:
    """The commit of the code, marked `-dirty` where it was changed since; "" outside a repository."""
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def write_json(path: Path, value: Any) -> None:
    """A JSON file, whole or not at all. Raises OSError."""
    replace_file(path, (json.dumps(value, indent=1) + "\n").encode())


def file_name(words: str) -> str:
    """Words as a file's name; different words may share one only if they differ in punctuation alone."""
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", words)
