"""A part of a picture that is drawn again by itself: which of the texts are said there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...faceexpr_core.fusion.injection import Area
from .conditioning import Conditioning
from .texts import PLACED, counterparts, row_of

SPOT = "faceexpr_spot"
"""Key of `transformer_options`: the `Spot` that is drawn."""


class Spot(NamedTuple):
    """Of picture number `picture` of a batch the `area`, drawn for the sake of what is at its `centre` (y, x); in shares of the picture.
    `grid` is the picture's height and width in latent pixels."""

    picture: int
    area: Area
    centre: tuple[float, float]
    grid: tuple[int, int]


def at_spot(model: Any, spot: Spot) -> Any:
    """A clone of the MODEL whose patches are told which part of a picture it draws."""
    clone = model.clone()
    options = clone.model_options
    options["transformer_options"] = {**options.get("transformer_options", {}), SPOT: spot}
    return clone


def texts_at(
    positive: Conditioning, negative: Conditioning, neutral: Conditioning | None, spot: Spot
) -> tuple[Conditioning, Conditioning, Conditioning | None]:
    """What is said at a spot's centre: of texts with areas or masks those that hold it, and of each its neutral one. What belongs to places
    of the whole picture is taken off them."""
    said = _said(positive, spot)
    rest = None
    if neutral is not None:
        partners, own = counterparts(positive, neutral), _said(neutral, spot)
        chosen = [one for one in range(len(neutral)) if (partners[one] in said if one in partners else one in own)]
        rest = _freed(neutral, chosen or own, spot)
    return _freed(positive, said, spot), _freed(negative, _said(negative, spot), spot), rest


def _said(conditioning: Conditioning, spot: Spot) -> list[int]:
    """Numbers of the entries that hold the centre; else of those that ComfyUI says where no other is said; else of all."""
    everywhere, by_default = list(range(len(conditioning))), [one for one, entry in enumerate(conditioning) if entry[1].get("default")]
    return [one for one in everywhere if one not in by_default and _holds(conditioning[one][1], spot)] or by_default or everywhere


def _holds(extra: Mapping[str, Any], spot: Spot) -> bool:
    return _area_holds(extra.get("area"), spot) and _mask_at(extra.get("mask"), spot) > 0


def _area_holds(area: Any, spot: Spot) -> bool:
    """As ComfyUI writes areas: sizes, then offsets, in latent pixels; or `percentage` and the same in shares."""
    if area is None:
        return True
    if area[0] == "percentage":
        sizes, units = tuple(area[1:]), (1.0, 1.0)
    else:
        sizes, units = tuple(area), spot.grid
    half = len(sizes) // 2
    return all(
        offset / unit <= at < (offset + size) / unit
        for at, size, offset, unit in zip(spot.centre, sizes[half - 2 : half], sizes[-2:], units, strict=True)
    )


def _mask_at(mask: Any, spot: Spot) -> float:
    if mask is None:
        return 1.0
    height, width = mask.shape[-2:]
    maps = mask.reshape(-1, height, width)
    row, column = (min(int(at * size), size - 1) for at, size in zip(spot.centre, (height, width), strict=True))
    return float(maps[spot.picture % len(maps), row, column])


def _freed(conditioning: Conditioning, chosen: list[int], spot: Spot) -> Conditioning:
    """The entries of these numbers as texts of the spot alone; how strongly each is said beside the others stays."""
    freed: Conditioning = []
    for hidden, extra in (conditioning[one] for one in chosen):
        strength = extra.get("strength", 1.0) * extra.get("mask_strength", 1.0) * _mask_at(extra.get("mask"), spot)
        kept = {key: value for key, value in extra.items() if key not in PLACED}
        freed.append(row_of([hidden, kept if len(chosen) == 1 or strength == 1 else {**kept, "strength": strength}], spot.picture))
    return freed
