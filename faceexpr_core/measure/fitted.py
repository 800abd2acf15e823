"""What was fitted on rendered faces with known truth: `prototypes.json`, made by `lab/recipe/fit_prototypes.py`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

PROTOTYPES_FILE = Path(__file__).parent / "prototypes.json"


@cache
def stored() -> dict[str, Any]:
    """What the file holds: `expression`, as `expression.prototypes_from` takes it, `identity`, SFace's usual cosines (`identity_scale`),
    and of what it was fitted and how well."""
    values: dict[str, Any] = json.loads(PROTOTYPES_FILE.read_text(encoding="utf-8"))
    return values
