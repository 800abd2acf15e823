"""How far tensors are apart."""

from __future__ import annotations

from torch import Tensor


def relative(given: Tensor, expected: Tensor) -> float:
    """The length of their difference, as a share of that of `expected`."""
    return float((given - expected).norm() / expected.norm())
