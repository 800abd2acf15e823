"""Change Expression in ComfyUI's own process: every input reaches the face that Mini draws, here at half its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pack
import pytest
import torch
from PIL import Image
from torch import Tensor

from faceexpr_core import mini
from faceexpr_core.faces.images import read_rgb

Change = Callable[..., tuple[Tensor, Tensor, str]]
WORDS = {"prompt": "a photo of a person", "intensity": 1.0, "second_expression": "none", "second_weight": 0.5, "face": -1}
STRONG = {"strength": 3.0, "cfg": 2.0, "steps": 1}


@pytest.fixture(scope="module")
def loaded(comfy_modules) -> Iterator[tuple[Any, Any, Any]]:
    with torch.inference_mode():
        yield pack.host().load_mini()


@pytest.fixture
def change(loaded, monkeypatch: pytest.MonkeyPatch) -> Change:
    """Of the neutral face, or of another `image`."""
    monkeypatch.setattr(pack.node("redraw_faces"), "drawn_side", lambda _: 64)
    given = {**dict(zip(("model", "clip", "vae"), loaded, strict=True)), **WORDS, **STRONG, "expression": "surprised"}
    execute = pack.node("change_expression").ChangeExpression.execute
    return lambda **inputs: execute(**{**given, **inputs}).args


@pytest.fixture(scope="module")
def face() -> Tensor:
    """IMAGE [1, 200, 200, 3]."""
    photo = Image.fromarray(read_rgb(mini.subject_path() / "photo_6.png")).resize((200, 200), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(photo)).float()[None] / 255


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().mean())


@pytest.mark.long
def test_each_input_draws_another_face(change: Change, face: Tensor) -> None:
    cases: dict[str, dict[str, Any]] = {
        "plain": {},
        "prompt": {"prompt": "a photo of an old woman"},
        "intensity": {"intensity": 0.3},
        "second expression": {"second_expression": "sad"},
        "its weight": {"second_expression": "sad", "second_weight": 1.2},
        "action units": {"action_units": "AU4"},
        "shown": {"shown": "happy"},
        "strength": {"strength": 1.5},
        "guidance": {"cfg": 3.0},
        "denoise": {"denoise": 0.5},
        "steps": {"steps": 2},
        "scheduler": {"scheduler": "karras", "steps": 2},
    }
    found = {name: change(image=face, **more)[0] for name, more in cases.items()}
    assert [pair for pair in combinations(found, 2) if torch.equal(found[pair[0]], found[pair[1]])] == []
    whole = apart(found["plain"], face)
    assert max(apart(found[name], face) for name in ("intensity", "strength")) < 0.5 * whole
    assert min(apart(found[name], found["plain"]) for name in ("second expression", "action units", "shown")) > 0.1 * whole


def test_each_picture_of_a_batch_has_its_own_mask(change: Change, face: Tensor) -> None:
    masks = torch.zeros(2, 200, 200)
    masks[0, :, :120], masks[1, :, 80:] = 1, 1
    made, mask, _ = change(image=face.repeat(2, 1, 1, 1), mask=masks)
    moved = (made != face).any(-1)
    assert not moved[0, :, 120:].any() and not moved[1, :, :80].any()
    assert moved[0, :, :80].sum() > 300 < moved[1, :, 120:].sum()
    assert not mask[masks == 0].any()


BROWS, MOUTH = slice(90), slice(120, None)
"""Rows of the picture that hold them."""


@pytest.mark.parametrize(
    ("asked", "moved", "least", "still"),
    [
        ({"action_units": "AU4"}, BROWS, 1e-4, MOUTH),
        ({"action_units": "AU26"}, MOUTH, 1e-3, BROWS),
        ({"expression": "contempt", "second_expression": "surprised", "second_weight": 1.5}, BROWS, 1e-2, None),
    ],
)
def test_a_face_is_drawn_over_where_what_is_asked_moves_it(
    change: Change, face: Tensor, asked: dict[str, Any], moved: slice, least: float, still: slice | None
) -> None:
    made, _, _ = change(image=face, **{"expression": "none", "shown": "neutral", "strength": 4.0, **asked})
    assert apart(made[:, moved], face[:, moved]) > least
    assert still is None or torch.equal(made[:, still], face[:, still])
