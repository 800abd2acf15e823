"""The nodes' words in English, as ComfyUI's page reads them: `make locales` writes locales/en/nodeDefs.json from the nodes themselves.

The page takes a node's name, description, and each input's and output's name and tooltip from `locales/<language>/nodeDefs.json`
(ComfyUI's app/custom_node_manager.py). The other languages are written by hand, with the same keys; tests/test_locales.py says what is
missing in them.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from comfy_process import REPOSITORY, comfyui

LOCALES = REPOSITORY / "locales"
OWN = "FaceExpr"
SPECIAL = re.compile(r"[{}@|$]")


def node_words(object_info: dict[str, Any]) -> dict[str, Any]:
    """Our nodes of ComfyUI's `/object_info`, as nodeDefs.json has them."""
    return {name: _words(info) for name, info in object_info.items() if name.startswith(OWN)}


def escaped(text: str) -> str:
    """The text as a message of vue-i18n, to which {, }, @, | and $ mean something."""
    return SPECIAL.sub(lambda found: f"{{'{found.group()}'}}", text)


def plain(message: str) -> str:
    """The text of a message that `escaped` made. Raises ValueError for one that the page would read as something else."""
    text = re.sub(r"\{'([{}@|$])'\}", "", message)
    if SPECIAL.search(text):
        raise ValueError(f"{message!r} holds one of {{}}@|$ as it is; write {escaped('{')} for a brace, and so on")
    return re.sub(r"\{'([{}@|$])'\}", r"\1", message)


def _words(info: dict[str, Any]) -> dict[str, Any]:
    given = [(name, spec) for kind in ("required", "optional") for name, spec in info["input"].get(kind, {}).items()]
    inputs = {}
    for name, (_, *options) in given:
        about = options[0] if options else {}
        inputs[name] = {"name": escaped(about.get("display_name") or name), "tooltip": escaped(about.get("tooltip", ""))}
    outputs = {
        str(number): {"name": name, "tooltip": escaped(tooltip or "")}
        for number, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
    }
    named = {"display_name": escaped(info["display_name"]), "description": escaped(info["description"])}
    return named | ({"inputs": inputs} if inputs else {}) | {"outputs": outputs}


def written(words: dict[str, Any]) -> str:
    return json.dumps(words, ensure_ascii=False, indent=2) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as home, comfyui(Path(home)) as comfy:
        words = node_words(comfy.object_info())
    (LOCALES / "en").mkdir(parents=True, exist_ok=True)
    (LOCALES / "en" / "nodeDefs.json").write_text(written(words), encoding="utf-8")


if __name__ == "__main__":
    main()
