"""Prompts and areas for expression crafting (L_ec) and for the prior without pictures (`distill`), encoded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..expressions import EXPRESSIONS
from ..text import Term, TokenCount, build_prompts
from .data import TextEncoder, Tokenizer, class_prompt, digest_of, plain

if TYPE_CHECKING:
    from ..photos.subject import Subject

AREA_DILATION = 0.15
AREA_FEATHER = 0.05
"""Both as shares of the face's width; ours, as those of the mask in which features are fused."""


@dataclass(frozen=True)
class CraftingSet:
    """E expressions, each as (neutral, expression) pairs of prompts with the same number of tokens; float32 on the CPU.

    `person` [E, 2, 77, C] and `person_pooled` [E, 2, P] name the person, `base` and `base_pooled` the class alone. `areas`
    [N, E, 1, h, w] in 0..1 is where the expression's action units move the face of each of N photos; None for everywhere.
    `person_tokens` and `base_tokens` int64 [E, 2, 2, K, 77] are the prompts' for text encoders that learn, None where they do not.
    """

    names: tuple[str, ...]
    person: Tensor
    person_pooled: Tensor
    base: Tensor
    base_pooled: Tensor
    areas: Tensor | None = None
    source: str = ""
    person_tokens: Tensor | None = None
    base_tokens: Tensor | None = None

    def __len__(self) -> int:
        return len(self.person)

    def map(self, change: Callable[[Tensor], Tensor]) -> CraftingSet:
        """The same set with `change` applied to every tensor."""
        return CraftingSet(
            self.names,
            change(self.person),
            change(self.person_pooled),
            change(self.base),
            change(self.base_pooled),
            None if self.areas is None else change(self.areas),
            self.source,
            None if self.person_tokens is None else change(self.person_tokens),
            None if self.base_tokens is None else change(self.base_tokens),
        )

    def digest(self) -> str:
        """`source`, or a digest of the tensors where there is none."""
        return self.source or digest_of(self.person, self.person_pooled, self.base, self.base_pooled)


def build_crafting_set(
    subject: Subject,
    encode_text: TextEncoder,
    count_tokens: TokenCount,
    latent_size: tuple[int, int] | None = None,
    flip: bool = False,
    tokenize: Tokenizer | None = None,
) -> CraftingSet:
    """Encode `a photo of <person>, <phrase>` and `a photo of a <class word>, <phrase>` for every expression of the vocabulary but neutral.

    `tokenize` is for text encoders that learn: the prompts' tokens are kept too. With `latent_size` (height, width) the areas
    of the action units are made, those of mirrored photos after all others with `flip`.
    Raises FaceExprError when no neutral prompt of equal length can be made or an encoder gives values that are not finite.
    """
    names = tuple(name for name in EXPRESSIONS if name != "neutral")
    sides, texts = [], []
    for prompt in (subject.instance_prompt, class_prompt(subject)):
        pairs = [build_prompts(prompt, [Term(EXPRESSIONS[name].phrase, 1.0)], count_tokens) for name in names]
        texts += [text for pair in pairs for text in (pair.neutral, *pair.expressions)]
    embeds, pooled = encode_text(texts)
    for tensor in (plain(embeds, "text embeddings"), plain(pooled, "pooled text embeddings")):
        sides.append(tensor.unflatten(0, (2, len(names), 2)))
    areas = None if latent_size is None else _areas(subject, names, latent_size, flip)
    tokens = (None, None) if tokenize is None else tuple(tokenize(texts).unflatten(0, (2, len(names), 2)))
    source = digest_of(repr(texts).encode())
    return CraftingSet(names, sides[0][0], sides[1][0], sides[0][1], sides[1][1], areas, source, *tokens)


def _areas(subject: Subject, names: tuple[str, ...], latent_size: tuple[int, int], flip: bool) -> Tensor:
    from ..faces.detector import region_mask

    rows = []
    for photo in subject.photos:
        height, width = photo.image.shape[:2]
        masks = [region_mask(photo.face, height, width, EXPRESSIONS[name].regions, AREA_DILATION, AREA_FEATHER) for name in names]
        full = torch.stack([torch.from_numpy(mask) for mask in masks])[:, None]
        rows.append(torch.nn.functional.interpolate(full, size=latent_size, mode="area"))
    areas = torch.stack(rows)
    return torch.cat([areas, areas.flip(-1)]) if flip else areas
