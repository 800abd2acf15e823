"""What evaluations, data sets and the lab keep on the disk: lines that survive a killed run, and what names in them stand for."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import FaceExprError
from ..files import name_bytes, replace_file

Record = Mapping[str, Any]
_UNSAID = "not said"


class Lines:
    """A file of JSON lines to add to, by one process at a time. A line that a killed run left unfinished is cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            replace_file(path, whole)
        self.values: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def add(self, value: Record) -> None:
        """Append one value, on the disk before this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(value)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.values.append(dict(value))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The values of a file of JSON lines, none where there is no file; an unfinished last line, which another process may be writing, is
    left out and left there."""
    content = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def read_all(folder: Path) -> list[dict[str, Any]]:
    """The same of every file of JSON lines in a folder, by name."""
    return [value for path in sorted(folder.glob("*.jsonl")) for value in read_lines(path)]


def keep_meaning(
    path: Path,
    given: Mapping[str, Any],
    begun: bool = True,
    whole: bool = False,
    holds: str = "pictures",
    instead: str = "give another --output_dir",
) -> None:
    """Keep in a JSON file what each name of `given` stands for. Raises FaceExprError where one stood for something else before; unless
    nothing was `begun` with that yet, which is forgotten then.

    `whole`: `given` is all that decides what lies there, so that a name which is new, or gone, is a difference too; else names are added.
    `holds`, `instead`: what lies beside the file, and what to do.
    """
    known = kept_meaning(path) if begun else {}
    plain = json.loads(json.dumps(dict(given)))
    compared = known | plain if whole and known else known.keys() & plain.keys()
    if changed := sorted(name for name in compared if known.get(name, _UNSAID) != plain.get(name, _UNSAID)):
        was, now = (told.get(changed[0], _UNSAID) for told in (known, plain))
        raise FaceExprError(f"{path.parent} holds {holds} for which '{changed[0]}' was {was}, now it is {now}; {instead}.")
    if not begun or known != known | plain:
        replace_file(path, (json.dumps(known | plain, indent=1) + "\n").encode())


def kept_meaning(path: Path) -> dict[str, Any]:
    """What `keep_meaning` kept in a file, nothing where there is none."""
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return kept


def refuse_others(folder: Path, names: Collection[str], keys: Collection[str]) -> None:
    """Raise FaceExprError where one of the `names` lies in a folder that is none of ours: in ours the first, in JSON, has these `keys`."""
    own, *_ = names
    there = [name for name in names if (folder / name).exists()]
    try:
        known = json.loads((folder / own).read_text(encoding="utf-8")) if own in there else {}
    except (OSError, ValueError):
        known = {}
    if there and not (isinstance(known, dict) and known.keys() >= {*keys}):
        raise FaceExprError(f"{folder} holds {there[0]}, which is not of an evaluation of faceexpr; give another --output_dir.")


def short_name(words: str) -> str:
    """Words as a part of a file's name, not more than 50 letters; other words never share it."""
    cleaned = re.sub(r"[^\w.+=-]+", "_", words).strip("._")[:40]
    return cleaned if cleaned == words else f"{cleaned}-{hashlib.sha256(name_bytes(words)).hexdigest()[:6]}"
