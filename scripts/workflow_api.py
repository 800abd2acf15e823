"""Workflows as the page saves them, turned into the API format: `python scripts/workflow_api.py` rewrites workflows/api/ from workflows/.

The page's format lists a node's widget values without their names; the names come, in order, from a running ComfyUI's /object_info.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from comfy_process import REPOSITORY, Graph, comfyui

WORKFLOWS = REPOSITORY / "workflows"
NOTES = ("Note", "MarkdownNote")
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def to_api(workflow: dict[str, Any], object_info: dict[str, Any]) -> Graph:
    """The API form of a workflow in the page's format (version 0.4, without subgraphs, bypassed or muted nodes).

    Raises ValueError when a node's widget values are more or fewer than its widgets.
    """
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph: Graph = {}
    for node in sorted(workflow["nodes"], key=lambda node: node["id"]):
        if node["type"] in NOTES:
            continue
        info = object_info[node["type"]]
        inputs = _widgets(node, info)
        inputs |= {slot["name"]: links[slot["link"]] for slot in node["inputs"] if slot["link"] is not None}
        graph[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": node.get("title", info["display_name"])},
        }
    return graph


def with_sources(graph: Graph, *node_ids: str) -> Graph:
    """The part of a graph that the given nodes depend on."""
    kept: Graph = {}
    waiting = list(node_ids)
    while waiting:
        node_id = waiting.pop()
        kept[node_id] = graph[node_id]
        waiting += [value[0] for value in graph[node_id]["inputs"].values() if isinstance(value, list) and value[0] not in kept]
    return kept


def input_specs(info: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, type (a list of options for an old-style combo) and options of each input of a node, in the page's order."""
    for kind in ("required", "optional"):
        for name in info["input_order"].get(kind, []):
            spec = info["input"][kind][name]
            yield name, spec[0], spec[1] if len(spec) > 1 else {}


def is_widget(input_type: Any, options: dict[str, Any]) -> bool:
    return (isinstance(input_type, list) or input_type in WIDGET_TYPES) and not options.get("forceInput")


def _widgets(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    values = list(node["widgets_values"])
    named: dict[str, Any] = {}
    try:
        for name, input_type, options in input_specs(info):
            if is_widget(input_type, options):
                named[name] = values.pop(0)
                if options.get("control_after_generate"):
                    values.pop(0)
    except IndexError:
        raise ValueError(f"node {node['id']} ({node['type']}) has too few widget values: {node['widgets_values']}") from None
    if values:
        raise ValueError(f"node {node['id']} ({node['type']}) has widget values left over: {values}")
    return named


def main() -> None:
    with tempfile.TemporaryDirectory() as home, comfyui(Path(home)) as comfy:
        object_info = comfy.object_info()
    (WORKFLOWS / "api").mkdir(exist_ok=True)
    for path in sorted(WORKFLOWS.glob("*.json")):
        graph = to_api(json.loads(path.read_text()), object_info)
        (WORKFLOWS / "api" / path.name).write_text(json.dumps(graph, indent=2) + "\n")
        print(path.name)


if __name__ == "__main__":
    main()
