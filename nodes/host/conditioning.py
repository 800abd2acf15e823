"""ComfyUI's CONDITIONING: made, counted, combined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ...faceexpr_core import text

Conditioning = list[list[Any]]
"""ComfyUI's CONDITIONING: `[[H float [B, T, C], {"pooled_output": p [B, P], ...}], ...]`."""

Combine = Callable[[Sequence[Tensor]], Tensor]


def count_tokens(clip: Any, words: str) -> tuple[int, ...]:
    """Tokens of `words` in each text encoder, start, end and padding not counted; ComfyUI's weighting syntax and embeddings understood."""
    return tuple(sum(map(_tokens_in_chunk, chunks)) for chunks in clip.tokenize(words).values())


def _tokens_in_chunk(chunk: Sequence[tuple[Any, ...]], end: int = 49407) -> int:
    tokens = [entry[0] for entry in chunk]
    return next(index for index, token in enumerate(tokens) if isinstance(token, int) and token == end) - 1


def encode_conditioning(clip: Any, words: str) -> Conditioning:
    """What ComfyUI's own CLIP Text Encode gives for `words`."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(words))


def encode_expression(clip: Any, prompt: text.ExpressionPrompt, neutral: Conditioning) -> Conditioning:
    """The prompt's expressions by their weights; `neutral` is what `encode_conditioning` gives for its neutral text."""
    return combine_conditioning(
        [neutral, *(encode_conditioning(clip, words) for words in prompt.expressions)],
        lambda hidden: text.mix(hidden[0], hidden[1:], prompt.weights),
        lambda pooled: text.mix_pooled(pooled[0], pooled[1:], prompt.weights),
    )


def combine_conditioning(parts: Sequence[Conditioning], combine: Combine, combine_pooled: Combine) -> Conditioning:
    """Entry by entry, `combine` the H of each part and `combine_pooled` their pooled embeddings; all else comes from the first part."""
    combined = []
    for entries in zip(*parts, strict=True):
        hidden = combine([entry[0] for entry in entries])
        pooled = combine_pooled([entry[1]["pooled_output"] for entry in entries])
        combined.append([hidden, {**entries[0][1], "pooled_output": pooled}])
    return combined
