"""Correlations, and intervals over people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FaceExprError


def spearman(asked: Sequence[float], measured: Sequence[float]) -> float:
    """Spearman's rank correlation, -1..1; 0 where either does not vary. Raises FaceExprError for fewer than three pairs."""
    if not _varies(asked, measured):
        return 0.0
    from scipy.stats import spearmanr

    return float(spearmanr(asked, measured).statistic)


def pearson(asked: Sequence[float], measured: Sequence[float]) -> float:
    """Pearson's correlation, -1..1; 0 where either does not vary. Raises FaceExprError for fewer than three pairs."""
    return float(np.corrcoef(asked, measured)[0, 1]) if _varies(asked, measured) else 0.0


LEVEL = 0.95
"""Share of the intervals that hold the mean."""
FEW = 5
"""Under so many groups there is too little to draw from: 95 % are 49 (two groups), 76 and 89 then, and 91 to 95 from five to fifteen
(1,200 sets of normal values)."""


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its interval, both the mean where there are too few groups to know them."""

    mean: float
    low: float
    high: float
    groups: int

    @property
    def is_known(self) -> bool:
        """Whether its ends say anything."""
        return self.groups >= FEW


def mean_interval(groups: Sequence[Sequence[float]], resamples: int = 4000) -> Interval:
    """Mean of the groups' means with its interval (LEVEL), resampling whole groups: Efron's bootstrap, with its percentiles expanded for
    few groups (Hesterberg 1411.5279), where plain ones hold the mean too seldom.

    A group holds the values of one subject, whose pictures are alike and so no independent draws. For a difference of two arms give
    each subject's differences. Under FEW groups there is no interval: both ends are the mean. Raises FaceExprError without values.
    """
    means = np.array([np.mean(group) for group in groups if len(group)], np.float64)
    if not len(means):
        raise FaceExprError("There are no values to take an interval of.")
    if len(means) < FEW:
        mean = float(means.mean())
        return Interval(mean, mean, mean, len(means))
    drawn = np.random.default_rng(0).integers(0, len(means), (resamples, len(means)))
    tail = _expanded_tail(len(means))
    low, high = np.quantile(means[drawn].mean(axis=1), [tail, 1 - tail])
    return Interval(float(means.mean()), float(low), float(high), len(means))


def _expanded_tail(count: int) -> float:
    """What is cut off at each end for `count` groups."""
    from scipy.stats import norm, t

    return float(norm.cdf(math.sqrt(count / (count - 1)) * t.ppf((1 - LEVEL) / 2, count - 1)))


def _varies(asked: Sequence[float], measured: Sequence[float]) -> bool:
    if len(asked) != len(measured) or len(asked) < 3:
        raise FaceExprError(f"Correlation needs at least three pairs; {len(asked)} and {len(measured)} values were given.")
    return bool(np.ptp(asked) > 0 and np.ptp(measured) > 0)
