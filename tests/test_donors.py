"""Donors: which latents are looked at with which words and when, where an expression acts, and how photos are laid onto each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from faceexpr_core import mini
from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces import models
from faceexpr_core.faces.images import read_rgb
from faceexpr_core.fusion import donors
from faceexpr_core.fusion.donor_faces import (
    Twins,
    crop_photos,
    held_regions,
    locate,
    location_of,
    moved_in,
    moved_regions,
    moves_face,
    twins_picture,
)
from faceexpr_core.fusion.recorder import Recorder
from faceexpr_core.fusion.redraw import acting_regions
from faceexpr_core.fusion.settings import site_settings

SIGMAS = (14.6, 8.0, 5.0, 2.0, 0.5, 0.0)
START = 14.6 * torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
AIMS = {"n": -1.0, "e": 2.0}


@dataclass
class PointHost:
    """A model that knows one picture for each conditioning, a latent of one value, and records the latent that it is shown."""

    recorder: Recorder = field(default_factory=lambda: Recorder("cross_attention", (5.0, 2.0, 0.5)))
    calls: list[tuple[float, str, int | None, float]] = field(default_factory=list)

    def predict(self, x: torch.Tensor, sigma: float, which: str, record: int | None = None) -> torch.Tensor:
        self.calls.append((sigma, which, record, float(x.mean())))
        if record is not None:
            self.recorder.add("middle.0.0", record, which, x.flatten(2).mT, (x.shape[2], x.shape[3]))
        return (x - AIMS[which]) / sigma

    def observe(self, x: torch.Tensor, sigma: float, which: str, record: int) -> None:
        self.predict(x, sigma, which, record)

    def record_contexts(self) -> None:
        for which in ("n", "e"):
            for part in ("k", "v"):
                self.recorder.add("middle.0.0", None, f"{which}:{part}", torch.full((1, 3, 8), AIMS[which]))

    def encode(self, picture: np.ndarray) -> torch.Tensor:
        small = torch.from_numpy(picture.astype(np.float32)).mean(2).unfold(0, 8, 8).unfold(1, 8, 8).mean((2, 3)) / 255
        return small.expand(1, 4, -1, -1).clone()

    def decode(self, latent: torch.Tensor) -> np.ndarray:
        value = round(float(latent.mean()) * 50) + 100
        return np.full((8 * latent.shape[2], 8 * latent.shape[3], 3), value, np.uint8)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A render of an unseen person, [128, 128, 3]."""
    picture = Image.fromarray(read_rgb(sorted(mini.subject_path().glob("*.png"))[0]))
    return np.array(picture.resize((128, 128), Image.Resampling.LANCZOS))


def test_twins_share_their_run_down_to_the_branch_and_end_at_their_own_pictures() -> None:
    host = PointHost()
    twins: Any = donors.text_twin(host, START, SIGMAS, (2, 3, 4))
    assert [(sigma, which, mark) for sigma, which, mark, _ in host.calls] == [
        (14.6, "n", None),
        (8.0, "n", None),
        (5.0, "n", 0),
        (2.0, "n", 1),
        (0.5, "n", 2),
        (5.0, "e", 0),
        (2.0, "e", 1),
        (0.5, "e", 2),
    ]
    assert host.calls[2][3] == host.calls[5][3]
    assert host.calls[3][3] < host.calls[6][3]
    assert (int(twins.neutral[0, 0, 0]), int(twins.expression[0, 0, 0])) == (50, 200)
    bank = host.recorder.bank()
    assert bank.mode == "twin"
    donor: Any = bank.donor("middle.0.0", 5.0)
    assert torch.equal(donor.neutral, donor.expression)
    apart: Any = bank.donor("middle.0.0", 2.0)
    assert not torch.equal(apart.neutral, apart.expression)


def test_above_the_branch_both_words_look_at_the_one_latent() -> None:
    host = PointHost(Recorder("cross_attention", (8.0, 5.0)))
    donors.text_twin(host, START, SIGMAS, (1, 2))
    at_eight = [call for call in host.calls if call[0] == 8.0]
    assert [call[1:3] for call in at_eight] == [("n", 0), ("e", 0)] or [call[1:3] for call in at_eight] == [("e", 0), ("n", 0)]
    assert at_eight[0][3] == at_eight[1][3]


def test_an_unfinished_run_ends_with_the_last_recorded_sigma() -> None:
    host = PointHost()
    seen: list[np.ndarray] = []
    twins: Any = donors.text_twin(host, START, SIGMAS, (2,), seen.append, finish=False)
    assert [call[:2] for call in host.calls] == [(14.6, "n"), (8.0, "n"), (5.0, "n"), (5.0, "e")]
    assert (int(twins.neutral[0, 0, 0]), int(twins.expression[0, 0, 0])) == (50, 200)
    assert len(seen) == 1
    assert np.array_equal(seen[0], twins.neutral)


def test_a_single_step_still_gives_both_twins() -> None:
    twins: Any = donors.text_twin(PointHost(Recorder("cross_attention", (14.6,))), START, (14.6, 0.0), (0,))
    assert (int(twins.neutral[0, 0, 0]), int(twins.expression[0, 0, 0])) == (50, 200)


@pytest.mark.parametrize(("sigmas", "recorded"), [((5.0,), ()), ((5.0, 5.0, 0.0), ()), (SIGMAS, (5,)), (SIGMAS, (2, 1))])
def test_schedules_that_do_not_fall_and_steps_that_are_none_are_refused(sigmas, recorded) -> None:
    with pytest.raises(FaceExprError, match=r"must fall|cannot be recorded"):
        donors.text_twin(PointHost(), START, sigmas, recorded)


def test_a_text_without_a_face_acts_everywhere_and_says_so(model_folder: Path) -> None:
    host = PointHost()
    made = donors.text_donors(host, host.recorder, START, SIGMAS, moved=("mouth",), notes={"a": "b"}, folders=[model_folder])
    assert made.bank.sigmas == (5.0, 2.0, 0.5)
    assert (made.bank.mask, made.bank.regions, dict(made.bank.notes)) == (None, None, {"a": "b", "regions": "mouth"})
    assert "no face" in made.report


def test_keys_and_values_are_recorded_without_any_sigma(model_folder: Path) -> None:
    host = PointHost(Recorder("cross_attention_difference"))
    made = donors.text_donors(host, host.recorder, START, SIGMAS, folders=[model_folder])
    assert all(mark is None for _, _, mark, _ in host.calls)
    context: Any = made.bank.context("middle.0.0")
    assert float(context.keys_e.mean()) == 2.0
    assert float(context.values_n.mean()) == -1.0


def test_a_look_takes_a_few_of_the_samplers_levels_and_ends_at_the_neutral_picture() -> None:
    sigmas = (*(14.6 * 0.7**step for step in range(20)), 0.0)
    host = PointHost()
    look = donors.neutral_look(host, START, sigmas)
    assert [call[:3] for call in host.calls] == [(sigmas[index], "n", None) for index in (0, 3, 6, 10, 13, 16)]
    assert torch.allclose(look, torch.tensor(AIMS["n"]), atol=1e-4)
    few = PointHost()
    donors.neutral_look(few, START, SIGMAS, 20)
    assert [call[0] for call in few.calls] == list(SIGMAS[:-1])


def test_a_sampler_draws_nothing_for_the_difference_of_words(model_folder: Path) -> None:
    host = PointHost(Recorder("cross_attention_difference"))
    bank, report = donors.own_features(host, host.recorder, START, SIGMAS, notes={"a": "b"}, folders=[model_folder])
    assert (host.calls, bank.mask, report) == ([], None, "")
    assert bank.context("middle.0.0") is not None
    assert dict(bank.notes) == {"a": "b"}


def test_before_tokens_are_recorded_the_face_is_looked_for(model_folder: Path, photo, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that those of the face alone are ever kept."""
    host, largest = PointHost(), [0]
    monkeypatch.setattr(host, "decode", lambda latent: photo)
    add = host.recorder.add

    def watch(*given) -> None:
        add(*given)
        largest.append(sum(value.nbytes for value in host.recorder._tokens.values()))

    monkeypatch.setattr(host.recorder, "add", watch)
    host.recorder.keep = "face"
    start = 14.6 * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    bank = donors.text_donors(host, host.recorder, start, SIGMAS, moved=("mouth",), folders=[model_folder]).bank
    assert [call[2] for call in host.calls].index(0) == len(SIGMAS) - 1 + 2  # after the look, and two steps above the window
    assert max(largest) <= sum(value.nbytes for value in bank.tokens.values()) < 0.5 * 6 * 256 * 4 * 2


def test_a_sampler_records_what_twins_that_are_shown_do(model_folder: Path) -> None:
    shown, own = PointHost(), PointHost()
    expected = donors.text_donors(shown, shown.recorder, START, SIGMAS, folders=[model_folder]).bank
    given, _ = donors.own_features(own, own.recorder, START, SIGMAS, folders=[model_folder])
    assert given.tokens.keys() == expected.tokens.keys()
    assert all(torch.equal(given.tokens[key], value) for key, value in expected.tokens.items())


def test_a_few_noise_levels_stand_for_all() -> None:
    sigmas = (*(14.6 * 0.7**step for step in range(19)), 0.0)
    settings = site_settings("cross_attention")
    steps = donors.steps_in_window(sigmas, settings.window)
    every, few = (donors.recorder_for(settings, sigmas, levels=levels) for levels in (None, 4))
    assert every.sigmas == tuple(sigmas[index] for index in steps)
    assert len(steps) == 15  # not sigma 5, at the very edge of the window
    assert few.sigmas == tuple(sigmas[index] for index in steps[1::4])
    assert (every.sparse, few.sparse) == (False, True)
    assert donors.recorder_for(settings, sigmas, levels=99).sigmas == every.sigmas
    short = donors.recorder_for(settings, (14.6, 3.0, 0.0), levels=4)
    assert (short.sigmas, short.sparse) == ((3.0,), False)
    assert donors.recorder_for(site_settings("cross_attention_difference"), sigmas, levels=4).sigmas == ()


def test_missing_model_files_leave_the_mask_out_instead_of_failing(tmp_path: Path, photo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEEXPR_MODELS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(models, "_beside", lambda pack: [])
    found = locate(photo, ("mouth",), [tmp_path])
    assert found.mask is None
    assert "no mask" in found.report


# Photographs


def test_a_photo_is_seen_at_each_sigma_with_one_noise(photo) -> None:
    host = PointHost()
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    neutral = np.full_like(photo, 40)
    twins: Any = donors.photo_twin(host, photo, (5.0, 2.0, 0.5), noise, neutral)
    assert twins.neutral is neutral
    bank = host.recorder.bank()
    for position, sigma in enumerate(bank.sigmas):
        donor: Any = bank.donor("middle.0.0", sigma)
        of_expression, of_neutral = (host.encode(picture).flatten(2).mT for picture in (photo, neutral))
        assert torch.allclose(donor.expression.float(), of_expression + sigma * noise.flatten(2).mT, atol=0.02)
        difference = donor.expression.float() - donor.neutral.float()
        assert torch.allclose(difference, of_expression - of_neutral, atol=0.02)
        assert {call[1] for call in host.calls if call[2] == position} == {"n", "e"}


def test_a_drawn_neutral_changes_the_photo_under_the_mask_only(photo) -> None:
    host = PointHost()
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(128, 128)
    mask[32:96, 32:96] = 1
    donors.photo_twin(host, photo, (2.0,), noise, None, mask)
    drawn = [call for call in host.calls if call[2] is None]
    assert drawn[0][0] == pytest.approx(donors.NEUTRAL_SIGMA)
    assert {call[1] for call in drawn} == {"n"}
    donor: Any = host.recorder.bank().donor("middle.0.0", 5.0)  # the first of the recorder's sigmas
    latent = (donor.neutral.float() - 2 * noise.flatten(2).mT).mT.unflatten(2, (16, 16))
    assert torch.allclose(latent[..., 4:12, 4:12], torch.tensor(AIMS["n"]), atol=0.05)
    assert torch.allclose(latent[..., :4, :], host.encode(photo)[..., :4, :], atol=0.05)


def test_a_photo_alone_gives_features_without_a_neutral_twin(photo) -> None:
    host = PointHost()
    twins: Any = donors.photo_twin(host, photo, (5.0, 2.0, 0.5), torch.zeros(1, 4, 16, 16))
    assert twins.neutral is None
    assert host.recorder.bank().mode == "single"


@pytest.mark.parametrize("pictures", [True, False])
@pytest.mark.parametrize(
    "recorded", [("cross_attention", (2.0,)), ("cross_attention", (8.0, 5.0)), ("cross_attention_difference",)], ids=str
)
def test_words_take_as_many_evaluations_as_are_told_before(model_folder, recorded, pictures) -> None:
    host = PointHost(Recorder(*recorded))
    make = donors.text_donors if pictures else donors.own_features
    make(host, host.recorder, START, SIGMAS, folders=[model_folder])
    assert len(host.calls) == donors.text_evaluations(host.recorder, SIGMAS, pictures)


@pytest.mark.parametrize(("with_neutral", "neutral"), [(True, "drawn"), (False, "drawn"), (False, "none")])
def test_a_photo_takes_as_many_evaluations_as_are_told_before(detector, model_folder, photo, with_neutral, neutral) -> None:
    host = PointHost()
    crops: Any = crop_photos(photo, photo if with_neutral else None, 64, detector)
    donors.photo_donors(host, host.recorder, crops, torch.zeros(1, 4, 8, 8), neutral=neutral, folders=[model_folder])
    assert len(host.calls) == donors.photo_evaluations(host.recorder, with_neutral, neutral)


def test_the_difference_of_words_refuses_a_photo(detector, photo) -> None:
    host = PointHost(Recorder("cross_attention_difference"))
    crops: Any = crop_photos(photo, None, 64, detector)
    with pytest.raises(FaceExprError, match="words alone"):
        donors.photo_donors(host, host.recorder, crops, torch.zeros(1, 4, 8, 8))


def test_a_crop_holds_the_face_with_room_around_it(detector, photo) -> None:
    wide = np.concatenate([np.full((128, 96, 3), 90, np.uint8), photo], axis=1)
    crops: Any = crop_photos(wide, None, 96, detector)
    assert crops.photo.shape == (96, 96, 3)
    found = detector.detect(crops.photo)[0]
    assert np.abs(found.landmarks[:, :2] - crops.face.landmarks[:, :2]).max() < 4
    assert crops.face.box[0] > 0
    assert crops.face.box[2] < 96


@pytest.mark.parametrize(("turn", "size"), [(12.0, 128), (-8.0, 300)])
def test_a_turned_and_scaled_neutral_photo_is_laid_onto_the_other(detector, photo, turn: float, size: int) -> None:
    turned = np.array(Image.fromarray(photo).resize((size, size), Image.Resampling.BICUBIC).rotate(turn, Image.Resampling.BICUBIC))
    straight: Any = crop_photos(photo, photo, 128, detector)
    crops: Any = crop_photos(photo, turned, 128, detector)
    middle = (slice(40, 90), slice(40, 90))
    itself = np.abs(straight.neutral[middle].astype(float) - crops.photo[middle]).mean()
    laid = np.abs(crops.neutral[middle].astype(float) - crops.photo[middle]).mean()
    assert itself < 3
    assert laid < 8
    placed: Any = detector.detect(crops.neutral)[0]
    apart = np.linalg.norm(placed.landmarks[:, :2] - crops.face.landmarks[:, :2], axis=1).mean()
    assert apart < 3


def test_a_photo_without_a_face_is_refused(detector, photo) -> None:
    empty = np.full((96, 96, 3), 128, np.uint8)
    with pytest.raises(FaceExprError, match="no face was found in the photo"):
        crop_photos(empty, None, 64, detector)
    with pytest.raises(FaceExprError, match="no face was found in the neutral photo"):
        crop_photos(photo, empty, 64, detector)


# Where the expression acts


def test_expressions_move_the_regions_of_their_units() -> None:
    assert moved_regions("happy") == ("eyes", "mouth")
    assert moved_regions("surprised") == ("brows", "eyes", "mouth", "jaw")
    assert moved_regions("contempt", action_units="AU1") == ("brows", "mouth")
    assert moved_regions("neutral") == moved_regions("none") == ()
    assert moved_regions("none", "disgusted") == ("nose", "mouth", "jaw")
    assert acting_regions("happy", ("brows",)) == ("brows", "eyes", "mouth")  # whose smile goes


def test_action_units_are_held_to_their_regions_and_a_word_to_none() -> None:
    """Who is disgusted squints too, though none of its units moves the eyes."""
    assert held_regions("none", action_units="AU1+AU12") == ("brows", "mouth")
    assert held_regions("neutral", action_units="R46") == ("eyes",)
    for asked in (("disgusted",), ("none", "happy"), ("contempt", "none", "AU1"), ("neutral",), ("none",)):
        assert held_regions(*asked) == ()
    assert moves_face("happily surprised") and moves_face("neutral", "sad") and moves_face("none", action_units="AU4")
    assert not moves_face("none") and not moves_face("neutral", "none")


def test_a_bank_says_where_it_is_held() -> None:
    """Whatever its expression is called, by units alone or beside a word; older banks are held nowhere."""
    assert moved_in({"expression": "none", "regions": "brows,mouth"}) == ("brows", "mouth")
    assert moved_in({"expression": "disgusted"}) == moved_in({}) == ()


def test_the_mask_covers_what_moves_with_a_margin_and_regions_are_numbered(detector, photo) -> None:
    face = detector.detect(photo)[0]
    mouth: Any
    whole: Any
    mouth, whole = (location_of(face, 128, 128, moved) for moved in (("mouth",), ()))
    x, y = (round(float(value)) for value in face.landmarks[13, :2])
    assert mouth.mask[y, x] > 0.95
    assert mouth.regions[y, x] == 4
    brow = face.landmarks[105, :2]
    assert mouth.mask[round(float(brow[1])), round(float(brow[0]))] < 0.05
    assert mouth.regions[round(float(brow[1])), round(float(brow[0]))] == 1
    assert whole.mask.mean() > mouth.mask.mean() > 0.01
    assert whole.mask[0, 0] == 0
    assert (mouth.mask > 0.5).sum() > 1.5 * (mouth.regions == 4).sum()
    assert set(mouth.regions.unique().tolist()) == {0, 1, 2, 3, 4, 5}
    assert "mouth" in mouth.report


def test_the_picture_of_twins_shows_where_they_differ(photo) -> None:
    changed = photo.copy()
    changed[80:100, 50:80] = 255 - changed[80:100, 50:80]
    sheet = twins_picture(Twins(photo, changed))
    assert sheet.shape == (128, 384, 3)
    assert np.array_equal(sheet[:, :128], photo)
    red = sheet[:, 256:].astype(int)
    red = red[..., 0] - red[..., 2]
    assert red[80:100, 50:80].mean() > 50 + abs(red[:60]).mean()
    mask = torch.zeros(128, 128)
    mask[:64] = 1
    alone = twins_picture(Twins(None, photo), mask)
    assert alone.shape == (128, 256, 3)
    assert alone[:64, 128:].mean() > alone[64:, 128:].mean()


def test_a_banks_mask_holds_for_pictures_of_the_same_noise_size_and_words_only() -> None:
    host = PointHost()
    known: dict[str, Any] = {"model": "mini", "expression": "happy", "prompt": "a photo", "width": 64, "height": 96, "seed": 7}
    known["neutral"] = "a person"
    donors.text_twin(host, START, SIGMAS, (2, 3, 4))
    text, photo = (host.recorder.bank(notes=donors.donor_notes(source=source, **known)) for source in ("text", "photo"))
    assert donors.same_place(text, 7, 64, 96, "a person")
    assert not donors.same_place(text, 8, 64, 96, "a person")
    assert not donors.same_place(text, 7, 96, 64, "a person")
    assert not donors.same_place(text, 7, 64, 96, "a dog and a person")
    assert not donors.same_place(photo, 7, 64, 96, "a person")


def test_the_branch_lies_where_the_default_window_begins() -> None:
    from faceexpr_core.fusion.settings import window_range

    assert math.isclose(donors.BRANCH_SIGMA, window_range((0.0, 0.8))[1], rel_tol=0.01)
