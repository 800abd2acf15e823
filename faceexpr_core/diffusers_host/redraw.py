"""A face of a picture drawn over by a diffusers pipeline: its model as a `redraw.Host`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import FaceExprError
from ..faces.change import FaceCut, FloatPicture, paste_change
from ..fusion.donor_faces import location_of
from ..fusion.donors import Which
from ..fusion.redraw import Words, acting_regions, redraw, strengths
from ..fusion.redraw_settings import DENOISE, GUIDANCE, STEPS, STRENGTH
from ..fusion.settings import words_settings
from ..text import ExpressionPrompt
from . import encoding, sampling
from .donors import Run, own_donors
from .fusion import Fusion, Rows, apply_fusion
from .placement import device_of

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline


@dataclass(frozen=True)
class Redrawing:
    """How faces are drawn over; the defaults are the node's."""

    strength: float = STRENGTH
    steps: int = STEPS
    cfg: float = GUIDANCE
    denoise: float = DENOISE
    negative: str = ""

    def sigmas(self, pipe: StableDiffusionXLPipeline) -> tuple[float, ...]:
        """The last `steps` steps of a schedule of steps / denoise, as KSampler takes them. Raises FaceExprError where there is none."""
        if not 0 < self.denoise <= 1 or self.steps < 1:
            raise FaceExprError(f"steps {self.steps} and denoise {self.denoise:g}: at least 1 step, and a denoise above 0 and up to 1.")
        return tuple(sampling.normal_schedule(pipe, int(self.steps / self.denoise))[-(self.steps + 1) :].tolist())


class RedrawHost:
    """`redraw.Host` on a pipeline, its LoRAs as they are."""

    def __init__(
        self,
        pipe: StableDiffusionXLPipeline,
        words: Words,
        fusions: dict[Which, Fusion | None],
        how: Redrawing,
        sigmas: tuple[float, ...],
        on_call: Callable[[], None] | None,
    ) -> None:
        self._neutral = encoding.encode_prompts(pipe, [words.asked.neutral])
        self._negative = None if how.cfg == 1 else encoding.encode_prompts(pipe, [how.negative])
        self._pipe, self._fusions, self._cfg, self._sigmas, self._on_call = pipe, fusions, how.cfg, sigmas, on_call

    def predict(self, x: Tensor, sigma: float, which: Which) -> Tensor:
        if self._on_call is not None:
            self._on_call()
        texts = [self._neutral] if self._negative is None else [self._negative, self._neutral]
        hidden, pooled = zip(*texts, strict=True)
        rows = Rows((len(texts) - 1,), (0,), self._cfg, self._sigmas, sigma)
        fusion = self._fusions[which]
        with nullcontext() if fusion is None else apply_fusion(self._pipe.unet, fusion, rows):
            noise = sampling.predict_epsilon(
                self._pipe, x.repeat(len(texts), 1, 1, 1), sigma, encoding.stack_texts(hidden), torch.cat(pooled)
            )
        if self._negative is None:
            return noise
        negative, conditional = noise.chunk(2)
        return negative + self._cfg * (conditional - negative)


@torch.no_grad()
def change_face(
    pipe: StableDiffusionXLPipeline,
    picture: FloatPicture,
    cut: FaceCut,
    words: Words,
    shown: str,
    moved: Sequence[str],
    how: Redrawing,
    on_call: Callable[[], None] | None = None,
    draw: Callable[[RedrawHost, Tensor, Sequence[float], Tensor, float], Tensor] = redraw,
) -> FloatPicture:
    """The picture [H, W, 3] with the face of `cut` drawn over; `shown` is what it shows now, `moved` the regions that `words.asked` moves.

    The expression is said by the base model (LoRAs off), the face drawn with them on. At strength 0 the picture itself. `draw` makes the
    latent afterwards (see `redraw`).
    """
    if how.strength == 0:
        return picture
    side, sigmas = cut.crop.shape[0], how.sigmas(pipe)
    mask = location_of(cut.placed, side, side, acting_regions(shown, moved)).mask
    assert mask is not None

    def fused(said: ExpressionPrompt, strength: float) -> Fusion | None:
        if said.expressions == (said.neutral,):
            return None
        settings = words_settings(strength)
        run = Run(0, how.steps, how.cfg, side, side, how.negative, sigmas)
        (own,), _ = own_donors(pipe, said, settings, run)
        return replace(own, mask=mask, moved=None)

    meant = strengths(how.strength, words)
    fusions: dict[Which, Fusion | None] = {"e": fused(words.asked, meant.asked), "n": fused(words.shown, meant.shown)}
    latent = encoding.encode_images(pipe, torch.from_numpy(cut.crop)[None])
    drawn = draw(RedrawHost(pipe, words, fusions, how, sigmas, on_call), latent.to(device_of(pipe)), sigmas, mask, meant.weight)
    before, after = (np.asarray(encoding.decode_latents(pipe, one)[0].numpy() / 255, np.float32) for one in (latent, drawn))
    return paste_change(picture, cut, before, after)
