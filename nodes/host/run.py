"""What ComfyUI's samplers tell the patches of a MODEL, and where those patches stand.

All state of a run travels in `transformer_options`, which ComfyUI hands to every patch: `RUN` says which evaluation this is, `RECORD` that
it is to be recorded, `UNET` which network runs. So it does not matter how often a sampler, or another pack, calls the model, nor on which
of its clones; and when the sampler ends nothing is left.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import comfy.patcher_extension
from torch import Tensor

from ...faceexpr_core.fusion.donor_faces import Picture
from ...faceexpr_core.fusion.injection import Area, Call
from .encoding import decode_latents
from .loading import bring_back
from .pixels import to_bytes
from .predictions import noise_level
from .progress import say_and_keep, show
from .rows import Row, conditional_entries, rows_of
from .spots import SPOT, Spot

RUN, RECORD, SESSION, UNET = "faceexpr_run", "faceexpr_record", "faceexpr_session", "faceexpr_unet"
COMPILED = "torch.compile"
"""ComfyUI's key of the wrapper by which a compiled MODEL runs."""
CFG, SAME_LEVEL = "cfg", 1e-4
CONDITIONAL = 0
"""ComfyUI's number of the positive conditioning in `cond_or_uncond`."""
CLEAN = 0.3
"""Noise level up to which a picture is seen through its noise (ours): on four pictures of Mini the mask of mouth and eyes overlaps with the
finished picture's by 0.94 to 0.99 at 0.3, by 0.72 to 0.97 at 0.5, and at 1 a face was not found. Measured once,
before `lab.benchmarks.seen_faces` could repeat it."""


class Session:
    """One run of a sampler; not a dict, which ComfyUI would copy at every evaluation.

    `free`: where the pictures are drawn at all (a noise mask), None for everywhere. `clean`: the latest estimate [B, 4, h, w] of the
    clean latents, at first `start`, the latents given (None where they are empty), but not where the run is `continued`: those are noisy.
    `noise` [B, 4, h, w]: the first, before any scaling; `sampler`: ComfyUI's object that draws.
    `kept`: what patches keep until the sampler ends; `at_end` is called with its result.
    """

    def __init__(
        self,
        guider: Any,
        schedule: tuple[float, ...],
        start: Tensor | None,
        free: Tensor | None = None,
        continued: bool = False,
        noise: Tensor | None = None,
        sampler: Any = None,
    ) -> None:
        self.guider, self.schedule, self.start, self.free, self.continued = guider, schedule, start, free, continued
        self.noise, self.sampler = noise, sampler
        self.clean = None if continued else start
        self.moved = False
        self.kept: dict[Any, Any] = {}
        self.at_end: dict[Any, Callable[[Tensor], None]] = {}

    def decode(self, vae: Any, latent: Tensor) -> Picture:
        """The picture [8h, 8w, 3] of a latent [1, 4, h, w] in the model's scale, which the node shows. The VAE may have moved the model off
        its device: `bring_back` before it runs again. Not while the network runs: loading it takes the hooks of the text that is evaluated
        off its weights."""
        self.moved = True
        drawn = decode_latents(self.guider.model_patcher, vae, latent)[0]
        picture = to_bytes(drawn)
        show(picture)
        return picture

    def bring_back(self, shape: Sequence[int]) -> None:
        """The model on its device, to draw latents of this shape."""
        if self.moved:
            bring_back(self.guider, shape)
        self.moved = False


class Run(NamedTuple):
    """One evaluation of the model by a sampler. `positive`: the ids of the conditional entries; empty where the guider has none.
    `pictures`: how many, each of which has a row for each entry."""

    call: Call
    positive: Mapping[Any, Row]
    size: tuple[int, int]
    """(width, height) of the pictures."""
    session: Session
    pictures: int = 1
    spot: Spot | None = None
    """Where only a part of a picture is drawn."""


class Record(NamedTuple):
    """Where the features of this evaluation go."""

    position: int
    which: str


def note_sampler(
    executor: Any,
    guider: Any,
    sigmas: Tensor,
    extra_args: dict[str, Any],
    callback: Any,
    noise: Any,
    latent: Any = None,
    mask: Any = None,
    *rest: Any,
    **more: Any,
) -> Tensor:
    """A session for a run of a sampler, and ids of their own for the conditional entries: where a conditioning has an area, ComfyUI puts a
    copy of it, id and all, among the others."""
    for entry in conditional_entries(guider):
        entry["uuid"] = uuid.uuid4()
    start = latent if latent is not None and bool(latent.count_nonzero()) else None
    schedule = tuple(_level(guider, sigma) for sigma in sigmas.tolist())
    left_over = start is not None and not bool(noise.count_nonzero()) and schedule[0] > CLEAN
    continued = left_over and not getattr(executor.class_obj, "makes_its_noise", False)
    session = Session(guider, schedule, start, mask, continued, noise, executor.class_obj)
    transformer = extra_args["model_options"].setdefault("transformer_options", {})
    transformer[SESSION] = session
    try:
        drawn: Tensor = executor(guider, sigmas, extra_args, callback, noise, latent, mask, *rest, **more)
        for remember in session.at_end.values():
            remember(drawn)
    finally:
        transformer.pop(SESSION, None)
        session.kept.clear()
        session.at_end.clear()
        session.start = session.clean = session.free = session.noise = session.guider = session.sampler = None
    return drawn


def note_run(
    executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None, **kwargs: Any
) -> Tensor:
    """Tell the patches which evaluation this is, and keep what it estimates."""
    guider, options = executor.class_obj, {} if model_options is None else model_options
    transformer = options.get("transformer_options", {})
    session = transformer.get(SESSION)
    if session is None:
        return executor(x, timestep, options, seed, **kwargs)
    sigma = float(timestep.flatten()[0])
    level = _level(guider, sigma)
    run = Run(
        Call(level, _cfg(guider, level, session), session.schedule, session.kept, session.continued),
        positive=rows_of(conditional_entries(guider), x, sigma, session.kept),
        size=(8 * x.shape[-1], 8 * x.shape[-2]),
        session=session,
        pictures=len(x),
        spot=transformer.get(SPOT),
    )
    watching = _watching(transformer, run)
    if watching and session.continued and session.clean is None:
        session.clean = executor(x, timestep, options, seed, **kwargs)  # unfused: nobody has said yet where the face is
    for fusion in watching:
        fusion.look(run)
    session.bring_back(x.shape)
    told = {**_uncompiled(transformer, session), RUN: run}
    session.clean = executor(x, timestep, {**options, "transformer_options": told}, seed, **kwargs)
    return session.clean


def _uncompiled(transformer: dict[str, Any], session: Session) -> dict[str, Any]:
    """Without torch.compile's wrapper: ComfyUI has it keep a graph whatever patches come, so that one drawn without them stays without."""
    kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
    wrappers = transformer.get("wrappers", {})
    if COMPILED not in wrappers.get(kind, {}):
        return transformer
    if COMPILED not in session.kept:
        session.kept[COMPILED] = True
        logging.info("FaceExpr: the MODEL is compiled; what is fused or recorded is drawn uncompiled")
    others = {key: wrapper for key, wrapper in wrappers[kind].items() if key != COMPILED}
    return {**transformer, "wrappers": {**wrappers, kind: others}}


def _level(guider: Any, sigma: float) -> float:
    """A noise level as windows, features and the looks for the face count it (`noise_level`)."""
    sampling = getattr(getattr(guider, "inner_model", None), "model_sampling", None)
    return sigma if sampling is None else noise_level(sampling, sigma)


def _cfg(guider: Any, level: float, session: Session) -> float:
    """The guider's cfg at a noise level, by which fusions reduce their strength: DualCFGGuider's of the conditional prediction, and of a
    list, as other packs have one, that of the step. 1 where it is no number, which reduces nothing and is told once a run."""
    given = getattr(guider, "cfg1", getattr(guider, "cfg", 1.0))
    if isinstance(given, (list, tuple)) and given:
        step = sum(level <= (1 + SAME_LEVEL) * one for one in session.schedule) - 1
        given = given[min(max(step, 0), len(given) - 1)]
    if isinstance(given, Real) or (isinstance(given, Tensor) and given.numel() == 1):
        return float(given)
    if CFG not in session.kept:
        session.kept[CFG] = True
        told = "the guider's cfg is no number, so that above 5 the strength is not reduced for it. Lower it if too much is changed"
        warn(told)
    return 1.0


def warn(what: str) -> None:
    """A line about the fusion, in the log and on the node that samples."""
    logging.warning("Attention-Focused Fusion: %s", what)
    say_and_keep(f"fusion: {what}")


def note_unet(executor: Any, *arguments: Any, **named: Any) -> Tensor:
    """Tell the patches which network runs: with hooks, or on several devices, it need not be that of the MODEL in the graph. And let ours
    see what goes into an attention before other packs do, and what comes out of it after them: some divide its rows in between."""
    for options in (*arguments, *named.values()):
        if isinstance(options, dict) and RUN in options:
            options[UNET] = executor.class_obj
            options["patches"] = _outermost(options.get("patches", {}))
    return executor(*arguments, **named)


def _outermost(patches: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    def is_ours(patch: Any) -> bool:
        return bool(getattr(getattr(patch, "__self__", None), "outermost", False))

    given = dict(patches)
    for name, ours_first in (("attn2_patch", True), ("attn2_output_patch", False)):
        if name in given:
            given[name] = sorted(given[name], key=lambda patch: is_ours(patch) != ours_first)
    return given


def _watching(transformer: dict[str, Any], run: Run) -> list[Any]:
    """The owners of patches that will ask where the face is at this evaluation."""
    patches = (patch for alike in transformer.get("patches", {}).values() for patch in alike)
    owners = {id(owner): owner for patch in patches if (owner := getattr(patch, "__self__", None)) is not None}
    return [owner for owner in owners.values() if hasattr(owner, "looks") and owner.looks(run)]


def with_run(model: Any) -> Any:
    """A clone of `model` whose patches are told of each evaluation."""
    clone, kinds = model.clone(), comfy.patcher_extension.WrappersMP
    for kind, wrapper in ((kinds.SAMPLER_SAMPLE, note_sampler), (kinds.PREDICT_NOISE, note_run), (kinds.DIFFUSION_MODEL, note_unet)):
        if not clone.get_wrappers(kind, RUN):
            clone.add_wrapper_with_key(kind, RUN, wrapper)
    return clone


def place_of(extra: dict[str, Any]) -> str:
    """`output.3`, and inside a transformer `output.3.0`."""
    name, number = extra["block"]
    return f"{name}.{number}" if "n_heads" not in extra else f"{name}.{number}.{extra['block_index']}"


def attention_grid(extra: dict[str, Any]) -> tuple[int, int]:
    """Height and width in tokens of what an attention is given."""
    height, width = extra["activations_shape"][-2:]
    return int(height), int(width)


def conditional_rows(to: dict[str, Any]) -> list[Row | None]:
    """For each equal part of the batch the conditional entry that it is, or None."""
    kinds, positive = to["cond_or_uncond"], to[RUN].positive
    ids = to.get("uuids")
    if not positive or ids is None:
        return [Row() if kind == CONDITIONAL else None for kind in kinds]
    return [positive.get(name) for name in ids]


def is_whole(to: dict[str, Any], area: Area | None) -> bool:
    """Whether the network is given pictures of the size of the sampler's, or of an area of them, and no tiles."""
    given, (width, height) = to.get("original_shape"), to[RUN].size
    top, bottom, left, right = area or (0.0, 1.0, 0.0, 1.0)
    return given is None or tuple(given[-2:]) == (round((bottom - top) * height / 8), round((right - left) * width / 8))


# Places


def places_of(model: Any, site: str) -> list[str]:
    """Every place of the model's U-Net where the site may be recorded and changed."""
    if site == "skip":
        return [f"input.{number}" for number in range(skips_of(model))]
    return list(attention_blocks(model.get_model_object("diffusion_model")))


def skips_of(model: Any) -> int:
    """How many skip connections the model's U-Net has."""
    return len(model.get_model_object("diffusion_model").input_blocks)


def attention_blocks(unet: Any) -> dict[str, Any]:
    """ComfyUI's BasicTransformerBlocks by place."""
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


def running_blocks(to: dict[str, Any]) -> dict[str, Any]:
    """The same of the network that runs."""
    run: Run = to[RUN]
    key = attention_blocks, id(to[UNET])
    if key not in run.call.kept:
        run.call.kept[key] = attention_blocks(to[UNET])
    blocks: dict[str, Any] = run.call.kept[key]
    return blocks
