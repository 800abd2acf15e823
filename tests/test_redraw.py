"""A picture drawn over along its own noise path, and its change laid back: the arithmetic, without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from faceexpr_core import mini
from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces.change import KEPT_BELOW, chosen_faces, cut_face, paste_change
from faceexpr_core.faces.detector import Face, FaceDetector
from faceexpr_core.faces.images import read_rgb
from faceexpr_core.fusion.redraw import SHOWN_ALONE, redraw, redraw_evaluations, redraw_words, stays, strengths, told_of_face
from faceexpr_core.fusion.settings import WORDS_STRENGTH
from faceexpr_core.text import expression_terms

SIGMAS = (3.0, 1.5, 0.7, 0.2, 0.0)


class Linear:
    """A model whose noise is a linear function of x, another one for each of the texts."""

    def __init__(self, shown: float, asked: float, apart: float = 0.0) -> None:
        self.factors, self.apart, self.calls = {"n": shown, "e": asked}, apart, 0

    def predict(self, x: torch.Tensor, sigma: float, which: str) -> torch.Tensor:
        self.calls += 1
        return self.factors[which] * x + sigma + (self.apart if which == "e" else 0.0)


def latent() -> torch.Tensor:
    return torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(2))


def half() -> torch.Tensor:
    mask = torch.zeros(48, 48)
    mask[:, 24:] = 1
    return mask


def test_the_same_words_give_the_same_latent_to_the_bit_however_wrong_the_inversion_is() -> None:
    host = Linear(shown=0.4, asked=0.4)
    assert torch.equal(redraw(host, latent(), SIGMAS, torch.ones(48, 48)), latent())
    assert host.calls == redraw_evaluations(len(SIGMAS) - 1) == 9


def test_outside_the_mask_the_latent_stays_to_the_bit() -> None:
    drawn = redraw(Linear(0.3, 0.5), latent(), SIGMAS, half())
    assert torch.equal(drawn[..., :3], latent()[..., :3])
    assert (drawn[..., 3:] - latent()[..., 3:]).abs().min() > 1e-3


def test_a_constant_difference_of_the_noise_moves_the_latent_by_the_noise_it_was_taken_to() -> None:
    drawn = redraw(Linear(0.0, 0.0, apart=0.25), latent(), SIGMAS, torch.ones(48, 48))
    assert torch.allclose(drawn - latent(), torch.full_like(latent(), -0.25 * SIGMAS[0]), atol=1e-5)


def test_the_weight_multiplies_the_difference() -> None:
    once, thrice = (redraw(Linear(0.0, 0.0, apart=0.25), latent(), SIGMAS, half(), weight) - latent() for weight in (1.0, 3.0))
    assert once.abs().max() > 0.1
    assert torch.allclose(thrice, 3 * once, atol=1e-5)


def test_a_schedule_without_a_step_is_refused() -> None:
    with pytest.raises(FaceExprError, match="raise steps or denoise"):
        redraw(Linear(0.0, 0.0), latent(), (0.0,), half())


def count(text: str) -> tuple[int]:
    return (len(text.replace(",", " ,").split()),)


def test_what_is_asked_and_what_is_shown_are_said_beside_one_neutral_text() -> None:
    words = redraw_words("a man", expression_terms("sad", 0.8), "happy", count)
    assert words.asked.expressions == ("a man, sad expression",)
    assert words.asked.weights == (0.8,)
    assert words.shown.expressions == ("a man, happy expression",)
    assert words.asked.neutral == words.shown.neutral == "a man, neutral expression"
    assert strengths(3.0, words) == pytest.approx((3.0 / WORDS_STRENGTH, 2.0 / WORDS_STRENGTH, 1.0))


@pytest.mark.parametrize(("expression", "intensity"), [("neutral", 1.0), ("happy", 0.0)])
def test_a_neutral_face_is_asked_by_the_neutral_text_itself(expression: str, intensity: float) -> None:
    words = redraw_words("a man", expression_terms(expression, intensity), "happy", count)
    assert words.asked.expressions == (words.asked.neutral,)
    assert words.shown.expressions == ("a man, happy expression",)
    assert strengths(3.0, words) == (0.0, SHOWN_ALONE / WORDS_STRENGTH, 4.0)


def test_nothing_asked_is_refused() -> None:
    with pytest.raises(FaceExprError, match="no expression is asked"):
        redraw_words("a man", expression_terms("none"), "neutral", count)


@pytest.mark.parametrize(
    ("asked", "shown", "told"),
    [
        (expression_terms("neutral"), "neutral", "shows neutral already, as the judges read it, and is left as it is; say in shown what"),
        (expression_terms("happy", 0.0), "neutral", "shows neutral already"),
        (expression_terms("happy"), "happy", "shows happy already"),
        (expression_terms("happy", 1.2), "happy", ""),
        (expression_terms("happy", 1.0, "sad", 0.5), "happy", ""),
        (expression_terms("happy", 1.0, "none", 0.5, "AU1"), "happy", ""),
        (expression_terms("neutral"), "happy", ""),
        (expression_terms("happy"), "neutral", ""),
        (expression_terms("happy"), "none", ""),
    ],
)
def test_a_face_that_shows_what_is_asked_is_left_alone_and_that_is_told(asked: tuple, shown: str, told: str) -> None:
    words = redraw_words("a man", asked, shown, count)
    assert stays(words, 1.5) == bool(told)
    line = told_of_face(91.6, shown, words, 1.5, read=True)
    assert line.startswith("a face of 92 pixels")
    assert (told or f"{shown} until now") in line
    assert ("as 'shown' says" in told_of_face(91.6, shown, words, 1.5, read=False)) == bool(told)
    assert stays(words, 0.0)
    assert (
        told_of_face(91.6, shown, words, 0.0, read=True) == f"a face of 92 pixels, {shown} until now, is left as it is: the strength is 0"
    )


@pytest.fixture(scope="module")
def found(model_folder: Path) -> tuple[np.ndarray, list[Face]]:
    """Two people beside each other, the left one larger, float [256, 400, 3], and their faces."""
    left, right = (Image.fromarray(read_rgb(mini.subject_path() / f"photo_{number}.png")) for number in (1, 2))
    page = Image.new("RGB", (400, 256), "white")
    page.paste(left.resize((240, 240)), (0, 8))
    page.paste(right.resize((140, 140)), (250, 60))
    rgb = np.array(page)
    with FaceDetector([model_folder]) as detector:
        faces = detector.detect(rgb, every=True)
    noise = np.random.default_rng(0).uniform(-0.4, 0.4, rgb.shape) / 255
    return np.clip(rgb / 255 + noise, 0, 1).astype(np.float32), faces


def test_faces_are_chosen_by_size_and_by_where_they_are(found: tuple[np.ndarray, list[Face]]) -> None:
    _, faces = found
    assert len(faces) == 2
    assert chosen_faces(faces, -1) == faces
    assert chosen_faces(faces, 1) == faces[1:]
    assert chosen_faces(faces, 2) == []
    right = np.zeros((256, 400), np.float32)
    right[:, 250:] = 1
    assert chosen_faces(faces, 0, right) == faces[1:]
    with pytest.raises(FaceExprError, match="face is -2"):
        chosen_faces(faces, -2)


def test_what_was_not_changed_stays_to_the_bit_although_the_vae_blurs_it(found: tuple[np.ndarray, list[Face]]) -> None:
    picture, faces = found
    cut = cut_face(picture, faces[0], 128)
    small = Image.fromarray((cut.crop * 255).astype(np.uint8)).resize((32, 32))
    blurred = np.asarray(np.array(small.resize((128, 128))) / 255, np.float32)
    assert np.array_equal(paste_change(picture, cut, blurred, blurred), picture)


def test_outside_the_mask_every_bit_stays_and_inside_the_change_arrives(found: tuple[np.ndarray, list[Face]]) -> None:
    picture, faces = found
    cut = cut_face(picture, faces[1], 128)
    after = np.clip(cut.crop + 0.2, 0, 1)
    made = paste_change(picture, cut, cut.crop, after)
    assert np.array_equal(made[cut.mask == 0], picture[cut.mask == 0])
    assert 0.02 < (cut.mask > 0).mean() < 0.3
    whole = (cut.mask > 0.99) & (picture.max(2) < 0.7)
    assert whole.sum() > 500
    assert np.median(made[whole] - picture[whole]) == pytest.approx(0.2, abs=0.01)


def test_a_small_change_keeps_the_pictures_detail_and_a_large_one_takes_what_was_drawn(found: tuple[np.ndarray, list[Face]]) -> None:
    picture, faces = found
    cut = cut_face(picture, faces[0], 240)
    flat = np.full_like(cut.crop, 0.5)

    def detail(change: float) -> float:
        made = paste_change(picture, cut, flat, flat + np.float32(change))
        return float(made[cut.mask > 0.99].std())

    given = float(picture[cut.mask > 0.99].std())
    assert detail(0.02 * KEPT_BELOW) == pytest.approx(given, rel=0.05)
    assert detail(8 * KEPT_BELOW) < 0.05 * given


def test_a_mask_holds_the_change(found: tuple[np.ndarray, list[Face]]) -> None:
    picture, faces = found
    upper = np.zeros(picture.shape[:2], np.float32)
    upper[: round(faces[0].centre[1])] = 1
    cut = cut_face(picture, faces[0], 128, upper)
    assert cut.mask[round(faces[0].centre[1]) :].max() == 0
    assert cut.mask.max() > 0.99


def test_a_face_that_fills_the_picture_or_lies_at_its_edge_is_cut_inside_it(found: tuple[np.ndarray, list[Face]]) -> None:
    picture, faces = found
    left, top, right, bottom = (round(edge) for edge in faces[0].box)
    near = np.ascontiguousarray(picture[top : bottom - 10, left:right])
    cut = cut_face(near, faces[0].moved(1.0, left, top), 96)
    assert cut.crop.shape == (96, 96, 3)
    made = paste_change(near, cut, cut.crop, 1 - cut.crop)
    assert made.shape == near.shape
    assert np.isfinite(made).all()
