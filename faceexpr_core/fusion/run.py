"""How a sampler draws: the settings of pictures, of the donors that follow them, and of evaluations, checked before a model is loaded."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from ..errors import FaceExprError
from .settings import require_between

STEPS, GUIDANCE = 20, 5.0
"""Of a picture, unless told."""

MOST_GUIDANCE = 100.0


@dataclass(frozen=True)
class Run:
    """A run of a sampler; `width` and `height` in pixels. `sigmas` falls to its 0 and takes the place of `steps`. Raises FaceExprError for
    what cannot be drawn."""

    seed: int = 0
    steps: int = STEPS
    cfg: float = GUIDANCE
    width: int = 1024
    height: int = 1024
    negative: str = ""
    sigmas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_steps(self.steps, self.cfg)
        if self.width % 8 or self.height % 8 or min(self.width, self.height) < 8:
            raise FaceExprError(
                f"a picture of {self.width} x {self.height} pixels cannot be drawn; width and height must be multiples of 8."
            )
        falling = all(high > low for high, low in itertools.pairwise(self.sigmas))
        if self.sigmas and not (falling and len(self.sigmas) > 1 and self.sigmas[0] < math.inf and self.sigmas[-1] == 0):
            given = " ".join(f"{sigma:g}" for sigma in self.sigmas)
            raise FaceExprError(f"the noise levels are {given}; they must fall, each below the one before it, and end at 0.")

    def meaning(self) -> dict[str, Any]:
        """What decides many pictures drawn alike, each from a seed of its own."""
        return {name: getattr(self, name) for name in ("steps", "cfg", "width", "height", "negative")}


def check_steps(steps: int, cfg: float) -> None:
    """Raise FaceExprError for less than one step, and for a guidance that is none."""
    if steps < 1:
        raise FaceExprError(f"the steps are {steps}; at least 1 is needed.")
    require_between("guidance (cfg)", cfg, 0, MOST_GUIDANCE)
