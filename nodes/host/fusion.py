"""Features out of ComfyUI's U-Net and into it: small callables in the hooks that compose with other packs' patches.

All state of a run travels in `transformer_options`, which ComfyUI hands to every patch: `RUN` says which evaluation this is, `RECORD` that
it is to be recorded. So it does not matter how often a sampler, or another pack, calls the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import comfy.patcher_extension
import torch
from torch import Tensor

from ...faceexpr_core.errors import FaceExprError
from ...faceexpr_core.fusion import operator as fusion
from ...faceexpr_core.fusion.attention import context_difference
from ...faceexpr_core.fusion.bank import Context, FeatureBank, fused_places
from ...faceexpr_core.fusion.donors import same_place
from ...faceexpr_core.fusion.grids import Grid, grid_mask, grid_regions
from ...faceexpr_core.fusion.operator import Donor, Target
from ...faceexpr_core.fusion.recorder import Recorder
from ...faceexpr_core.fusion.settings import FusionSettings, guidance_weight, step_weight, window_range

RUN, RECORD, KEPT = "faceexpr_run", "faceexpr_record", "faceexpr_kept"
CONDITIONAL = 0
"""ComfyUI's number of the positive conditioning in `cond_or_uncond`."""

Area = tuple[float, float, float, float]
"""Top, bottom, left and right in shares of the picture: a conditioning with an area is computed on that cut-out alone."""


class Run(NamedTuple):
    """One evaluation of the model by a sampler."""

    sigma: float
    cfg: float
    schedule: tuple[float, ...]
    positive: Mapping[Any, Area | None]
    """The ids of the positive conditioning's entries, with their areas; empty where the guider has none."""
    seed: int | None
    size: tuple[int, int]
    """(width, height) of the pictures."""
    kept: dict[Any, Any]
    """What patches keep until the sampler ends: features on the device."""


class Record(NamedTuple):
    """Where the features of this evaluation go."""

    position: int
    which: str


def _note_run(
    executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None, **kwargs: Any
) -> Tensor:
    guider, options = executor.class_obj, {} if model_options is None else model_options
    transformer = options.get("transformer_options", {})
    sigmas = transformer.get("sample_sigmas")
    positive = (getattr(guider, "conds", None) or {}).get("positive") or ()
    run = Run(
        sigma=float(timestep.flatten()[0]),
        cfg=float(getattr(guider, "cfg", 1.0)),
        schedule=() if sigmas is None else tuple(sigmas.tolist()),
        positive={entry["uuid"]: _area(entry, x) for entry in positive if "uuid" in entry},
        seed=seed,
        size=(8 * x.shape[-1], 8 * x.shape[-2]),
        # not a dict in transformer_options, which ComfyUI would copy at every evaluation
        kept=transformer.setdefault(KEPT, _Kept()).of_sampler,
    )
    return executor(x, timestep, {**options, "transformer_options": {**transformer, RUN: run}}, seed, **kwargs)


class _Kept:
    def __init__(self) -> None:
        self.of_sampler: dict[Any, Any] = {}


def _area(entry: dict[str, Any], x: Tensor) -> Area | None:
    """As ComfyUI's `get_area_and_mult` cuts it out: (h, w, y, x) in latent pixels, ended by the picture."""
    area = entry.get("area")
    if area is None:
        return None
    (height, width, top, left), (rows, columns) = area, x.shape[-2:]
    return top / rows, min(top + height, rows) / rows, left / columns, min(left + width, columns) / columns


def _with_run(model: Any) -> Any:
    """A clone of `model` whose patches are told of each evaluation."""
    clone = model.clone()
    kind = comfy.patcher_extension.WrappersMP.PREDICT_NOISE
    if not clone.get_wrappers(kind, RUN):
        clone.add_wrapper_with_key(kind, RUN, _note_run)
    return clone


def _place(extra: dict[str, Any]) -> str:
    """`output.3`, and inside a transformer `output.3.0`."""
    name, number = extra["block"]
    return f"{name}.{number}" if "n_heads" not in extra else f"{name}.{number}.{extra['block_index']}"


def _attention_grid(extra: dict[str, Any]) -> tuple[int, int]:
    height, width = extra["activations_shape"][-2:]
    return int(height), int(width)


def _conditional(to: dict[str, Any]) -> list[tuple[bool, Area | None]]:
    """For each equal part of the batch, whether its rows are conditional, and the area of the picture that they are."""
    kinds, positive = to["cond_or_uncond"], to[RUN].positive
    ids = to.get("uuids")
    if not positive or ids is None:
        return [(kind == CONDITIONAL, None) for kind in kinds]
    return [(name in positive, positive.get(name)) for name in ids]


# Places


def places_of(model: Any, site: str) -> list[str]:
    """Every place of the model's U-Net where the site may be recorded and changed."""
    if site == "skip":
        return [f"input.{number}" for number in range(_skips(model))]
    return list(_attention_blocks(model))


def _skips(model: Any) -> int:
    return len(model.get_model_object("diffusion_model").input_blocks)


def _attention_blocks(model: Any) -> dict[str, Any]:
    """ComfyUI's BasicTransformerBlocks by place."""
    unet = model.get_model_object("diffusion_model")
    blocks = [
        *((f"input.{number}", block) for number, block in enumerate(unet.input_blocks)),
        ("middle.0", unet.middle_block),
        *((f"output.{number}", block) for number, block in enumerate(unet.output_blocks)),
    ]
    return {
        f"{name}.{layer}": transformer
        for name, block in blocks
        for module in block
        for layer, transformer in enumerate(getattr(module, "transformer_blocks", ()))
    }


# Out of the U-Net


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
        self._add(_place(to), h, to)
        return h

    def attention(self, n: Tensor, extra: dict[str, Any], **kwargs: Any) -> Tensor:
        """`attn2_output_patch`."""
        self._add(_place(extra), n, extra, _attention_grid(extra))
        return n

    def context(self, n: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any], **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """`attn2_patch`: keys and values of the text."""
        place, mark = _place(extra), extra.get(RECORD)
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
    capture = Capture(recorder, site, places, _attention_blocks(model))
    if site == "skip":
        clone.set_model_input_block_patch(capture.block)
    elif site == "cross_attention":
        clone.set_model_attn2_output_patch(capture.attention)
    else:
        clone.set_model_attn2_patch(capture.context)
    return clone


# Into the U-Net


class Part(NamedTuple):
    """Pictures of a batch that are changed alike: where the expression acts in them, and the regions of their faces."""

    pictures: slice
    mask: Tensor | None
    regions: Tensor | None
    area: Area | None


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
        self._bank, self._settings, self._mask, self._picture = bank, settings, mask, picture
        self._blocks, self._places, self._skips = blocks, frozenset(places), skips
        self._range = window_range(settings.window)
        self._told: set[str] = set()
        self._evaluation: tuple[Run, float] | None = None
        self._resized: dict[tuple[int, Area | None, Grid, torch.device], Tensor] = {}
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
        return self._fuse(n, _place(extra), _attention_grid(extra), extra)

    def note_query(self, n: Tensor, context: Any, value: Any, extra: dict[str, Any], **kwargs: Any) -> tuple[Tensor, Any, Any]:
        """`attn2_patch`: keep the tokens for the patch behind the attention, which is given the same `extra`."""
        extra[self._query] = n
        return n, context, value

    def context_difference(self, n: Tensor, extra: dict[str, Any], **kwargs: Any) -> Tensor:
        """`attn2_output_patch`: another text's cross-attention on the target's own queries."""
        place, tokens = _place(extra), extra.pop(self._query, None)
        weight = self._weight(place, extra)
        context = self._context(place, n, extra) if weight and tokens is not None else None
        if context is None:
            return n
        attention, parts = self._blocks[place].attn2, tokens.chunk(len(extra["cond_or_uncond"]))
        grid = _attention_grid(extra)

        def change(x: Tensor, number: int, part: Part) -> Tensor:
            query = attention.to_q(parts[number][part.pictures])
            difference = context_difference(query, *context, attention.heads)
            projected = attention.to_out(difference) - attention.to_out(torch.zeros_like(difference[:1, :1]))
            return fusion.add_change(x, projected, Target(grid), self._settings, weight, self._at(part.mask, part, grid, x))

        return self._change(n, extra, change)

    def _weight(self, place: str, to: dict[str, Any]) -> float:
        """lambda_eff w(sigma); 0 at places that are not changed."""
        run = to.get(RUN)
        if place not in self._places or run is None:
            return 0.0
        return guidance_weight(self._settings.strength_at(place), run.cfg) * self._window(run)

    def _window(self, run: Run) -> float:
        """w(sigma), computed once for an evaluation and not at every place."""
        if self._evaluation is None or self._evaluation[0] is not run:
            weight, told = step_weight(run.sigma, run.schedule, *self._range)
            if told:
                self._tell(told)
            self._evaluation = run, weight
        return self._evaluation[1]

    def _donor(self, place: str, x: Tensor, to: dict[str, Any]) -> Donor | None:
        """The features for a place on the device of `x`, or None where they change nothing; looked up and moved once for each sigma."""
        run: Run = to[RUN]
        sigma, found = run.kept.get(id(self), (None, {}))
        if sigma != run.sigma:
            found = {}
            run.kept[id(self)] = run.sigma, found
        key = place, x.device
        if key not in found:
            donor = self._bank.donor(place, run.sigma)
            if donor is None:
                self._tell(f"the features have nothing for sigma {run.sigma:.3g} at {place}; nothing is changed there")
            equal = donor is not None and donor.neutral is not None and torch.equal(donor.neutral, donor.expression)
            found[key] = None if donor is None or equal else donor.to(x.device)._replace(distinct=True)
        return found[key]

    def _context(self, place: str, x: Tensor, to: dict[str, Any]) -> Context | None:
        """Keys and values for a place on the device of `x`, or None where they change nothing; moved once for each sampler."""
        kept, key = to[RUN].kept, (id(self), place, x.device)
        if key not in kept:
            context = self._bank.context(place)
            kept[key] = None if context is None or context.equal else Context(*(part.to(x.device) for part in context))
        return kept[key]

    def _tell(self, what: str) -> None:
        if not self._told:
            logging.warning("Attention-Focused Fusion: %s", what)
        self._told.add(what)

    def _fuse(self, x: Tensor, place: str, grid: Grid, to: dict[str, Any]) -> Tensor:
        weight = self._weight(place, to)
        donor = self._donor(place, x, to) if weight else None
        if donor is None:
            return x

        def change(rows: Tensor, _: int, part: Part) -> Tensor:
            target = Target(grid, self._at(part.regions, part, grid, x))
            return fusion.fuse(rows, donor, target, self._settings, weight, self._at(part.mask, part, grid, x))

        return self._change(x, to, change)

    def _at(self, where: Tensor | None, part: Part, grid: Grid, x: Tensor) -> Tensor | None:
        """A mask, or a map of regions, over the part's area, at the size of a grid and on the device of `x`."""
        if where is None:
            return None
        key = id(where), part.area, grid, x.device
        if key not in self._resized:
            cut = where if part.area is None else _cut(where, part.area)
            resized = grid_regions(cut, grid) if where is self._bank.regions else grid_mask(cut, grid)
            self._resized[key] = resized.to(x.device)
        return self._resized[key]

    def _change(self, x: Tensor, to: dict[str, Any], change: Callable[[Tensor, int, Part], Tensor]) -> Tensor:
        """`change(rows, number of the batch's part, which pictures)` on the conditional rows; `x` itself if that gives them all back."""
        conditional = _conditional(to)
        rows = list(x.chunk(len(conditional)))
        changed = False
        for number, (wanted, area) in enumerate(conditional):
            if not wanted:
                continue
            whole = rows[number]
            pieces = [(part, whole[part.pictures]) for part in self._parts(to[RUN], len(whole), area)]
            new = [(part, change(piece, number, part), piece) for part, piece in pieces]
            if all(after is before for _, after, before in new):
                continue
            rows[number], changed = whole.clone(), True
            for part, after, _ in new:
                rows[number][part.pictures] = after
        return torch.cat(rows) if changed else x

    def _parts(self, run: Run, count: int, area: Area | None) -> list[Part]:
        """The bank's own mask and regions hold for the picture that it was drawn for, or for the first of the same noise and size."""
        own = self._bank.mask if self._mask is None else self._mask, self._bank.regions
        if self._picture is not None:
            return [Part(slice(self._picture, self._picture + 1), *own, area)] if self._picture < count else []
        if run.seed is None or not same_place(self._bank, run.seed, *run.size):
            return [Part(slice(None), self._mask, None, area)]
        return [Part(slice(0, 1), *own, area), *([Part(slice(1, None), self._mask, None, area)] if count > 1 else [])]


def _cut(where: Tensor, area: Area) -> Tensor:
    """The area of a map [H, W], one pixel at the least."""
    rows, columns = where.shape
    top, left = min(round(area[0] * rows), rows - 1), min(round(area[2] * columns), columns - 1)
    return where[top : max(round(area[1] * rows), top + 1), left : max(round(area[3] * columns), left + 1)]


def attach_fusion(model: Any, bank: FeatureBank, settings: FusionSettings, mask: Tensor | None = None, picture: int | None = None) -> Any:
    """A clone of `model` with the features of `bank` fused into its conditional rows. `mask`: float [H, W] in 0..1 over the picture.

    `picture`: the one of the batch that the bank was drawn for, which alone is changed; None for all. At strength 0 the clone has no
    patch. Raises FaceExprError where bank, settings and model do not belong together.
    """
    places = fused_places(bank, settings, places_of(model, bank.site))
    if settings.strength == 0:
        return model.clone()
    clone = _with_run(model)
    patch = Fusion(bank, settings, mask, picture, _attention_blocks(model), places, _skips(model))
    if bank.site == "skip":
        clone.set_model_output_block_patch(patch.skip)
    elif bank.site == "cross_attention":
        clone.set_model_attn2_output_patch(patch.cross_attention)
    else:
        clone.set_model_attn2_patch(patch.note_query)
        clone.set_model_attn2_output_patch(patch.context_difference)
    return clone
