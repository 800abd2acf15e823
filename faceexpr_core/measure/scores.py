"""The field's measures of drawn expressions, as functions of what was asked and what was read.

Accuracy over 6 and 12 expressions, mSCR, CLS and HES are the names of FFE-Bench (Hua et al., "PixelSmile: Toward Fine-Grained Facial
Expression Editing", arXiv:2603.25728). That benchmark reads pictures with a large vision-language model and edits one photograph; here the
readings are those of `expression.py` or `reader.py`, so that the numbers cannot be set beside that paper's. Each works with the readings
of either judge: give both, since a method may have been tuned on one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import FaceExprError
from .statistics import pearson

BASIC_SIX = ("happy", "sad", "angry", "surprised", "fearful", "disgusted")
"""Ekman's six, over which Acc-6 is taken."""

TWELVE = (*BASIC_SIX, "contempt", "happily surprised", "happily disgusted", "sadly angry", "sadly fearful", "angrily surprised")
"""Over which Acc-12 is taken here (ours): the six, contempt, and five compounds of Du, Tao and Martinez (PNAS 2014). FFE-Bench's other six
are anxious, confident, contempt, confused, shy and sleepy, most of which neither judge knows."""

CONFUSED_PAIRS = (("fearful", "surprised"), ("angry", "disgusted"))
"""The expressions that people and models take for each other, over which mSCR is taken."""


def accuracy(asked: Sequence[str], read: Sequence[str | None], among: Sequence[str] = BASIC_SIX) -> float:
    """Share of the pictures asked for one of `among` that are read as it, 0..1, 1 best; None (no face, or unsure) is a miss.

    By chance 1 in 6 or 12. Weak: it does not tell how strong an expression is, nor which way a miss went. Compare with the share that the
    judge reads right in renders of known truth. Raises FaceExprError where nothing of `among` was asked.
    """
    right = [name == found for name, found in _pairs(asked, read) if name in among]
    if not right:
        raise FaceExprError(f"Accuracy over {', '.join(among)} needs pictures asked for one of them; none of {len(asked)} was.")
    return float(np.mean(right))


def structural_confusion(asked: Sequence[str], read: Sequence[str | None], pairs: Sequence[tuple[str, str]] = CONFUSED_PAIRS) -> float:
    """mSCR: the mean over pairs of (share of the first read as the second + share of the second read as the first) / 2, 0..1, 0 best.

    Weak: a picture read as neither is no confusion, so that a model which draws nothing has 0; read it beside `accuracy`. Raises
    FaceExprError where an expression of a pair was never asked.
    """
    together = _pairs(asked, read)

    def share(name: str, taken_for: str) -> float:
        found = [reading for wanted, reading in together if wanted == name]
        if not found:
            raise FaceExprError(f"mSCR compares {name} with {taken_for}, but no picture was asked for '{name}'.")
        return found.count(taken_for) / len(found)

    return float(np.mean([(share(first, second) + share(second, first)) / 2 for first, second in pairs]))


def control_linearity(series: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """CLS: the mean over series of Pearson's r between the intensities asked and read, -1..1, 1 best.

    A series is one person with one expression and one seed at several intensities: (asked, read), the read ones from `intensity_of` or
    the classifier's probability. A series that does not move counts 0. Weak: blind to the range (a change from 0.01 to 0.02 in step scores
    1), and the classifier's probability is no intensity: it jumps. Raises FaceExprError for no series, or one of fewer than three pictures.
    """
    if not series:
        raise FaceExprError("Linearity of control needs at least one series of pictures at several intensities.")
    return float(np.mean([pearson(asked, read) for asked, read in series]))


def blendshape_distance(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """L1: the mean absolute difference of MediaPipe's blendshapes, 0..1, 0 for the same expression.

    For a picture and its donor or truth, as the average expression distance of face reenactment (Ren et al., "PIRenderer", ICCV 2021)
    takes 3DMM coefficients. Weak: a resting face is part of a person, so that two people never come to 0 (compare changes from the own
    neutral picture, or give the distance of the two neutral ones beside it); about a dozen of the 52 hardly ever move. Raises
    FaceExprError where the names differ.
    """
    if first.keys() != second.keys() or not first:
        raise FaceExprError("The two faces have other blendshapes; both must come from the same landmarker.")
    return float(np.mean([abs(first[name] - second[name]) for name in first if name != "_neutral"]))


def harmonic_score(expression: float, likeness: float) -> float:
    """HES: the harmonic mean of an expression score and a likeness, both 0..1 (clipped), 0..1, 1 best; 0 where either is 0.

    `expression`: accuracy, or a share of the intensity asked. `likeness`: SFace cosine, or `identity.normalised`; say which. Weak: it
    hides which of the two failed, and photos of one person have a cosine of 0.75 to the others, so that 1 is out of reach.
    """
    first, second = min(1.0, max(0.0, expression)), min(1.0, max(0.0, likeness))
    return 2 * first * second / (first + second) if first and second else 0.0


def _pairs(asked: Sequence[str], read: Sequence[str | None]) -> list[tuple[str, str | None]]:
    if len(asked) != len(read):
        raise FaceExprError(f"{len(asked)} pictures were asked for and {len(read)} read; there must be as many of each.")
    return list(zip(asked, read, strict=True))
