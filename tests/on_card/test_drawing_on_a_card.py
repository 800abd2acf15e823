"""What `faceexpr plan` says of drawing, against the command line's own code at SDXL's size on a card on which its parts take turns. Run by
`make card`."""

from __future__ import annotations

import pytest

from faceexpr_core.training.plan import drawing_peak
from lab.card.drawing import generated


def test_a_picture_takes_what_the_plan_says() -> None:
    assert generated(1024) == pytest.approx(drawing_peak(1024), rel=0.02)
