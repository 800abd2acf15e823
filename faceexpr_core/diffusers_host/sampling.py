"""Drawing as ComfyUI does it (size ids, noise levels, noise), so that both hosts draw the same picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import text
from ..fusion.bank import FeatureBank
from ..fusion.donor_faces import Picture, moved_in
from ..fusion.donors import same_place
from ..fusion.look import Look
from ..fusion.run import Run
from ..fusion.settings import FusionSettings
from .encoding import decode_latents, embed_expression, encode_prompts, stack_texts
from .fusion import Fusion, Rows, apply_fusion
from .pipeline import prediction_of
from .placement import bring, fitting, sampling_room

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

ZERO_SNR = 4.8973451890853435e-08
"""What ComfyUI takes for abar = 0, where sigma has no end."""


def model_sigmas(pipe: StableDiffusionXLPipeline) -> Tensor:
    """Noise level of each training step, float32 [1000], rising: sigma = sqrt((1 - abar) / abar), the last of zero SNR as in ComfyUI."""
    kept = (1 - pipe.scheduler.betas.double()).cumprod(0)  # in single precision the lowest levels are off by 1e-4
    kept[-1].clamp_(min=ZERO_SNR)
    return ((1 - kept) / kept).sqrt().float()


def normal_schedule(pipe: StableDiffusionXLPipeline, steps: int) -> Tensor:
    """ComfyUI's `normal` schedule: sigmas float32 [steps + 1], falling to 0, evenly spaced in the training step, log-linear between."""
    logs = model_sigmas(pipe).log()
    positions = torch.linspace(len(logs) - 1, 0, steps)
    low, high = positions.floor().long(), positions.ceil().long()
    return torch.cat([torch.lerp(logs[low], logs[high], positions.frac()).exp(), torch.zeros(1)])


def schedule_of(pipe: StableDiffusionXLPipeline, run: Run) -> tuple[float, ...]:
    """The noise levels of a run, falling to 0."""
    return run.sigmas or tuple(normal_schedule(pipe, run.steps).tolist())


@torch.no_grad()
def predict_epsilon(pipe: StableDiffusionXLPipeline, x: Tensor, sigma: float, hidden: Tensor, pooled: Tensor) -> Tensor:
    """The U-Net's noise for x = z + sigma eps, float32 [B, 4, h, w]; hidden [B, T, C], pooled [B, P].

    A model of velocity says v = (eps - sigma z) / s with s = sqrt(sigma^2 + 1); eps = v / s + sigma x / s^2.
    Size ids are those ComfyUI uses when none are given: the picture's own size as original and target size, no crop.
    """
    bring(pipe, ("unet",), sampling_room(len(x), 8 * x.shape[2], 8 * x.shape[3]))
    unet = pipe.unet
    device, dtype = unet.device, unet.dtype  # asked once: diffusers looks through every module for each
    step = (model_sigmas(pipe).log() - math.log(sigma)).abs().argmin()
    height, width = 8 * x.shape[2], 8 * x.shape[3]
    sizes = torch.tensor([[height, width, 0, 0, height, width]]).repeat(len(x), 1)
    added = {"text_embeds": pooled.to(device, dtype), "time_ids": sizes.to(device, dtype)}
    scale = math.sqrt(sigma**2 + 1)
    scaled = (x / scale).to(device, dtype)
    predicted = unet(scaled, step.to(device), hidden.to(device, dtype), added_cond_kwargs=added).sample.float()
    if prediction_of(pipe)["prediction"] == "v_prediction":
        return predicted / scale + x.to(predicted.device) * (sigma / scale**2)
    return predicted


def generate(
    pipe: StableDiffusionXLPipeline,
    prompt: text.ExpressionPrompt,
    run: Run,
    *,
    count: int = 1,
    expression_scale: float | None = None,
    fusion: tuple[FeatureBank, FusionSettings] | list[Fusion] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Tensor:
    """Draw `count` pictures, uint8 [count, height, width, 3], with Euler on ComfyUI's `normal` schedule (or the run's own), as many at once
    as the card has room for.

    `expression_scale` a: the epsilon mode, eps = eps_u + w (eps_n - eps_u) + w a (eps_e - eps_n), instead of plain guidance.
    `fusion`: expression features to fuse into the expression's rows (`fusion.operator`): a bank with settings, which acts in the face
    (`fusions_of`), or any number of `Fusion`s. A `cfg` of 1 without these two calls the U-Net for the prompt alone, which takes half the
    time; `negative` changes nothing then.
    `on_step(done, all)` is called after every step, `on_note` with what fusion has to tell.
    """
    conditional = embed_expression(pipe, prompt)[0 if expression_scale is not None else 1 :]
    guided = run.cfg != 1 or expression_scale is not None or bool(fusion)
    hidden, pooled = zip(*([encode_prompts(pipe, [run.negative])] if guided else []), *conditional, strict=True)
    texts = stack_texts(hidden), torch.cat(pooled)
    schedule = schedule_of(pipe, run)
    start = first_latents(run, count, schedule[0])
    many, total, notes = fitting(pipe, count, len(hidden), run.height, run.width), len(schedule) - 1, set[str]()
    if isinstance(fusion, tuple):
        bank, settings = fusion
        fusion = fusions_of(bank, settings, run, count, prompt.neutral)
    drawn = []
    for first in range(0, count, many):
        latents = start[first : first + many]
        tell = None if on_step is None else partial(_told_of_all, on_step, first // many, -(-count // many), total)
        mine = _fusions_from(fusion or (), first, len(latents))
        x, told = _denoised(pipe, latents, schedule, texts, run.cfg, expression_scale, mine, tell)
        notes |= told
        drawn.append(x)
    if on_note is not None:
        for note in sorted(notes):
            on_note(note)
    return decode_latents(pipe, torch.cat(drawn))


def _denoised(
    pipe: StableDiffusionXLPipeline,
    start: Tensor,
    schedule: tuple[float, ...],
    texts: tuple[Tensor, Tensor],
    cfg: float,
    expression_scale: float | None,
    fusions: Sequence[Fusion],
    on_step: Callable[[int], None] | None,
) -> tuple[Tensor, set[str]]:
    """Latents [n, 4, h, w] from their first noise, drawn together, each with every text (H [rows, T, C], pooled [rows, P]); what fusion
    tells."""
    count, rows = len(start), len(texts[0])
    stacked, pooled = (one.repeat_interleave(count, 0) for one in texts)
    x = start.to(stacked.device)
    call = Rows(tuple(range((rows - 1) * count, rows * count)), tuple(range(count)), cfg, schedule)
    notes, looks = set[str](), list[Look]()
    with ExitStack() as stack:
        told = [notes]
        for one in fusions:
            look = None if one.moved is None else Look(partial(_decoded, pipe), one.moved, tell=notes.add)
            looks += [] if look is None else [look]
            told.append(stack.enter_context(apply_fusion(pipe.unet, one, call, look)))
        for done, (sigma, following) in enumerate(pairwise(schedule), start=1):
            call.at(sigma)
            predictions = predict_epsilon(pipe, x.repeat(rows, 1, 1, 1), sigma, stacked, pooled).chunk(rows)
            noise = _guide(predictions, cfg, expression_scale)
            for look in looks:
                look.seen(x - sigma * noise)
            x = x + noise * (following - sigma)
            if on_step is not None:
                on_step(done)
    return x, set[str]().union(*told)


def _told_of_all(on_step: Callable[[int, int], None], batch: int, batches: int, steps: int, done: int) -> None:
    on_step(batch * steps + done, batches * steps)


def _fusions_from(fusions: Sequence[Fusion], first: int, count: int) -> list[Fusion]:
    """Those of `count` pictures from the `first` on, by their numbers there."""
    mine = (one for one in fusions if one.picture is None or first <= one.picture < first + count)
    return [replace(one, picture=None if one.picture is None else one.picture - first) for one in mine]


def _decoded(pipe: StableDiffusionXLPipeline, latent: Tensor) -> Picture:
    """The picture [8h, 8w, 3] of a latent [1, 4, h, w]."""
    picture: Picture = decode_latents(pipe, latent)[0].numpy()
    return picture


def first_latents(run: Run, count: int, sigma: float) -> Tensor:
    """What `generate` starts from: noise of the first sigma, float32 [count, 4, height / 8, width / 8] on the CPU, as ComfyUI makes it."""
    generator = torch.Generator().manual_seed(run.seed)
    return torch.randn(count, 4, run.height // 8, run.width // 8, generator=generator) * math.sqrt(1 + sigma**2)


def fusions_of(bank: FeatureBank, settings: FusionSettings, run: Run, count: int, neutral: str) -> list[Fusion]:
    """A bank for `count` pictures that say `neutral` without their expression. Its mask and regions hold for one picture of the bank's own
    noise, size and words (`donors.same_place`); else each picture's face is looked for in its own steps."""
    known = bank.mask is not None or bank.regions is not None
    if known and count == 1 and same_place(bank, run.seed, run.width, run.height, neutral):
        return [Fusion(bank, settings, bank.mask, bank.regions)]
    return [Fusion(bank, settings, moved=moved_in(bank.notes))]


def _guide(predictions: Sequence[Tensor], cfg: float, expression_scale: float | None) -> Tensor:
    if len(predictions) == 1:
        return predictions[0]
    if expression_scale is None:
        unconditional, expression = predictions
        return unconditional + cfg * (expression - unconditional)
    unconditional, neutral, expression = predictions
    return text.epsilon_mix(unconditional, neutral, expression, cfg, expression_scale)
