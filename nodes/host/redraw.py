"""A latent drawn over with another expression, inside one of ComfyUI's sampling sessions."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...faceexpr_core.errors import FaceExprError
from ...faceexpr_core.fusion.bank import FeatureBank
from ...faceexpr_core.fusion.recorder import Recorder
from ...faceexpr_core.fusion.redraw import redraw, redraw_evaluations
from ...faceexpr_core.fusion.settings import CONTEXT_SITE, FusionSettings
from .conditioning import Conditioning
from .donors import DonorHost, TwinGuider, run_session, schedule_of
from .fusion import attach_fusion
from .predictions import require_added_noise
from .texts import TAG


class Redrawing(NamedTuple):
    """How faces are drawn over: by `model`, from the noise of `sigmas`; `negative` is what is avoided, where cfg is not 1."""

    model: Any
    negative: Conditioning
    cfg: float
    sigmas: Tensor


Fused = tuple[FeatureBank, FusionSettings]
ASKED, SHOWN = 0, 1


class Change(NamedTuple):
    """What becomes of one latent [1, 4, h, w] (of the VAE's scale) on a neutral text. `asked` and `shown`: features of what it is to show
    and of what it shows, with how strongly; None for a neutral face. `mask` float [H, W]: where the latent may change. `weight`: of the
    difference of the two, see `redraw`."""

    latent: Tensor
    mask: Tensor
    neutral: Conditioning
    asked: Fused | None
    shown: Fused | None
    weight: float = 1.0


def redrawing(model: Any, negative: Conditioning, cfg: float, steps: int, scheduler: str, denoise: float, node: str) -> Redrawing:
    """Raises FaceExprError, which names the `node`, for a MODEL that is sampled as a flow, and where denoise leaves no step."""
    require_added_noise(model, node)
    sigmas = schedule_of(model, steps, "euler", scheduler, denoise)
    if len(sigmas) < 2:
        raise FaceExprError(f"denoise {denoise:g} with {steps} steps draws no step; raise denoise.")
    return Redrawing(model, negative, cfg, sigmas)


def redraw_latent(how: Redrawing, change: Change, number: int = 0, count: int = 1) -> Tensor:
    """The latent [1, 4, h, w] afterwards, in the VAE's scale; progress counts `count` such calls, of which this is `number`."""
    model = how.model
    for tag, fused in ((ASKED, change.asked), (SHOWN, change.shown)):
        if fused is not None:
            model = attach_fusion(model, *fused, change.mask[None], tag=tag)
    asked, shown = ([[hidden, {**extra, TAG: tag}] for hidden, extra in change.neutral] for tag in (ASKED, SHOWN))
    guider = TwinGuider(model, asked, shown, how.negative, how.cfg)
    once = redraw_evaluations(len(how.sigmas) - 1)
    made: list[Tensor] = []

    def work(lent: DonorHost) -> None:
        made.append(redraw(lent, lent.start, how.sigmas.tolist(), change.mask, change.weight))

    latent = {"samples": change.latent}
    recording = Recorder(CONTEXT_SITE), ()
    run_session(guider, latent, torch.zeros_like(change.latent), how.sigmas, None, count * once, recording, work, number * once)
    return model.model.process_latent_out(made[0].cpu())
