"""Features into ComfyUI's U-Net: small callables in the hooks that compose with other packs' patches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...faceexpr_core.fusion.bank import FeatureBank, fused_places
from ...faceexpr_core.fusion.donors import same_place
from ...faceexpr_core.fusion.grids import Grid
from ...faceexpr_core.fusion.injection import Attention, Injection, Part
from ...faceexpr_core.fusion.settings import FusionSettings
from .run import RUN, Run, attention_blocks, attention_grid, conditional_parts, place_of, places_of, skips_of, with_run


class Fusion:
    """One fusion of a bank into a MODEL; its methods are the patches. Clones of the MODEL share it."""

    def __init__(
        self,
        bank: FeatureBank,
        settings: FusionSettings,
        mask: Tensor | None,
        picture: int | None,
        blocks: dict[str, Any],
        places: Sequence[str],
        skips: int,
    ) -> None:
        self._bank, self._mask, self._picture = bank, mask, picture
        self._blocks, self._skips = blocks, skips
        self._injection = Injection(bank, settings, places, self._tell)
        self._told = False
        self._query = f"faceexpr_query_{id(self)}"

    def __deepcopy__(self, memo: Any) -> Fusion:
        return self

    def skip(self, h: Tensor, hsp: Tensor | None, to: dict[str, Any], **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """`output_block_patch`: output block i consumes the skip of input block last - i."""
        if hsp is None:  # as SUPIR leaves it
            self._tell("another patch of the MODEL uses the skip connections up; nothing is changed there. Apply the fusion before it")
            return h, hsp
        place = f"input.{self._skips - 1 - to['block'][1]}"
        return h, self._fuse(hsp, place, (int(hsp.shape[2]), int(hsp.shape[3])), to)

    def cross_attention(self, n: Tensor, extra: dict[str, Any], **kwargs: Any) -> Tensor:
        """`attn2_output_patch`."""
        return self._fuse(n, place_of(extra), attention_grid(extra), extra)

    def note_query(self, n: Tensor, context: Any, value: Any, extra: dict[str, Any], **kwargs: Any) -> tuple[Tensor, Any, Any]:
        """`attn2_patch`: keep the tokens for the patch behind the attention, which is given the same `extra`."""
        extra[self._query] = n
        return n, context, value

    def context_difference(self, n: Tensor, extra: dict[str, Any], **kwargs: Any) -> Tensor:
        """`attn2_output_patch`: another text's cross-attention on the target's own queries."""
        place, tokens, run = place_of(extra), extra.pop(self._query, None), extra.get(RUN)
        if tokens is None or run is None:
            return n
        layer = self._blocks[place].attn2
        attention = Attention(layer.to_q, layer.to_out, layer.heads)
        return self._injection.add_context(place, n, attention_grid(extra), run.call, self._parts(n, extra), tokens, attention)

    def _fuse(self, x: Tensor, place: str, grid: Grid, to: dict[str, Any]) -> Tensor:
        run = to.get(RUN)
        return x if run is None else self._injection.fuse(place, x, grid, run.call, self._parts(x, to))

    def _parts(self, x: Tensor, to: dict[str, Any]) -> list[Part]:
        """The bank's own mask and regions hold for the picture that it was drawn for, or for the first of the same noise and size."""
        run: Run = to[RUN]
        own = self._bank.mask if self._mask is None else self._mask, self._bank.regions
        kinds = conditional_parts(to)
        count, found = len(x) // len(kinds), []
        for number, (wanted, area) in enumerate(kinds):
            first, end = number * count, (number + 1) * count
            if not wanted:
                continue
            if self._picture is not None:
                if self._picture < count:
                    found.append(Part(slice(first + self._picture, first + self._picture + 1), *own, area))
            elif run.seed is None or not same_place(self._bank, run.seed, *run.size):
                found.append(Part(slice(first, end), self._mask, None, area))
            else:
                found.append(Part(slice(first, first + 1), *own, area))
                if count > 1:
                    found.append(Part(slice(first + 1, end), self._mask, None, area))
        return found

    def _tell(self, what: str) -> None:
        if not self._told:
            logging.warning("Attention-Focused Fusion: %s", what)
        self._told = True


def attach_fusion(model: Any, bank: FeatureBank, settings: FusionSettings, mask: Tensor | None = None, picture: int | None = None) -> Any:
    """A clone of `model` with the features of `bank` fused into its conditional rows. `mask`: float [H, W] in 0..1 over the picture.

    `picture`: the one of the batch that the bank was drawn for, which alone is changed; None for all. At strength 0 the clone has no
    patch. Raises FaceExprError where bank, settings and model do not belong together.
    """
    places = fused_places(bank, settings, places_of(model, bank.site))
    if settings.strength == 0:
        return model.clone()
    clone = with_run(model)
    patch = Fusion(bank, settings, mask, picture, attention_blocks(model), places, skips_of(model))
    if bank.site == "skip":
        clone.set_model_output_block_patch(patch.skip)
    elif bank.site == "cross_attention":
        clone.set_model_attn2_output_patch(patch.cross_attention)
    else:
        clone.set_model_attn2_patch(patch.note_query)
        clone.set_model_attn2_output_patch(patch.context_difference)
    return clone
