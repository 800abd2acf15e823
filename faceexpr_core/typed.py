"""Commands that messages tell the user to type: with this very Python, which need not be the one that a console finds."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_PLAIN = re.compile(r"[\w./\\:~=+-]+")


def typed(*words: str | Path, windows: bool = os.name == "nt") -> str:
    """This Python and `words` as one line; what a console would take apart stands in double quotes. On Windows a word follows for
    PowerShell, to which a line that begins with quotes is a text."""
    line = " ".join(word if _PLAIN.fullmatch(word) else f'"{word}"' for word in map(str, (sys.executable, *words)))
    return f"{line} (in PowerShell, put & and a space before it)" if windows and line.startswith('"') else line


def installing(*words: str, windows: bool = os.name == "nt") -> str:
    """The line that installs packages into this Python."""
    return typed("-m", "pip", "install", *words, windows=windows)
