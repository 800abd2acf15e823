"""Which pictures of features' own noise and texts were drawn before in a graph, so that a later pass over one of them knows it again.

A graph draws the same, whatever ran before it, and after a restart: a pass knows those pictures alone that nodes before it in its graph
drew, or its own node in the same run. They are kept under all that their node is given and those before it are, as ComfyUI keeps results:
so they are known too where ComfyUI does not run that node again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable
from typing import Any, NamedTuple

import torch.nn.functional as F
from comfy_execution.graph_utils import is_link
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from torch import Tensor

THUMB = 8
"""Side of what is kept of a picture, to know it again at another size."""
SAME_PICTURE = 0.95
"""Cosine of two thumbs above which they are of the same picture: on Mini 0.96 to 1.00 after five ways to enlarge it; for others of the same
words 0.79 and less, and up to 0.94 with a person's LoRA (seven people, three pictures each). Measured once."""
MOST = 1000
"""Nodes whose pictures are kept: those that ran last."""


class _Drawn(NamedTuple):
    """What a node drew when it last ran, in which prompt: thumbs, and of what each is."""

    prompt: str
    thumbs: list[tuple[Hashable, Tensor]]


_drawn: dict[str, _Drawn] = {}


class Earlier:
    """The pictures of one composition that were drawn before a sampler that begins now; none where ComfyUI runs no graph."""

    def __init__(self, composition: Hashable) -> None:
        self._composition, self._prompt, self._own = composition, "", ""
        self._thumbs: list[Tensor] = []
        running, state = get_executing_context(), get_progress_state()
        if running is None or running.prompt_id != state.prompt_id:
            return
        given = _digests(state.dynprompt, running.node_id)
        self._prompt, self._own = running.prompt_id, given[running.node_id]
        if self._own in _drawn and _drawn[self._own].prompt != self._prompt:
            del _drawn[self._own]  # it runs again, and draws what it draws now
        known = (_drawn[node] for node in set(given.values()) if node in _drawn)
        self._thumbs = [thumb for node in known for of, thumb in node.thumbs if of == composition]

    def knows(self, latents: Tensor, picture: int) -> bool:
        """Whether number `picture` of the latents [B, 4, h, w] is one of them, at any size."""
        thumb = _thumb(latents, picture)
        return any(float(F.cosine_similarity(thumb, known, dim=0)) > SAME_PICTURE for known in self._thumbs)

    def remember(self, latents: Tensor, picture: int) -> None:
        """One more, for the passes that follow."""
        if self._own:
            node = _drawn.pop(self._own, _Drawn(self._prompt, []))
            node.thumbs.append((self._composition, _thumb(latents, picture)))
            _drawn[self._own] = node
            for oldest in list(_drawn)[:-MOST]:
                del _drawn[oldest]


def _thumb(latents: Tensor, picture: int) -> Tensor:
    small = F.adaptive_avg_pool2d(latents[picture % len(latents)].detach().float().cpu(), THUMB)  # a Mac's chip pools few sizes so
    return (small - small.mean((1, 2), keepdim=True)).flatten()


def _digests(graph: Any, node: str) -> dict[str, str]:
    """Of the node of a graph, and of each before it, by their ids: equal for nodes that are given the same, and all before them too."""
    found: dict[str, str] = {}
    entered, waiting = set[str](), [node]
    while waiting:
        one = waiting[-1]
        about = graph.get_node(one) if graph.has_node(one) else {}
        inputs = about.get("inputs", {})
        links = {value[0] for value in inputs.values() if is_link(value)}
        if one not in entered and (missing := links - found.keys() - entered):
            entered.add(one)  # a circle, which never runs, ends here
            waiting += missing
            continue
        waiting.pop()
        given = {name: [found.get(value[0], ""), value[1]] if is_link(value) else [value] for name, value in inputs.items()}
        said = json.dumps([about.get("class_type"), given], sort_keys=True, default=repr)
        found[one] = hashlib.sha256(said.encode()).hexdigest()
    return found
