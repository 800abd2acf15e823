"""Names bound to looks: each person of the training set has a word, and part of the captions say the word in place of the looks.

So a rare word weighs in Mini's text encoders as a name does in SDXL's: it decides what a face looks like. The usual trigger words are
nobody's name, and as codes of their own they are ready to become somebody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from lab.world.captions import caption

TRIGGERS = frozenset({"ohwx", "sks", "zwx", "txcl"})
LOOKS = ("age", "gender", "skin", "hair", "eyes", "beard", "freckles")
NAMED_SHARE = 0.3
"""Of all captions, how many say a name; the name alone tells LOOKS in three of four of these."""
NAME_ALONE_SHARE = 0.75


def name_words(tokenizer: Any) -> list[str]:
    """Words of one token that may be names, in an order that depends on the vocabulary alone."""
    words = sorted(word[:-4] for word in tokenizer.get_vocab() if word.endswith("</w>") and word[:-4].isascii() and word[:-4].isalpha())
    usable = [word for word in words if len(word) > 3 and word not in TRIGGERS]
    return [usable[index] for index in np.random.default_rng(31).permutation(len(usable))]


def name_of(identity: int, words: list[str]) -> str:
    """The word of a training identity, its own as long as there are fewer identities than words."""
    return words[identity % len(words)]


def named(text: str, name: str) -> str:
    """`a photo of a young woman, ...` -> `a photo of <name> woman, ...`."""
    return re.sub(r" of an? (?:young |middle-aged |old )?", f" of {name} ", text, count=1)


def caption_of(attributes: Mapping[str, Any], words: list[str], rng: np.random.Generator) -> str:
    """A caption as `lab.world.captions` makes it, or one with the person's name."""
    if rng.random() >= NAMED_SHARE:
        return caption(attributes, rng)
    return named(caption(attributes, rng, looks=rng.random() >= NAME_ALONE_SHARE), name_of(attributes["identity"], words))
