"""Features out of ComfyUI's U-Net: small callables in the hooks that compose with other packs' patches, and a text's keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...faceexpr_core.errors import FaceExprError
from ...faceexpr_core.fusion.grids import Grid
from ...faceexpr_core.fusion.recorder import Recorder
from ...faceexpr_core.fusion.settings import CONTEXT_SITE
from .run import RECORD, Record, attention_blocks, attention_grid, conditional_rows, place_of, with_run
from .texts import TAG


class Capture:
    """Records what passes at some places of a site, of the first picture's row of the marked entry, whenever `RECORD` is set."""

    outermost = True  # see `run.note_unet`

    def __init__(self, recorder: Recorder, places: Sequence[str]) -> None:
        self._recorder, self._places = recorder, frozenset(places)
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

    def _wants(self, place: str, mark: Record) -> bool:
        """Once for each evaluation that is marked: guidance of other packs may look at the same sigma again, with other features."""
        if place not in self._places or (place, mark) in self._seen:
            return False
        self._seen.add((place, mark))
        return True

    def _add(self, place: str, x: Tensor, to: dict[str, Any], grid: tuple[int, int] | None = None) -> None:
        mark = to.get(RECORD)
        row = None if mark is None else _recorded_row(x, to)
        if mark is None or row is None or not self._wants(place, mark):
            return
        size = (int(x.shape[-2]), int(x.shape[-1])) if grid is None else grid
        if self._grids.setdefault(place, size) != size:
            raise FaceExprError(
                f"the MODEL that draws the expression changes its size on the way ({self._grids[place]}, then {size} at {place}), as "
                "Kohya Deep Shrink does. Connect the MODEL as it came from its loader; that which draws the person may keep it."
            )
        self._recorder.add(place, mark.position, mark.which, row, grid)


def _recorded_row(x: Tensor, to: dict[str, Any]) -> Tensor | None:
    """The first picture's row of the entry that is marked."""
    rows = conditional_rows(to)
    marked = (number for number, row in enumerate(rows) if row is not None and row.tag is not None and not row.copied)
    number = next(marked, None)
    return None if number is None else x.chunk(len(rows))[number][:1]


def attach_capture(model: Any, recorder: Recorder, places: Sequence[str]) -> Any:
    """A clone of `model` that records what passes; keys and values are not what passes (`record_context`)."""
    if recorder.site == CONTEXT_SITE:
        return model.clone()
    clone, capture = with_run(model), Capture(recorder, places)
    if recorder.site == "skip":
        clone.set_model_input_block_patch(capture.block)
    else:
        clone.set_model_attn2_output_patch(capture.attention)
    return clone


def record_context(
    guider: Any, entries: Sequence[dict[str, Any]], which: str, recorder: Recorder, places: Sequence[str], options: dict[str, Any]
) -> None:
    """Record the keys and values that a running guider's model makes of the marked entry of a conditioning. No row of it is computed.

    Patches of other packs that change what attention is given see it as in a run; hooks of texts (LoRAs of their own) do not act.
    """
    model = guider.inner_model
    entry = next(entry for entry in entries if TAG in entry)
    transformer = {**options.get("transformer_options", {}), **model.current_patcher.apply_hooks(hooks=None)}
    dtype = model.manual_cast_dtype if model.manual_cast_dtype is not None else model.get_dtype()
    text = comfy.model_management.cast_to_device(entry["model_conds"]["c_crossattn"].cond[:1], guider.model_patcher.load_device, dtype)
    chosen = frozenset(places)
    for place, block in attention_blocks(model.diffusion_model).items():
        if place in chosen:
            keys, values = _patched(place, block, text, transformer)
            recorder.add(place, None, f"{which}:k", block.attn2.to_k(keys))
            recorder.add(place, None, f"{which}:v", block.attn2.to_v(values))


def _patched(place: str, block: Any, text: Tensor, transformer: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """What keys and values are made of, after other packs' `attn2_patch`es; of what these add in rows of their own, nothing."""
    name, number, layer = place.split(".")
    extra = {
        **transformer,
        **{"block": (name, int(number)), "block_index": int(layer), "n_heads": block.n_heads, "dim_head": block.d_head},
        **{"cond_or_uncond": [0], "sigmas": torch.ones(1, device=text.device), "original_shape": [1, 4, 8, 8]},
        **{"activations_shape": [1, 1, 1, 1], "transformer_index": 0},
    }
    tokens, keys, values = text.new_zeros(1, 1, block.attn2.to_q.weight.shape[1]), text, text
    for patch in transformer.get("patches", {}).get("attn2_patch", ()):
        tokens, keys, values = patch(tokens, keys, values, extra)
    return keys[:1], values[:1]
