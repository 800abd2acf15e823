"""Where and how much pictures differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceExprError


@dataclass(frozen=True)
class Locality:
    """Mean absolute change of a picture, in shares of full scale (0..1), `inside` a mask and `outside` it."""

    inside: float
    outside: float

    @property
    def ratio(self) -> float:
        """Change outside over change inside: 0 where nothing else was touched, 1 where the mask made no difference."""
        return self.outside / max(self.inside, 1 / 255 / 100)


def locality(picture: NDArray[np.uint8], neutral: NDArray[np.uint8], mask: NDArray[np.floating[Any]]) -> Locality:
    """Where a picture differs from its neutral one, both uint8 [H, W, 3]; `mask` [H, W] in 0..1 is where it should.

    With the face's mask, `outside` is the background's change against the neutral picture of the same seed, 0..1, 0 best. Weak: it counts
    hair and clothes too, which a turned head moves, and is blind to a change of meaning that is small in pixels (read `pose_change` too).
    Ours; benchmarks of editing measure what was not to be edited alike (Ju et al., "PnP Inversion", ICLR 2024: MSE, PSNR, LPIPS).

    Raises FaceExprError where the mask leaves no inside or no outside, or sizes differ.
    """
    inside = mask.astype(np.float64)
    if picture.shape != neutral.shape or inside.shape != picture.shape[:2] or not 0 < inside.mean() < 1:
        raise FaceExprError(
            f"pictures of {picture.shape} and {neutral.shape} cannot be compared under a mask of {mask.shape} that covers "
            f"{inside.mean():.0%}; all must be of one size, and the mask must cover a part."
        )
    change = np.abs(picture.astype(np.float64) - neutral).mean(axis=2) / 255
    return Locality(float(np.average(change, weights=inside)), float(np.average(change, weights=1 - inside)))


def diversity(pictures: Sequence[NDArray[np.uint8]]) -> float:
    """Mean over all pairs of the root mean square difference in shares of full scale (0..1): how much pictures of one prompt vary with the
    seed. uint8 [H, W, 3] of one size. Weak: pixels, so that a shifted head counts as much as another one; DreamBooth's DIV (Ruiz et al.,
    CVPR 2023, supplement) takes LPIPS in its place. Raises FaceExprError for fewer than two."""
    if len(pictures) < 2:
        raise FaceExprError(f"Diversity compares pictures with each other; {len(pictures)} was given, two or more are needed.")
    scaled = [picture.astype(np.float64) / 255 for picture in pictures]
    return float(np.mean([np.sqrt(np.mean((a - b) ** 2)) for a, b in combinations(scaled, 2)]))
