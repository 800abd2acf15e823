"""What `lab.card.fusion` counts, on Mini's U-Net: fusion costs more where the expression acts in more of the picture, and never much."""

from __future__ import annotations

import json
from math import pi
from typing import Any

import pytest
import torch

from faceexpr_core import mini
from lab.card.fusion import counted, face_mask, looks
from lab.card.sets import made_on

SIDE = 192


def mini_unet(dtype: torch.dtype) -> Any:
    from diffusers import UNet2DConditionModel

    with made_on("cuda", dtype):
        return UNet2DConditionModel.from_config(json.loads((mini.path() / "unet" / "config.json").read_text()))


def test_fusion_costs_more_the_larger_the_face_and_never_much() -> None:
    plain, fused = counted(SIDE, [0.5, 1.0], mini_unet)
    extra = {share: (one - plain) / plain for share, one in fused.items()}
    assert 0 < extra[0.5] < extra[1.0] < 0.05
    # the expression's two texts are read by the tokens under the mask alone, in squares of whole tokens
    assert extra[0.5] / extra[1.0] == pytest.approx(0.5, abs=0.15)


def test_the_face_covers_the_share_that_was_asked() -> None:
    for share in (0.1, 0.25, 1.0):
        mask = face_mask(1024, share)
        assert mask.shape == (128, 128) and float(mask.mean()) == pytest.approx(share, abs=0.01)


def test_a_picture_is_looked_at_and_then_around_the_face_a_large_one_in_less_at_first() -> None:
    assert looks(512, 0.25) == [512, 304]
    assert looks(1024, 0.25) == [768, 616]
    assert looks(1024, 1 / pi) == [768, 696]
    assert looks(1024, 1.0) == [768, 1024]
