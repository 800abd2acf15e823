"""Sheets of pictures while a run learns: drawn with what the U-Net knows so far, kept as files, never worth the run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..files import write_new
from .data import Tokenizer
from .host import Host, Watcher
from .memory import first_line, give_back, is_out_of_memory
from .preview import PREVIEW_EXPRESSIONS, contact_sheet, preview_latents
from .prior import png
from .result import Step
from .settings import TrainSettings

if TYPE_CHECKING:
    from ..photos.subject import Subject
    from .host import Picture

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Previews:
    """A sheet `<stem><step>.png` in `folder` after each `every` steps (0: none), one picture a prompt; no prompts: the person with
    PREVIEW_EXPRESSIONS. The noise is the same for each expression, and another for each prompt. `paired`: text encoders that learn read
    each prompt with the empty one alone, not all at once, which rounds otherwise."""

    folder: Path
    every: int = 0
    prompts: tuple[str, ...] = ()
    stem: str = "step"
    paired: bool = False


@dataclass(frozen=True, eq=False)
class Words:
    """The prompts and, last, what guidance leads away from: H [N + 1, T, C], pooled [N + 1, P], and their tokens where the text encoders
    learn; pictures are `side` pixels wide."""

    embeds: Tensor
    pooled: Tensor
    tokens: Tensor | None
    side: int


def encode_words(host: Host, previews: Previews, subject: Subject, tokenize: Tokenizer | None) -> Words:
    """What `sheet_after` needs, while the text encoders are at hand."""
    from ..photos.subject import caption_for

    asked = previews.prompts or tuple(caption_for(name, subject.trigger, subject.class_word) for name in PREVIEW_EXPRESSIONS)
    prompts = [*asked, ""]
    embeds, pooled = host.encode_text(prompts)
    return Words(embeds, pooled, None if tokenize is None else tokenize(prompts), subject.resolution)


def sheet_after(
    step: Step, host: Host, watcher: Watcher, previews: Previews, settings: TrainSettings, words: Words | None
) -> Picture | None:
    """The sheet uint8 [rows H, columns W, 3] if this step draws one, also kept as a file. None, and a word, where it cannot be drawn."""
    if words is None or step.number % previews.every:
        return None
    problem = ""
    try:
        sheet = contact_sheet(_pictures(step, host, words, settings, previews))
    except Exception as reason:
        if isinstance(reason, host.interrupts):
            raise
        short = is_out_of_memory(reason)
        problem = f"the device has no memory for it ({first_line(reason)})" if short else first_line(reason)
        if not short:
            log.debug("the preview of step %d", step.number, exc_info=True)
    if problem:  # the error is gone here, and what it held
        give_back(host.device)
        watcher.warn(f"the preview of step {step.number} is left out: {problem}")
        return None
    try:
        write_new(previews.folder / f"{previews.stem}{step.number:06}.png", png(sheet))
    except OSError as reason:
        watcher.warn(f"the preview of step {step.number} could not be saved in {previews.folder}: {reason.strerror or reason}")
    return sheet


def _pictures(step: Step, host: Host, words: Words, settings: TrainSettings, previews: Previews) -> Sequence[Picture]:
    embeds, pooled = words.embeds, words.pooled
    if step.embed is not None and words.tokens is not None and not previews.paired:
        embeds, pooled = step.embed(words.tokens)
    pictures = []
    for row in range(len(embeds) - 1):
        pair = torch.tensor([row, len(embeds) - 1])
        texts = embeds[pair.to(embeds.device)], pooled[pair.to(embeds.device)]
        if step.embed is not None and words.tokens is not None and previews.paired:
            texts = step.embed(words.tokens[pair])
        latents = preview_latents(
            step.unet,
            *texts,
            words.side,
            words.side,
            seed=row if previews.prompts else 0,
            prediction=settings.prediction,
            zero_snr=settings.zero_snr,
        )
        pictures.append(host.decode(latents))
    return pictures
