"""The conditional entries of a sampler's run: whose text each is, and where in the picture it is said."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...faceexpr_core.fusion.injection import Area
from .texts import TAG


class Row(NamedTuple):
    """A conditional entry: the area of the picture that it draws (None for all of it), the number of its pair of texts, if any, whether it
    is the copy of one that ComfyUI makes where another conditioning has an area, whether its time range holds the evaluation, and its mask
    [P, h, w] over the whole picture (None without one), one for each picture of a batch, again from the first, without its strength."""

    area: Area | None = None
    tag: int | None = None
    copied: bool = False
    said: bool = True
    mask: Tensor | None = None


def conditional_entries(guider: Any) -> list[dict[str, Any]]:
    conds = getattr(guider, "conds", None) or {}
    return [entry for name in getattr(guider, "faceexpr_conditional", ("positive",)) for entry in conds.get(name) or ()]


def rows_of(entries: list[dict[str, Any]], x: Tensor, sigma: float, kept: dict[Any, Any]) -> dict[Any, Row]:
    """By their ids. A copy that ComfyUI made has the other conditioning's keys, but the very text of the entry that it is a copy of."""
    tags = {id(_text(entry)): entry[TAG] for entry in entries if TAG in entry}
    return {
        entry["uuid"]: Row(
            _area(entry, x),
            entry.get(TAG, tags.get(id(_text(entry)))),
            TAG not in entry,
            _said(entry, sigma),
            _left_over(entries, x, sigma, kept) if "default" in entry else entry.get("mask"),
        )
        for entry in entries
        if "uuid" in entry
    }


def _left_over(entries: list[dict[str, Any]], x: Tensor, sigma: float, kept: dict[Any, Any]) -> Tensor:
    """Where a *default* conditioning is drawn, as ComfyUI's `finalize_default_conds` decides: [B, h, w], where no other entry is, their
    strengths aside. The same tensor as long as the same entries are said: by it a place is known again."""
    others = [entry for entry in entries if "default" not in entry and _said(entry, sigma)]
    key = _left_over, tuple(entry.get("uuid") for entry in others)
    if key not in kept:
        left = torch.ones_like(x[:, 0], dtype=torch.float32)
        for entry in others:
            mask = entry.get("mask")
            covered = torch.ones_like(left) if mask is None else mask[torch.arange(len(x)) % len(mask)].to(left)
            if entry.get("area") is not None:
                height, width, top, start = entry["area"]
                inside = torch.zeros_like(left)
                inside[:, top : top + height, start : start + width] = 1
                covered = covered * inside
            left = (left - covered).clamp_min(0)
        kept[key] = left
    found: Tensor = kept[key]
    return found


def _said(entry: dict[str, Any], sigma: float) -> bool:
    """As ComfyUI's `get_area_and_mult` decides; the range's ends are noise levels."""
    return not (sigma > entry.get("timestep_start", math.inf) or sigma < entry.get("timestep_end", -math.inf))


def _text(entry: dict[str, Any]) -> Any:
    return entry.get("model_conds", {}).get("c_crossattn", entry)


def _area(entry: dict[str, Any], x: Tensor) -> Area | None:
    """As ComfyUI's `get_area_and_mult` cuts it out: (h, w, y, x) in latent pixels, ended by the picture."""
    area = entry.get("area")
    if area is None:
        return None
    (height, width, top, left), (rows, columns) = area, x.shape[-2:]
    return top / rows, min(top + height, rows) / rows, left / columns, min(left + width, columns) / columns
