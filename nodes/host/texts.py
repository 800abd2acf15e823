"""Which entry of a CONDITIONING says the expression, which says the same without, and what is drawn in their stead."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .conditioning import Conditioning

TAG = "faceexpr_pair"
"""Key of an entry's dict: the number of its pair. ComfyUI hands it on with the entry."""

HELD = "faceexpr_regions"
"""Key of an entry's dict: the regions of the face to which fusion holds what the text says; missing: all of the face."""

CONTROL = ("control", "control_apply_to_uncond", "cross_attn_controlnet")  # the last: what a ControlNet reads in the text's place
PLACED = (*CONTROL, "area", "strength", "mask", "mask_strength", "set_area_to_bounds", "gligen", "default")
TIMED = ("start_percent", "end_percent", "clip_start_percent", "clip_end_percent")

HOOKS = "hooks"
"""What changes the model for a text alone, such as a person's LoRA: the base model knows nothing of it."""

OF_THE_TEXT = ("pooled_output", "attention_mask")

Entry = list[Any]
"""`[H [B, T, C], {"pooled_output": p, ...}]`."""


class Pair(NamedTuple):
    """Numbers of two entries that differ by an expression: in the conditioning with it, and in the one without."""

    expression: int
    neutral: int


def pair_texts(expression: Conditioning, neutral: Conditioning) -> list[Pair]:
    """Which entries differ by the expression, however many others were combined with them.

    Entries with the same H on both sides say the same. The others belong together in their order if they are as many, else the nearest
    ones, as far as they go. Where nothing differs that belongs together, one pair of entries that say the same.
    """
    left, rest, alike = _left_over(expression, neutral)
    if not rest or not left:
        return alike[:1]
    if len(left) == len(rest):
        return [Pair(*numbers) for numbers in zip(left, rest, strict=True)]
    pairs = []
    while left and rest:
        nearest = max(product(left, rest), key=lambda numbers: _likeness(expression[numbers[0]][0], neutral[numbers[1]][0]))
        left.remove(nearest[0])
        rest.remove(nearest[1])
        pairs.append(Pair(*nearest))
    return sorted(pairs)


def unmatched(expression: Conditioning, neutral: Conditioning) -> list[str]:
    """What there is to tell of entries that belong to none of the other side's, numbered from 1 as they were combined."""
    left, rest, _ = _left_over(expression, neutral)
    pairs = pair_texts(expression, neutral) if left and rest else []
    alone = [number for number in left if number not in [pair.expression for pair in pairs] and _is_new(expression[number], neutral)]
    surplus = [number for number in rest if number not in [pair.neutral for pair in pairs] and _is_new(neutral[number], expression)]
    return [
        *(
            f"text {number + 1} of positive has no counterpart in neutral: it is drawn in its own words, and no expression is taken from "
            "it. If it says one, combine its neutral text into neutral too"
            for number in alone
        ),
        *(f"text {number + 1} of neutral has no counterpart in positive, and is left out" for number in surplus),
    ]


def held_to(entry: Entry) -> tuple[str, ...]:
    """The regions of the face to which fusion holds what a text says; () for all of it."""
    return tuple(entry[1].get(HELD, ()))


def same_text(expression: Entry, neutral: Entry) -> bool:
    """Whether two entries say the same, so that there is nothing to fuse."""
    return _equal(expression[0], neutral[0])


def _left_over(expression: Conditioning, neutral: Conditioning) -> tuple[list[int], list[int], list[Pair]]:
    """Numbers of the entries on both sides that say what no other one of the other side does, and pairs of those that say the same."""
    left, rest, alike = list(range(len(expression))), list[int](), list[Pair]()
    for number, entry in enumerate(neutral):
        same = next((other for other in left if same_text(expression[other], entry)), None)
        if same is None:
            rest.append(number)
        else:
            left.remove(same)
            alike.append(Pair(same, number))
    return left, rest, alike


def _is_new(entry: Entry, others: Conditioning) -> bool:
    """Said by none of the others, not even by one that belongs to an equal entry already, as where a text is combined with itself."""
    return not any(same_text(entry, other) for other in others)


class Own(NamedTuple):
    """Two texts of a pair with one H each, and the pictures of a batch that they are said of (None: all)."""

    pictures: tuple[int, ...] | None
    expression: Entry
    neutral: Entry


def own_texts(expression: Entry, neutral: Entry, count: int) -> list[Own]:
    """What each of `count` pictures is told, where a text has an H for each (batch prompt schedules): as ComfyUI deals them out, again from
    the first where pictures are more. Pictures that are told the same stand together."""
    given: dict[tuple[int, int], list[int]] = {}
    firsts = _distinct(expression[0]), _distinct(neutral[0])
    for picture in range(count):
        left, right = (first[picture % len(first)] for first in firsts)
        given.setdefault((left, right), []).append(picture)
    everywhere = len(given) == 1
    return [
        Own(None if everywhere else tuple(pictures), row_of(expression, left), row_of(neutral, right))
        for (left, right), pictures in given.items()
    ]


def differs(entry: Entry) -> bool:
    """Whether a text says something else of one picture than of another."""
    return len(set(_distinct(entry[0]))) > 1


def row_of(entry: Entry, picture: int) -> Entry:
    """The text as it is said of one picture of a batch."""
    hidden, extra = entry
    pooled = extra.get("pooled_output")
    kept = extra if pooled is None else {**extra, "pooled_output": _own_row(pooled, picture)}
    return [_own_row(hidden, picture), kept]


def _own_row(embeddings: Tensor, picture: int) -> Tensor:
    own = picture % len(embeddings)
    return embeddings[own : own + 1]


def _distinct(hidden: Tensor) -> list[int]:
    """For each row the number of the first that equals it."""
    return [next(other for other in range(number + 1) if torch.equal(hidden[other], row)) for number, row in enumerate(hidden)]


def counterparts(expression: Conditioning, neutral: Conditioning) -> dict[int, int]:
    """Number of each neutral entry that has one -> that of the entry with the expression, or of the one that says the same."""
    found = {pair.neutral: pair.expression for pair in pair_texts(expression, neutral)}
    for number, entry in enumerate(neutral):
        same = next((other for other in range(len(expression)) if _equal(expression[other][0], entry[0])), None)
        if number not in found and same is not None:
            found[number] = same
    return found


def at_rest(expression: Conditioning, neutral: Conditioning, pairs: Sequence[Pair]) -> Conditioning:
    """What is drawn while the expression is fused: each text that says it replaced by its neutral one, all else as it is.

    What else belongs to the entry (ControlNet, areas, masks, time ranges, pictures that unCLIP reads, sizes ...) stays where the neutral
    one has none of its own.
    """
    given = {pair.expression: (number, pair.neutral) for number, pair in enumerate(pairs)}
    drawn: Conditioning = []
    for index, (hidden, extra) in enumerate(expression):
        if index in given:
            number, other = given[index]
            kept = {key: value for key, value in extra.items() if key not in OF_THE_TEXT}
            hidden, extra = neutral[other][0], {**kept, **neutral[other][1], TAG: number}
        drawn.append([hidden, extra])
    return drawn


def tagged(expression: Conditioning, pairs: Sequence[Pair]) -> Conditioning:
    """The conditioning itself, its entries marked by the pairs that they belong to."""
    given = {pair.expression: number for number, pair in enumerate(pairs)}
    return [[hidden, {**extra, TAG: given[index]} if index in given else extra] for index, (hidden, extra) in enumerate(expression)]


def bare(entry: Entry) -> Conditioning:
    """An entry without what belongs to places and times of a picture, and without hooks, as a CONDITIONING of its own, marked as what is
    to be recorded."""
    return [[entry[0], {**{key: value for key, value in entry[1].items() if key not in (*PLACED, *TIMED, HOOKS)}, TAG: 0}]]


def has_hooks(*conditionings: Conditioning) -> bool:
    """Whether a text changes the model for itself."""
    return any(entry[1].get(HOOKS) is not None for conditioning in conditionings for entry in conditioning)


def without_hooks(conditioning: Conditioning) -> Conditioning:
    """The conditioning as it is said to the model itself."""
    return [[entry[0], {key: value for key, value in entry[1].items() if key != HOOKS}] for entry in conditioning]


def without_places(conditioning: Conditioning | None) -> Conditioning | None:
    """The conditioning without what belongs to places of the whole picture: ControlNet, areas, masks."""
    if conditioning is None:
        return None
    return [[entry[0], {key: value for key, value in entry[1].items() if key not in PLACED}] for entry in conditioning]


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other.to(one)))


def _likeness(one: Tensor, other: Tensor) -> float:
    """Mean cosine of the tokens that both have."""
    count = min(one.shape[1], other.shape[1])
    return float(F.cosine_similarity(one[:1, :count].float(), other[:1, :count].to(one.device).float(), dim=-1).mean())
