"""Donors drawn by a diffusers pipeline: its base model as a `donors.Host`, and the features it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import text
from ..fusion.bank import FeatureBank
from ..fusion.donor_faces import PhotoCrops, Picture
from ..fusion.donors import Donors, Which, donor_notes, own_features, photo_donors, recorder_for, text_donors
from ..fusion.grids import Grid
from ..fusion.recorder import Recorder
from ..fusion.run import Run
from ..fusion.settings import CONTEXT_SITE, FusionSettings, select_places
from . import encoding, sampling
from .fusion import Fusion, contexts, places_of, record
from .placement import bring, device_of

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline


@contextmanager
def without_loras(pipe: StableDiffusionXLPipeline) -> Iterator[None]:
    """The base model: every LoRA of the U-Net and of the text encoders is off, and afterwards as it was."""
    try:
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:  # without peft there are no LoRAs
        yield
        return
    parts = (pipe.unet, pipe.text_encoder, pipe.text_encoder_2)
    layers = [module for part in parts for module in part.modules() if isinstance(module, BaseTunerLayer)]
    were_off = [layer.disable_adapters for layer in layers]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer, off in zip(layers, were_off, strict=True):
            layer.enable_adapters(not off)


class PipelineHost:
    """`donors.Host` on a pipeline whose LoRAs are off: neutral and expression's prompt, and features of a site to a recorder."""

    def __init__(
        self,
        pipe: StableDiffusionXLPipeline,
        prompt: text.ExpressionPrompt,
        recorder: Recorder,
        run: Run,
        layers: str = "all",
        on_call: Callable[[], None] | None = None,
    ) -> None:
        neutral, expression = encoding.embed_expression(pipe, prompt)
        self._texts: dict[Which, tuple[Tensor, Tensor]] = {"n": neutral, "e": expression}
        self._negative = lru_cache(partial(encoding.encode_prompts, pipe, [run.negative]))
        self._pipe, self._recorder, self._cfg, self._on_call = pipe, recorder, run.cfg, on_call
        self._places = select_places(recorder.site, layers, places_of(pipe.unet, recorder.site))

    def predict(self, x: Tensor, sigma: float, which: Which, record: int | None = None) -> Tensor:
        negative, conditional = self._evaluate(x, sigma, [self._negative(), self._texts[which]], which, record).chunk(2)
        return negative + self._cfg * (conditional - negative)

    def observe(self, x: Tensor, sigma: float, which: Which, record: int) -> None:
        self._evaluate(x, sigma, [self._texts[which]], which, record)

    def record_contexts(self) -> None:
        bring(self._pipe, ("unet",))
        unet = self._pipe.unet
        for which, (hidden, _) in self._texts.items():
            for place, keys, values in contexts(unet, self._places, hidden.to(unet.device, unet.dtype)):
                self._recorder.add(place, None, f"{which}:k", keys)
                self._recorder.add(place, None, f"{which}:v", values)

    def encode(self, picture: Picture) -> Tensor:
        return encoding.encode_images(self._pipe, torch.tensor(picture)[None])

    def decode(self, latent: Tensor) -> Picture:
        return encoding.decode_latents(self._pipe, latent)[0].numpy()

    def _evaluate(self, x: Tensor, sigma: float, texts: Sequence[tuple[Tensor, Tensor]], which: Which, index: int | None) -> Tensor:
        """The noise predicted for each text; features of the last one's row are recorded."""
        hidden, pooled = zip(*texts, strict=True)
        predict = partial(
            sampling.predict_epsilon,
            self._pipe,
            x.repeat(len(texts), 1, 1, 1),
            sigma,
            encoding.stack_texts(hidden),
            torch.cat(pooled),
        )
        if self._on_call is not None:
            self._on_call()
        if index is None:
            return predict()

        def add(place: str, features: Tensor, grid: Grid) -> None:
            self._recorder.add(place, index, which, features[-1:], grid)

        with record(self._pipe.unet, self._recorder.site, self._places, add):
            return predict()


def draw_donors(
    pipe: StableDiffusionXLPipeline,
    prompt: text.ExpressionPrompt,
    settings: FusionSettings,
    run: Run,
    crops: PhotoCrops | None = None,
    *,
    neutral: str = "drawn",
    moved: Sequence[str] = (),
    model: str = "",
    expression: str = "",
    keep: str = "face",
    levels: int | None = None,
    on_call: Callable[[], None] | None = None,
) -> Donors:
    """Features by the base model: of text twins (`donors.text_donors`), for what `generate` draws with the same run, from its first noise;
    or of a photograph's `crops` (`donors.photo_donors`, with `neutral`), whose side is the donor's size, the run's seed its one noise.

    `model` and `expression` are names to note in the bank; `keep` and `levels` as in `donors.recorder_for`.
    """
    sigmas, source = sampling.schedule_of(pipe, run), "text"
    if crops is not None:
        side, source = crops.photo.shape[0], "photo"
        run = replace(run, width=side, height=side)
    recorder = recorder_for(settings, sigmas, keep, levels)
    notes = _notes(prompt, run, source, model=model, expression=expression)
    with without_loras(pipe), torch.no_grad():
        host = PipelineHost(pipe, prompt, recorder, run, settings.layers, on_call)
        start = sampling.first_latents(run, 1, sigmas[0] if crops is None else 0.0).to(device_of(pipe))
        if crops is None:
            return text_donors(host, recorder, start, sigmas, moved=moved, notes=notes)
        return photo_donors(host, recorder, crops, start, neutral=neutral, moved=moved, notes=notes)


def own_donors(
    pipe: StableDiffusionXLPipeline,
    prompt: text.ExpressionPrompt,
    settings: FusionSettings,
    run: Run,
    count: int = 1,
    *,
    moved: Sequence[str] = (),
) -> tuple[list[Fusion], list[str]]:
    """What `generate` fuses when it is given no features: those of words (`donors.own_features`), and what there is to tell of them.

    At the site `cross_attention_difference` one fusion serves all pictures, and their faces are looked for in their own steps; at other
    sites twins are drawn from each picture's own noise.
    """
    sigmas = sampling.schedule_of(pipe, run)
    notes = _notes(prompt, run, "text")

    def features(start: Tensor) -> tuple[FeatureBank, str]:
        recorder = recorder_for(settings, sigmas)
        with without_loras(pipe), torch.no_grad():
            host = PipelineHost(pipe, prompt, recorder, run, settings.layers)
            return own_features(host, recorder, start.to(device_of(pipe)), sigmas, moved=moved, notes=notes)

    starts = sampling.first_latents(run, count, sigmas[0]).split(1)
    if settings.site == CONTEXT_SITE:
        bank, _ = features(starts[0])
        return [Fusion(bank, settings, moved=tuple(moved))], []
    made = [features(start) for start in starts]
    fusions = [Fusion(bank, settings, bank.mask, bank.regions, picture) for picture, (bank, _) in enumerate(made)]
    return fusions, [report for _, report in made]


def _notes(prompt: text.ExpressionPrompt, run: Run, source: str, model: str = "", expression: str = "") -> dict[str, str]:
    return donor_notes(
        model=model,
        expression=expression,
        prompt=" | ".join(prompt.expressions),
        neutral=prompt.neutral,
        source=source,
        width=run.width,
        height=run.height,
        seed=run.seed,
        steps=str(run.steps),
        cfg=f"{run.cfg:g}",
    )
