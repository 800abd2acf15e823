"""Pictures of any size for functions that take none above a limit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import native

LONGEST = 32766
"""Pixels a side that OpenCV's warps take before version 5. MediaPipe has them within, where a longer side ends the whole process."""


def within_limits(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The picture, uint8 [H, W, 3], shrunk to LONGEST where a side is longer, and by how much its places are to be scaled for that."""
    height, width = rgb.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    if scale == 1:
        return rgb, scale
    cv2: Any = native.opencv()
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8), scale
