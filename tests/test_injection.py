"""One fusion as both hosts use it: what it changes, in which rows and tokens, and what it keeps."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from faceexpr_core.errors import FaceExprError
from faceexpr_core.fusion import injection as module
from faceexpr_core.fusion.injection import Attention, Call, Injection, Part
from faceexpr_core.fusion.look import EVERYWHERE, Where
from faceexpr_core.fusion.recorder import Recorder
from faceexpr_core.fusion.settings import CONTEXT_SITE, site_settings

PLACE, GRID, CHANNELS = "output.3.0", (4, 6), 8
SETTINGS = replace(site_settings(CONTEXT_SITE), cap=100.0)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def bank():
    recorder = Recorder(CONTEXT_SITE)
    for seed, which in enumerate(("e:k", "e:v", "n:k", "n:v")):
        recorder.add(PLACE, None, which, numbers(seed, 1, 5, CHANNELS))
    return recorder.bank()


def call(**changes: Any) -> Call:
    return Call(**{"sigma": 2.0, "cfg": 4.0, "schedule": (14.6, 2.0, 0.0), "kept": {}, **changes})


@pytest.mark.parametrize(("twin", "known"), [(True, False), (True, True), (False, False), (False, True)])
def test_regions_that_hold_nothing_are_told_where_features_are_laid(twin: bool, known: bool) -> None:
    """A twin's change is held to the donor's own parts, where these are known; a lone donor's is not."""
    recorder = Recorder("cross_attention", (2.0,), GRID)
    for seed, which in enumerate("en" if twin else "e"):
        recorder.add(PLACE, 0, which, numbers(seed, 1, 24, CHANNELS))
    parts = torch.zeros(GRID, dtype=torch.uint8)
    told: list[str] = []
    settings = replace(site_settings("cross_attention"), regions=("mouth",), mode="twin" if twin else "adain")
    injection = Injection(recorder.bank(parts if known else None), settings, [PLACE], told.append)
    injection.fuse(PLACE, X, GRID, call(), [Part(slice(0, 4), (EVERYWHERE,))])
    assert told == ([] if twin and known else [module.NOWHERE_HELD])
    told.clear()
    injection.fuse(PLACE, X, GRID, call(), [Part(slice(0, 4), (Where(None, parts),))])
    assert told == []


X, TOKENS = numbers(10, 4, 24, CHANNELS), numbers(11, 4, 24, CHANNELS)


def test_words_recorded_with_another_kind_of_model_are_refused() -> None:
    """Mini's places are some of SDXL's, whose layers are wider."""
    recorder = Recorder(CONTEXT_SITE)
    for seed, which in enumerate(("e:k", "e:v", "n:k", "n:v")):
        recorder.add(PLACE, None, which, numbers(seed, 1, 5, 6))
    with pytest.raises(FaceExprError, match="the expression features have 6 channels where this model has 8"):
        changed(recorder.bank(), [Part(slice(0, 4), (EVERYWHERE,))])


def changed(
    bank, parts: list[Part], settings=SETTINGS, now: Call | None = None, asked: list[int] | None = None, told: Any = print
) -> Tensor:
    """Rows [4, 24, 8] after a fusion; `asked` grows with the tokens of each call of the attention's layers."""
    layer = torch.nn.Linear(CHANNELS, CHANNELS)
    with torch.no_grad():
        layer.weight.copy_(numbers(12, CHANNELS, CHANNELS))
        layer.bias.fill_(3.0)

    def query(rows: slice, chosen: Tensor | None) -> Tensor:
        given = TOKENS[rows] if chosen is None else TOKENS[rows][:, chosen]
        if asked is not None:
            asked.append(given.shape[0] * given.shape[1])
        return given

    with torch.no_grad():
        return Injection(bank, settings, [PLACE], told).add_context(PLACE, X, GRID, call(), parts, Attention(query, layer, 2))


def moved(after: Tensor) -> Tensor:
    """Which tokens changed, [4, 4, 6]."""
    return (after != X).any(-1).unflatten(1, GRID)


def test_each_row_is_changed_where_its_own_mask_lies_and_as_it_would_be_alone(bank) -> None:
    left = torch.zeros(8, 12)
    left[:, :6] = 1
    where = Where(left), Where(1 - left)
    both = changed(bank, [Part(slice(1, 3), where)])
    assert torch.equal(moved(both)[0], torch.zeros(4, 6, dtype=torch.bool)) and not moved(both)[3].any()
    assert torch.equal(moved(both)[1, 0], torch.tensor([True] * 3 + [False] * 3))
    assert torch.equal(moved(both)[2, 0], torch.tensor([False] * 3 + [True] * 3))
    whole = changed(bank, [Part(slice(1, 3), (EVERYWHERE,))])
    for row, place in ((1, left), (2, 1 - left)):
        inside = torch.nn.functional.adaptive_avg_pool2d(place[None], GRID).flatten() > 0
        assert torch.allclose(both[row, inside], whole[row, inside], atol=1e-5)


def test_only_tokens_under_a_mask_are_computed_and_layers_are_asked_once(bank) -> None:
    corner = torch.zeros(4, 6)
    corner[:2, :2] = 0.5
    for where, expected in (
        ((EVERYWHERE,), 48),
        ((Where(corner),), 8),
        ((Where(torch.zeros(4, 6)),), None),
        ((Where(corner), EVERYWHERE), 48),
    ):
        asked: list[int] = []
        after = changed(bank, [Part(slice(0, 2), where)], asked=asked)
        assert asked == ([] if expected is None else [expected])
        if expected is None:
            assert after is X


def test_parts_of_the_face_hold_the_change_and_where_they_are_unknown_that_is_told(bank) -> None:
    regions = torch.zeros(4, 6, dtype=torch.uint8)
    regions[2:] = 4
    told: list[str] = []
    mouth = replace(SETTINGS, regions=("mouth",))
    held = changed(bank, [Part(slice(0, 1), (Where(None, regions),))], mouth, told=told.append)
    assert not moved(held)[0, :2].any() and moved(held)[0, 2:].all() and not told
    free = changed(bank, [Part(slice(0, 1), (EVERYWHERE,))], mouth, told=told.append)
    assert moved(free)[0].all()
    assert any("parts of the face are not known" in what for what in told)


def test_what_is_on_the_device_belongs_to_the_run(bank, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref] = []

    def upload(tensor: Tensor, device: torch.device) -> Tensor:
        copy = tensor.clone()
        held.append(weakref.ref(copy))
        return copy

    monkeypatch.setattr(module, "upload", upload)
    now = call()
    corner = torch.zeros(4, 6)
    corner[0, 0] = 1
    parts = [Part(slice(0, 2), (Where(corner),))]
    injection = Injection(bank, SETTINGS, [PLACE], print)
    attention = Attention(lambda rows, chosen: TOKENS[rows] if chosen is None else TOKENS[rows][:, chosen], lambda x: x, 2)
    for sigma in (2.0, 1.9):
        injection.add_context(PLACE, X, GRID, now._replace(sigma=sigma), parts, attention)
    assert len(held) == 4 + 2  # keys and values, the mask and its tokens: once for both steps
    now.kept.clear()
    gc.collect()
    assert not [one for one in held if one() is not None]
