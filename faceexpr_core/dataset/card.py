"""The data card: README.md with the header that Hugging Face reads. What its maker wrote into it is never overwritten."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import replace_file, write_new
from . import figures
from .cast import Cast, closest_pair
from .plan import MAKING, SPLITS
from .run import Dataset

CARD = "README.md"
TEMPLATE = Path(__file__).with_name("card.md.jinja")


def build_card(run: Dataset, cast: Cast, rows: Sequence[Mapping[str, Any]], about: Mapping[str, str], licence: str) -> str:
    """The card's text; `about` says how it was made, a line each; `licence` is Hugging Face's identifier, "" where none was
    chosen."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["table"] = figures.markdown
    kept = figures.kept(rows)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        figures=figures,
        rows=rows,
        kept=kept,
        about=about,
        licence=licence,
        splits=[split for split in SPLITS if any(row["split"] == split for row in kept)],
        learned=[one for one in cast.people if one.lora is not None],
        described=[one for one in cast.people if one.lora is None],
        refused=cast.refused,
        closest=closest_pair(run.output, cast),
        plan=run.plan,
    )


def write_card(output: Path, text: str) -> Path:
    """Write README.md; beside it, under another name, where somebody has changed the one that was written before. Returns its path."""
    path, known = output / CARD, output / MAKING / "card.json"
    content = text.encode()
    written = json.loads(known.read_text(encoding="utf-8")) if known.exists() else []
    if path.exists() and (there := path.read_bytes()) != content and _digest(there) not in written:
        return write_new(path, content)
    replace_file(known, (json.dumps([*dict.fromkeys([*written, _digest(content)])]) + "\n").encode())
    replace_file(path, content)
    return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
