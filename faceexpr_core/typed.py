"""Commands that messages tell the user to type: with this very Python, which need not be the one that a console finds."""

from __future__ import annotations

import re
import sys
from pathlib import Path

_PLAIN = re.compile(r"[\w./\\:~=+-]+")


def typed(*words: str | Path) -> str:
    """This Python and `words` as one line; what a console would take apart stands in double quotes."""
    return " ".join(word if _PLAIN.fullmatch(word) else f'"{word}"' for word in map(str, (sys.executable, *words)))


def installing(*words: str) -> str:
    """The line that installs packages into this Python."""
    return typed("-m", "pip", "install", *words)
