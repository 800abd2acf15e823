"""Which pictures have their faces where the donor of a text has its own, so that its mask and regions hold for them too. Ours.

That is the picture that a sampler draws of the twins' first noise and texts, where it does not stray from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

NOISE, TEXTS = "noise", "texts"
"""Notes of a bank: a digest of the twins' first noise, and one of each set of texts that draws their picture, with blanks between."""


class Composition(NamedTuple):
    """What one picture is drawn of: its first `noise` [4, h, w], before any scaling, None where it is not known; the `texts`, [T, C] each,
    that are said of it; whether the sampler may stray from what these make, as where it adds noise on the way."""

    noise: Tensor | None
    texts: tuple[Tensor, ...]
    strays: bool = False


def composition_notes(noise: Tensor, texts: Iterable[Iterable[Tensor]]) -> dict[str, str]:
    """Notes for a bank of twins that were drawn of the first `noise` [4, h, w] alone; of each set of texts [T, C] is the same picture."""
    return {NOISE: _digest([noise]), TEXTS: " ".join(dict.fromkeys(_digest_of_set(one) for one in texts))}


def why_elsewhere(notes: Mapping[str, str], drawn: Composition) -> str:
    """Why the face of a picture need not be where a bank with these notes has it; "" where it is there."""
    if notes.get("source") != "text":
        return "they are of a photo"
    if not notes.get(NOISE) or not notes.get(TEXTS):
        return "they do not say of which one they are, as those of an earlier version, of the command line or of a latent that was given"
    if drawn.strays:
        return "the sampler adds noise of its own on the way, or is not known to keep to its first"
    if _digest_of_set(drawn.texts) not in notes[TEXTS].split():
        return "they are of other texts"
    if drawn.noise is None or _digest([drawn.noise]) != notes[NOISE]:
        return "they are of other noise: another seed, size or place in a batch"
    return ""


def _digest(tensors: Iterable[Tensor]) -> str:
    """Sixteen digits that tell contents and shapes apart, wherever and in which precision they lie."""
    whole = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().to("cpu", torch.float32).contiguous()
        whole.update(str(tuple(plain.shape)).encode() + plain.numpy().tobytes())
    return whole.hexdigest()[:16]


def _digest_of_set(texts: Iterable[Tensor]) -> str:
    """Alike in any order, however often a text is said."""
    return hashlib.sha256(" ".join(sorted({_digest([text]) for text in texts})).encode()).hexdigest()[:16]
