"""ComfyUI's KSampler, and guidance with a third conditioning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from torch import Tensor

from .conditioning import Conditioning

EMPTY_SCALES = ("downscale_ratio_spacial", "downscale_ratio_temporal")
"""What newer ComfyUI notes on an empty latent, for models whose latents have another scale."""


class Span(NamedTuple):
    """Which part of the node's progress a run is: steps done before it, and of all runs."""

    before: int
    total: int


def first_latent(model: Any, latent: dict[str, Any]) -> Tensor:
    """The samples of `latent` as KSampler takes them: an empty latent gets the channels and the size that MODEL has for such a picture."""
    scales = {name: latent[name] for name in EMPTY_SCALES if name in latent}
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"], **scales)


def sample(
    model: Any,
    positive: Conditioning,
    negative: Conditioning,
    latent: dict[str, Any],
    *,
    seed: int,
    steps: int,
    cfg: float,
    sampler: str,
    scheduler: str,
    denoise: float,
    guider: Any = None,
    span: Span | None = None,
) -> dict[str, Any]:
    """ComfyUI's KSampler, latent for latent; `guider` (a CFGGuider with its conditioning set) takes the place of plain CFG. `span`: where
    the run is one of several of the node."""
    if guider is None and span is None:
        from nodes import common_ksampler  # type: ignore[attr-defined]  # ComfyUI's nodes.py

        return common_ksampler(model, seed, steps, cfg, sampler, scheduler, positive, negative, latent, denoise=denoise)[0]
    if guider is None:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
    samples = first_latent(model, latent)
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    schedule = comfy.samplers.KSampler(
        model, steps, model.load_device, sampler=sampler, scheduler=scheduler, denoise=denoise, model_options=model.model_options
    )
    result = guider.sample(
        noise,
        samples,
        comfy.samplers.sampler_object(schedule.sampler),
        schedule.sigmas,
        latent.get("noise_mask"),
        latent_preview.prepare_callback(model, steps) if span is None else _callback(model, span),
        not comfy.utils.PROGRESS_BAR_ENABLED,
        seed,
    )
    rest = {name: value for name, value in latent.items() if name not in EMPTY_SCALES}
    return {**rest, "samples": result.to(comfy.model_management.intermediate_device())}


def _callback(model: Any, span: Span) -> Callable[[int, Tensor, Tensor, int], None]:
    told = latent_preview.prepare_callback(model, span.total)
    return lambda step, x0, x, _: told(span.before + step, x0, x, span.total)


class ExpressionGuider(comfy.samplers.CFGGuider):
    """Classifier-free guidance with a third, neutral conditioning (method: epsilon mode).

    `mix(D_n, D_e)` gives the conditional prediction from the neutral and the expression one. ComfyUI's denoised x - sigma eps is affine
    in eps, so a mix of weights that add to one means the same for both.
    """

    def __init__(
        self,
        model: Any,
        positive: Conditioning,
        negative: Conditioning,
        neutral: Conditioning,
        cfg: float,
        mix: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__(model)
        self.inner_set_conds({"positive": positive, "negative": negative, "neutral": neutral})
        self.set_cfg(cfg)
        self._mix = mix

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None) -> Tensor:
        options = {} if model_options is None else model_options

        def predict(conds: Sequence[Any], args: dict[str, Any]) -> Sequence[Tensor]:
            inner = options.get("sampler_calc_cond_batch_function")
            if inner is None:
                return comfy.samplers.calc_cond_batch(self.inner_model, list(conds), x, timestep, options)
            return inner({**args, "conds": list(conds), "model_options": options})

        def evaluate(args: dict[str, Any]) -> list[Tensor]:
            expression, unconditional = predict(args["conds"], args)
            # a call of its own: patches of other packs (IPAdapter, InstantID ...) know a first and a second kind of row, and no third
            neutral, _ = predict([self.conds["neutral"], None], args)
            return [self._mix(neutral, expression), unconditional]

        return super().predict_noise(x, timestep, {**options, "sampler_calc_cond_batch_function": evaluate}, seed)
