"""The site's pages that are the repository's own files: README, help pages, workflows, docstrings. A hook of MkDocs (mkdocs.yml names it).

Nothing is written twice: the home page is the README, a node's page is its help page and its tooltips, a recipe is the note in its
workflow, and the page of a room of `faceexpr_core` is made of its docstrings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = REPOSITORY / "faceexpr_core"
SOURCE = "https://github.com/faceexpr/faceexpr/blob/main/"
PLACES = {
    "faceexpr_core/mini/README.md": "mini.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "docs/": "",
    "web/docs/": "nodes/",
    "LICENSE": SOURCE + "LICENSE",
}
"""Where the site has what a file of the repository links to."""
LANGUAGES = {"zh": "中文", "ja": "日本語", "ko": "한국어"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and what they show."""
    pages = {"index.md": _own("README.md"), "mini.md": _own("faceexpr_core/mini/README.md"), "contributing.md": _own("CONTRIBUTING.md")}
    pages |= dict([*_nodes(), *_recipes(), *_python()])
    pictures = {f"nodes/{path.name}": path for path in (REPOSITORY / "web" / "docs").glob("*.jpg")}
    pictures |= {f"recipes/{path.name}": path for path in (REPOSITORY / "workflows").glob("faceexpr_*.*")}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for name, path in pictures.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A document of docs/, whose links lead where the files lie in the repository, turned to the site's pages."""
    for place, page in PLACES.items():
        markdown = markdown.replace(f"](../{place}", f"]({page}")
    markdown = re.sub(r"\]\(\.\./workflows/(\w+)\.json\)", r"](recipes/\1.md)", markdown)
    return re.sub(r"\]\(\.\./faceexpr_core/(\w+)\.py\)", r"](python/\1.md)", markdown)


def _own(name: str) -> str:
    """A file of the repository, its links turned to the site's pages."""
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    for place, page in PLACES.items():
        text = text.replace(f"]({place}", f"]({page}")
    return text


def _words() -> dict[str, Any]:
    return dict(json.loads((REPOSITORY / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8")))


def _nodes() -> Iterator[tuple[str, str]]:
    rows = []
    for node, told in _words().items():
        help_page = (REPOSITORY / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")
        others = [f"[{name}]({node}.{language}.md)" for language, name in LANGUAGES.items()]
        title, rest = help_page.split("\n", 1)
        yield f"nodes/{node}.md", f"{title}\n\n{' · '.join(others)}\n{rest}\n{_slots(told)}"
        for language in LANGUAGES:
            own = (REPOSITORY / "web" / "docs" / node / f"{language}.md").read_text(encoding="utf-8")
            yield f"nodes/{node}.{language}.md", own
        rows.append(f"| [{told['display_name']}](nodes/{node}.md) | {_plain(told['description'])} |")
    yield (
        "nodes.md",
        "\n".join(["# Nodes", "", "Each page is the node's help page in ComfyUI.", "", "| node | does |", "|---|---|", *rows, ""]),
    )


def _slots(told: dict[str, Any]) -> str:
    """Inputs and outputs as the node itself shows them."""
    rows = [f"    | {slot['name']} | {_plain(slot['tooltip'])} |" for slot in told.get("inputs", {}).values()]
    outs = [f"    | {slot['name']} | {_plain(slot['tooltip'])} |" for slot in told["outputs"].values()]
    head = ["    | {} | tooltip |", "    |---|---|"]
    tables = [head[0].format("input"), head[1], *rows, ""] if rows else []
    return "\n".join(['??? note "The tooltips, as the node shows them"', "", *tables, head[0].format("output"), head[1], *outs, ""])


def _recipes() -> Iterator[tuple[str, str]]:
    links = []
    names = {node: told["display_name"] for node, told in _words().items()}
    for path in sorted((REPOSITORY / "workflows").glob("*.json")):
        graph = json.loads(path.read_text(encoding="utf-8"))
        title = path.stem.removeprefix("faceexpr_").replace("_", " ").capitalize().replace("sdxl", "SDXL").replace("Sdxl", "SDXL")
        notes = [str(node["widgets_values"][0]) for node in graph["nodes"] if node["type"] in ("MarkdownNote", "Note")]
        ours = dict.fromkeys(node["type"] for node in graph["nodes"] if node["type"].startswith("FaceExpr"))
        picture = [f"![What it shows in ComfyUI's list of templates]({path.stem}.jpg)"] if path.with_suffix(".jpg").is_file() else []
        nodes = [f"Nodes of ours in it: {', '.join(f'[{names[node]}](../nodes/{node}.md)' for node in ours)}."]
        file = [f"In ComfyUI: Workflow > Browse Templates > faceexpr > `{path.stem}`. Or drag [{path.name}]({path.name}) onto the page."]
        yield f"recipes/{path.stem}.md", "\n\n".join([f"# {title}", *picture, *file, *notes, *nodes]) + "\n"
        links.append(f"- [{title}](recipes/{path.stem}.md)")
    text = "Each is a workflow that comes with the pack. What stands on its page is the note beside its nodes."
    yield "recipes.md", "\n".join(["# Recipes", "", text, "", *links, ""])


def _python() -> Iterator[tuple[str, str]]:
    rooms: dict[str, list[str]] = {}
    for path in sorted(ROOMS.rglob("*.py")):
        parts = path.relative_to(ROOMS).with_suffix("").parts
        if parts[-1] not in ("__init__", "cli", "train"):
            rooms.setdefault(parts[0], []).append(".".join(("faceexpr_core", *parts)))
    for room, modules in rooms.items():
        yield f"python/{room}.md", "\n\n".join([f"# {room}", *(f"::: {module}" for module in modules)]) + "\n"
    lines = [f"- [{room}](python/{room}.md): {', '.join(f'`{one}`' for one in modules)}" for room, modules in rooms.items()]
    text = "`faceexpr_core`, room by room, from its docstrings. [How the house is built](architecture.md) says what each is for."
    yield "python.md", "\n".join(["# Python", "", text, "", *lines, ""])


def _plain(message: str) -> str:
    """A message of nodeDefs.json as text in a table."""
    return re.sub(r"\{'(.)'\}", r"\1", message).replace("|", "\\|").replace("<", "&lt;")
