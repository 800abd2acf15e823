"""Features out of ComfyUI's U-Net: small callables in the hooks that compose with other packs' patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...faceexpr_core.errors import FaceExprError
from ...faceexpr_core.fusion.grids import Grid
from ...faceexpr_core.fusion.recorder import Recorder
from .run import CONDITIONAL, RECORD, Record, attention_blocks, attention_grid, place_of


class Capture:
    """Records what passes at some places of a site, of the first conditional row, whenever `RECORD` is set."""

    def __init__(self, recorder: Recorder, site: str, places: Sequence[str], blocks: dict[str, Any]) -> None:
        self._recorder, self._site, self._places, self._blocks = recorder, site, frozenset(places), blocks
        self._seen: set[tuple[str, Record]] = set()
        self._grids: dict[str, Grid] = {}

    def __deepcopy__(self, memo: Any) -> Capture:
        return self

    def block(self, h: Tensor, to: dict[str, Any], **kwargs: Any) -> Tensor:
        """`input_block_patch`: the skip connection, before ControlNet adds to it in place."""
        self._add(place_of(to), h, to)
        return h

    def attention(self, n: Tensor, extra: dict[str, Any], **kwargs: Any) -> Tensor:
        """`attn2_output_patch`."""
        self._add(place_of(extra), n, extra, attention_grid(extra))
        return n

    def context(self, n: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any], **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """`attn2_patch`: keys and values of the text."""
        place, mark = place_of(extra), extra.get(RECORD)
        if CONDITIONAL in extra["cond_or_uncond"] and self._wants(place, mark):
            assert mark is not None
            attention = self._blocks[place].attn2
            self._recorder.add(place, None, f"{mark.which}:k", attention.to_k(_first_conditional(context, extra)))
            self._recorder.add(place, None, f"{mark.which}:v", attention.to_v(_first_conditional(value, extra)))
        return n, context, value

    def _wants(self, place: str, mark: Record | None) -> bool:
        """Once for each evaluation that is marked: guidance of other packs may look at the same sigma again, with other features."""
        if mark is None or place not in self._places or (place, mark) in self._seen:
            return False
        self._seen.add((place, mark))
        return True

    def _add(self, place: str, x: Tensor, to: dict[str, Any], grid: tuple[int, int] | None = None) -> None:
        mark = to.get(RECORD)
        if CONDITIONAL in to["cond_or_uncond"] and self._wants(place, mark):
            assert mark is not None
            size = (int(x.shape[-2]), int(x.shape[-1])) if grid is None else grid
            if self._grids.setdefault(place, size) != size:
                raise FaceExprError(
                    f"the MODEL that draws the expression changes its size on the way ({self._grids[place]}, then {size} at {place}), as "
                    "Kohya Deep Shrink does. Connect the MODEL as it came from its loader; that which draws the person may keep it."
                )
            self._recorder.add(place, mark.position, mark.which, _first_conditional(x, to), grid)


def _first_conditional(x: Tensor, to: dict[str, Any]) -> Tensor:
    kinds = to["cond_or_uncond"]
    return x.chunk(len(kinds))[kinds.index(CONDITIONAL)][:1]


def attach_capture(model: Any, recorder: Recorder, site: str, places: Sequence[str]) -> Any:
    """A clone of `model` that records."""
    clone = model.clone()
    capture = Capture(recorder, site, places, attention_blocks(model))
    if site == "skip":
        clone.set_model_input_block_patch(capture.block)
    elif site == "cross_attention":
        clone.set_model_attn2_output_patch(capture.attention)
    else:
        clone.set_model_attn2_patch(capture.context)
    return clone
