"""A face of a picture drawn over by a diffusers pipeline: its model as a `redraw.Host`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from ..fusion.run import Run, check_steps
from ..fusion.settings import MAX_STRENGTH, require_between, words_settings
from ..text import ExpressionPrompt
from . import encoding, sampling
from .donors import own_donors
from .fusion import Fusion, Rows, apply_fusion
from .placement import device_of

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline


@dataclass(frozen=True)
class Redrawing:
    """How faces are drawn over; the defaults are the node's. Raises FaceExprError for values out of range."""

    strength: float = STRENGTH
    steps: int = STEPS
    cfg: float = GUIDANCE
    denoise: float = DENOISE
    negative: str = ""

    def __post_init__(self) -> None:
        require_between("strength", self.strength, 0, MAX_STRENGTH)
        check_steps(self.steps, self.cfg)
        if not 0 < self.denoise <= 1:
            raise FaceExprError(f"the denoise is {self.denoise:g}; it must lie above 0 and up to 1.")

    def sigmas(self, pipe: StableDiffusionXLPipeline) -> tuple[float, ...]:
        """The last `steps` steps of a schedule of steps / denoise, as KSampler takes them."""
        return tuple(sampling.normal_schedule(pipe, int(self.steps / self.denoise))[-(self.steps + 1) :].tolist())


class RedrawHost:
    """`redraw.Host` on a pipeline, its LoRAs as they are; `fusing` is entered around its evaluations."""

    def __init__(
        self,
        pipe: StableDiffusionXLPipeline,
        words: Words,
        how: Redrawing,
        sigmas: tuple[float, ...],
        on_call: Callable[[], None] | None,
    ) -> None:
        said = ([] if how.cfg == 1 else [how.negative]) + [words.asked.neutral]
        hidden, pooled = zip(*(encoding.encode_prompts(pipe, [one]) for one in said), strict=True)
        self._texts = encoding.stack_texts(hidden), torch.cat(pooled)
        self._pipe, self._cfg, self._on_call = pipe, how.cfg, on_call
        self._acting: dict[Which, Rows] = {which: Rows((), cfg=how.cfg, schedule=sigmas) for which in ("n", "e")}

    @contextmanager
    def fusing(self, fusions: Mapping[Which, Fusion | None]) -> Iterator[None]:
        """Each fusion in the evaluations of its own name; what it needs on the device stays there meanwhile."""
        with ExitStack() as stack:
            for which, fusion in fusions.items():
                if fusion is not None:
                    stack.enter_context(apply_fusion(self._pipe.unet, fusion, self._acting[which]))
            yield

    def predict(self, x: Tensor, sigma: float, which: Which) -> Tensor:
        if self._on_call is not None:
            self._on_call()
        hidden, pooled = self._texts
        for name, rows in self._acting.items():
            rows.conditional = (len(pooled) - 1,) if name == which else ()
            rows.at(sigma)
        noise = sampling.predict_epsilon(self._pipe, x.repeat(len(pooled), 1, 1, 1), sigma, hidden, pooled)
        if len(pooled) == 1:
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
    host = RedrawHost(pipe, words, how, sigmas, on_call)
    with host.fusing(fusions):
        drawn = draw(host, latent.to(device_of(pipe)), sigmas, mask, meant.weight)
    before, after = (np.asarray(encoding.decode_latents(pipe, one)[0].numpy() / 255, np.float32) for one in (latent, drawn))
    return paste_change(picture, cut, before, after)
