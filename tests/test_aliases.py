"""Other words for the nodes, for the search of ComfyUI versions that know of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pack
import pytest


def test_every_node_has_other_words_and_carries_them_where_the_schema_knows_of_them(
    comfy_modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    extension = asyncio.run(comfy_modules.pack.comfy_entrypoint())
    nodes = asyncio.run(extension.get_node_list())
    words = pack.node("host.aliases").ALIASES
    assert len(nodes) >= 10 and all(words[node.define_schema().node_id] for node in nodes)
    schema = type(nodes[0].define_schema())
    monkeypatch.setattr(schema, "search_aliases", [], raising=False)  # as newer versions have it
    for node in nodes:
        made = node.define_schema()
        assert made.search_aliases == list(words[made.node_id])
        assert node.GET_SCHEMA().search_aliases == made.search_aliases
