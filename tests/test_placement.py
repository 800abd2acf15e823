"""Which parts of a pipeline lie on a card that is too small for all of them, and that the pictures are the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from faceexpr_core.diffusers_host import encoding, placement, sampling
from faceexpr_core.diffusers_host.donors import own_donors
from faceexpr_core.diffusers_host.fusion import Fusion
from faceexpr_core.diffusers_host.pipeline import load_pipeline
from faceexpr_core.diffusers_host.placement import bring_vae, device_of, fitting, manage
from faceexpr_core.fusion.run import Run
from faceexpr_core.fusion.settings import default_site, site_settings
from faceexpr_core.text import ExpressionPrompt
from lab.pretended.card import PretendedCard

WORDS = ExpressionPrompt("a photo of a woman", ("a photo of a woman, happy expression",), (1.0,))
DRAWN = Run(3, 2, width=64, height=64)
MIB = 1 << 20


@pytest.fixture(scope="module")
def mini() -> Any:
    return load_pipeline("mini")


@pytest.fixture
def plain(mini: Any) -> Iterator[Any]:
    yield mini
    placement._devices.pop(mini, None)
    mini.to("cpu")


def on_card(pipe: Any) -> set[str]:
    return {name for name in placement.PARTS if getattr(pipe, name).device.type == "cuda"}


def test_pictures_drawn_in_turns_are_those_drawn_at_once(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = sampling.generate(plain, WORDS, DRAWN, count=3)
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(sampling, "fitting", lambda *given: 2)
    in_turns = sampling.generate(plain, WORDS, DRAWN, count=3, on_step=lambda done, of: steps.append((done, of)))
    assert (in_turns.int() - at_once.int()).abs().max() <= 1
    assert steps == [(number, 4) for number in (1, 2, 3, 4)]


def test_a_fusion_of_one_picture_goes_with_its_turn() -> None:
    made = [Fusion(None, None, picture=number) for number in (None, 0, 1, 2)]  # type: ignore[arg-type]
    assert [one.picture for one in sampling._fusions_from(made, 0, 2)] == [None, 0, 1]
    assert [one.picture for one in sampling._fusions_from(made, 2, 2)] == [None, 0]


def test_what_is_not_in_use_leaves_a_card_that_is_too_small_and_the_picture_stays(plain: Any) -> None:
    expected = sampling.generate(plain, WORDS, DRAWN)
    with PretendedCard("values", total=40 * MIB) as card:
        manage(plain, torch.device("cuda"))
        seen = []
        drawn = sampling.generate(plain, WORDS, DRAWN, on_step=lambda *step: seen.append(on_card(plain)))
        assert device_of(plain).type == "cuda" and all("unet" in parts and "vae" not in parts for parts in seen)
        assert on_card(plain) == {"vae"}
        assert card.ledger.peak < sum(placement._size(getattr(plain, name)) for name in placement.PARTS)
        plain.to("cpu")
    assert (drawn.int() - expected.int()).abs().max() <= 1


def test_a_look_for_the_face_lets_the_u_net_leave_a_small_card_between_its_calls(plain: Any) -> None:
    """Within its call the U-Net would be torn from under it."""

    def draw() -> torch.Tensor:
        fusions, _ = own_donors(plain, WORDS, site_settings(default_site(False)), DRAWN, 1, moved=("mouth",))
        return sampling.generate(plain, WORDS.at_rest(), DRAWN, fusion=fusions)

    expected = draw()
    with PretendedCard("values", total=90 * MIB):
        manage(plain, torch.device("cuda"))
        drawn = draw()
        plain.to("cpu")
    assert (drawn.int() - expected.int()).abs().max() <= 1


def test_all_stay_where_there_is_room(plain: Any) -> None:
    with PretendedCard("values", total=1 << 34):
        manage(plain, torch.device("cuda"))
        sampling.generate(plain, WORDS, DRAWN)
        assert on_card(plain) == set(placement.PARTS)
        plain.to("cpu")


def test_as_many_pictures_at_once_as_the_card_has_room_for(plain: Any) -> None:
    assert fitting(plain, 7, 2, 1024, 1024) == 7  # no card
    with PretendedCard("values", total=4 << 30):
        manage(plain, torch.device("cuda"))
        fits = fitting(plain, 100, 2, 1024, 1024)
        assert 1 < fits < 20 and fitting(plain, 100, 4, 1024, 1024) == pytest.approx(fits / 2, abs=1)
        assert fitting(plain, 100, 2, 4096, 4096) == 1
        plain.to("cpu")


@pytest.mark.parametrize(("side", "gb", "tiled"), [(64, 16, False), (1024, 16, False), (2048, 16, True), (1024, 1, True)])
def test_the_vae_works_in_tiles_where_the_picture_is_large_or_the_card_small(plain: Any, side: int, gb: int, tiled: bool) -> None:
    with PretendedCard("values", total=gb << 30):
        manage(plain, torch.device("cuda"))
        bring_vae(plain, "decode", side, side)
        assert plain.vae.use_tiling is tiled
        plain.to("cpu")


def test_a_picture_in_tiles_is_nearly_the_same(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = encoding.encode_images(plain, sampling.generate(plain, WORDS, Run(3, 4, width=192, height=192)))
    whole = encoding.decode_latents(plain, latents)
    monkeypatch.setattr(placement, "LARGE", 64)
    monkeypatch.setattr(placement, "TILE", 128)
    tiled = encoding.decode_latents(plain, latents)
    assert plain.vae.use_tiling and tiled.shape == whole.shape
    assert 0 < (tiled.float() - whole.float()).abs().mean() < 6
