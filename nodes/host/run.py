"""What ComfyUI's samplers tell the patches of a MODEL, and where those patches stand.

All state of a run travels in `transformer_options`, which ComfyUI hands to every patch: `RUN` says which evaluation this is, `RECORD` that
it is to be recorded. So it does not matter how often a sampler, or another pack, calls the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import comfy.patcher_extension
from torch import Tensor

from ...faceexpr_core.fusion.injection import Area, Call

RUN, RECORD, KEPT = "faceexpr_run", "faceexpr_record", "faceexpr_kept"
CONDITIONAL = 0
"""ComfyUI's number of the positive conditioning in `cond_or_uncond`."""


class Run(NamedTuple):
    """One evaluation of the model by a sampler."""

    call: Call
    positive: Mapping[Any, Area | None]
    """The ids of the positive conditioning's entries, with their areas (each is computed on that cut-out alone); empty where the guider has
    none."""
    seed: int | None
    size: tuple[int, int]
    """(width, height) of the pictures."""


class Record(NamedTuple):
    """Where the features of this evaluation go."""

    position: int
    which: str


def note_run(
    executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None, **kwargs: Any
) -> Tensor:
    guider, options = executor.class_obj, {} if model_options is None else model_options
    transformer = options.get("transformer_options", {})
    sigmas = transformer.get("sample_sigmas")
    positive = (getattr(guider, "conds", None) or {}).get("positive") or ()
    # not a dict in transformer_options, which ComfyUI would copy at every evaluation
    kept = transformer.setdefault(KEPT, _Kept())
    if kept.schedule is None:
        kept.schedule = () if sigmas is None else tuple(sigmas.tolist())
    run = Run(
        Call(float(timestep.flatten()[0]), float(getattr(guider, "cfg", 1.0)), kept.schedule, kept.of_sampler),
        positive={entry["uuid"]: _area(entry, x) for entry in positive if "uuid" in entry},
        seed=seed,
        size=(8 * x.shape[-1], 8 * x.shape[-2]),
    )
    return executor(x, timestep, {**options, "transformer_options": {**transformer, RUN: run}}, seed, **kwargs)


class _Kept:
    def __init__(self) -> None:
        self.of_sampler: dict[Any, Any] = {}
        self.schedule: tuple[float, ...] | None = None


def _area(entry: dict[str, Any], x: Tensor) -> Area | None:
    """As ComfyUI's `get_area_and_mult` cuts it out: (h, w, y, x) in latent pixels, ended by the picture."""
    area = entry.get("area")
    if area is None:
        return None
    (height, width, top, left), (rows, columns) = area, x.shape[-2:]
    return top / rows, min(top + height, rows) / rows, left / columns, min(left + width, columns) / columns


def with_run(model: Any) -> Any:
    """A clone of `model` whose patches are told of each evaluation."""
    clone = model.clone()
    kind = comfy.patcher_extension.WrappersMP.PREDICT_NOISE
    if not clone.get_wrappers(kind, RUN):
        clone.add_wrapper_with_key(kind, RUN, note_run)
    return clone


def place_of(extra: dict[str, Any]) -> str:
    """`output.3`, and inside a transformer `output.3.0`."""
    name, number = extra["block"]
    return f"{name}.{number}" if "n_heads" not in extra else f"{name}.{number}.{extra['block_index']}"


def attention_grid(extra: dict[str, Any]) -> tuple[int, int]:
    height, width = extra["activations_shape"][-2:]
    return int(height), int(width)


def conditional_parts(to: dict[str, Any]) -> list[tuple[bool, Area | None]]:
    """For each equal part of the batch, whether its rows are conditional, and the area of the picture that they are."""
    kinds, positive = to["cond_or_uncond"], to[RUN].positive
    ids = to.get("uuids")
    if not positive or ids is None:
        return [(kind == CONDITIONAL, None) for kind in kinds]
    return [(name in positive, positive.get(name)) for name in ids]


def places_of(model: Any, site: str) -> list[str]:
    """Every place of the model's U-Net where the site may be recorded and changed."""
    if site == "skip":
        return [f"input.{number}" for number in range(skips_of(model))]
    return list(attention_blocks(model))


def skips_of(model: Any) -> int:
    return len(model.get_model_object("diffusion_model").input_blocks)


def attention_blocks(model: Any) -> dict[str, Any]:
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
