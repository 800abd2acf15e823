"""Whether the loss is well: the last values of each of its parts beside its first ones."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence

WINDOW = 10
"""So many values of a part are looked at together: one alone says little, timesteps differ too much."""
CRAFTING = "crafting"
WELL = {"identity": 0.5, "prior": 0.5, CRAFTING: 1.0}
"""What is well wherever the loss began. Predicting nothing gives identity and prior about 1, a phrase without effect gives crafting 1."""
TOO_FAR, DIVERGED = 1.5, 2.0
"""Multiples of what is well: up to the first the weights are good, beyond the second the run ends."""


class Health:
    """How far the parts of the loss are from where they began; `curves` as `TrainResult` has them, those of an earlier run included."""

    def __init__(self, curves: Mapping[str, Sequence[float]]) -> None:
        taken = {name: [value for value in values if not math.isnan(value)] for name, values in curves.items()}
        self._first = {name: values[:WINDOW] for name, values in taken.items()}
        self._last = {name: deque(values, WINDOW) for name, values in taken.items()}

    def add(self, losses: Mapping[str, float]) -> None:
        """Look at a step; NaN stands for a part that it did not take."""
        for name, value in losses.items():
            if not math.isnan(value):
                self._last[name].append(value)
                if len(self._first[name]) < WINDOW:
                    self._first[name].append(value)

    @property
    def worst(self) -> tuple[str, float]:
        """The part that is furthest above what is well (WELL, or 1.5 times its first values), and how far in multiples of that."""
        return max(((name, self._middle(name) / self._well(name)) for name in self._last), key=lambda one: one[1])

    def newest(self, part: str) -> float:
        """The last value of a part that some step took."""
        return self._last[part][-1]

    @property
    def good(self) -> bool:
        """Whether the weights that gave the last step are good."""
        newest = self.newest(CRAFTING) / self._well(CRAFTING) if self._last.get(CRAFTING) else 0.0
        return max(self.worst[1], newest) <= TOO_FAR

    def _middle(self, name: str) -> float:
        """The mean; that of crafting without the largest value, which a phrase that hardly moves the base model can make any number."""
        values = self._last[name] or (0.0,)
        return statistics.fmean(sorted(values)[:-1] or values if name == CRAFTING else values)

    def _well(self, name: str) -> float:
        return max(WELL[name], 1.5 * statistics.median(self._first[name] or (0.0,)))
