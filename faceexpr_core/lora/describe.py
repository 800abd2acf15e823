"""A LoRA in words, for people."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from ..files import one_line
from .embeddings import describe as embedding
from .formats import Lora, some_keys
from .kinds import LORA


def describe(lora: Lora) -> str:
    """A report for people: format, rank, alpha, number type, layers and size of the change by block, what is unknown, metadata."""
    ranks, alphas = Counter(layer.rank for layer in lora.layers.values()), Counter(layer.alpha for layer in lora.layers.values())
    numbers = Counter(str(layer.down.dtype).removeprefix("torch.") for layer in lora.layers.values())
    lines = [
        f"format    {lora.spelling or 'none that is known'}",
        f"made for  {lora.family()}",
        f"layers    {len(lora.layers)}, {_counted(numbers)}",
        f"rank      {_counted(ranks)}",
        f"alpha     {_counted(alphas)}",
        *(f"note      {note}" for note in lora.notes),
    ]
    if lora.layers:
        lines += ["", f"{'block':<40}{'layers':>8}{'norm':>12}"]
        blocks: dict[str, list[float]] = {}
        for name, layer in lora.layers.items():
            blocks.setdefault(_block(name), []).append(layer.norm())
        lines += [f"{block:<40}{len(norms):>8}{math.hypot(*norms):>12.4g}" for block, norms in sorted(blocks.items())]
        lines.append(f"{'all':<40}{len(lora.layers):>8}{math.hypot(*(norm for norms in blocks.values() for norm in norms)):>12.4g}")
    if lora.others:
        endings = Counter(ending for extra in lora.others.values() for ending in extra)
        lines += ["", f"besides   {', '.join(f'{count} x {ending}' for ending, count in endings.items())}"]
    of_kind = Counter(lora.kind(module) for module in lora.modules)
    if of_kind.keys() - {LORA}:
        lines += ["", f"kinds     {', '.join(f'{kind} ({count} layers)' for kind, count in of_kind.items())}"]
    if lora.embeddings:
        which = ", ".join(embedding(word, tensors) for word, tensors in lora.embeddings.items())
        lines += ["", f"carries   embeddings: {which}; `faceexpr lora embeddings` writes them as files"]
    lines += [f"unknown   {len(keys)} keys that {why}: {some_keys(keys)}" for why, keys in lora.unread().items()]
    if lora.metadata:
        lines += ["", "metadata", *(f"  {_short(key)}: {_short(value)}" for key, value in sorted(lora.metadata.items()))]
    return "\n".join(lines)


def _block(module: str) -> str:
    part, *path = module.split(".")
    if path[0] in ("down_blocks", "up_blocks"):
        path = path[:4]
    elif path[0] == "mid_block":
        path = path[:3]
    elif "layers" in path:
        path = path[: path.index("layers") + 2]
    return ".".join((part, *path))


def _counted(counts: Counter[Any]) -> str:
    if len(counts) == 1:
        return f"{next(iter(counts)):g}" if not isinstance(next(iter(counts)), str) else next(iter(counts))
    shown = ", ".join(f"{value} ({count} layers)" for value, count in counts.most_common(6))
    return shown + (f" and {len(counts) - 6} more" if len(counts) > 6 else "") if counts else "-"


def _short(text: str, length: int = 160) -> str:
    line = one_line(text)
    return line if len(line) <= length else f"{line[:length]}... ({len(line)} characters)"
