"""Which expression a face in a single picture shows, for those who have to name one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..faces.detector import Face
from .reader import judge_faces
from .reading import read_expression


def shown_expression(picture: NDArray[np.uint8], face: Face) -> str:
    """The expression of a face as both judges read it against the average person's resting face (`reading.read_expression`); neutral where
    they are not sure enough to name one. `picture` uint8 [H, W, 3]."""
    return read_expression(face.blendshapes, judge_faces([picture], [face])[0]).expression or "neutral"
