"""What shapes the head of the expression editor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .mesh import phenotype_vertices


@dataclass(frozen=True)
class Head:
    """`phenotypes` are anny's, 0..1; the rest is in metres."""

    phenotypes: tuple[tuple[str, float], ...]
    hairline: float = 0.0
    """Above the usual hairline."""
    peak: float = 0.0
    """Widow's peak."""
    hair_volume: float = 0.010


def head_vertices(head: Head) -> np.ndarray:
    """[V, 3] the neutral face, metres."""
    return phenotype_vertices(dict(head.phenotypes))
