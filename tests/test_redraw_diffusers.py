"""A face drawn over on diffusers: its fusions are entered once, and draw to the bit what they draw when each evaluation enters them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from faceexpr_core import mini
from faceexpr_core.diffusers_host import encoding, fusion, sampling
from faceexpr_core.diffusers_host.fusion import Fusion, Rows, apply_fusion
from faceexpr_core.diffusers_host.redraw import RedrawHost, Redrawing, change_face
from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces.change import FaceCut, cut_face
from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.faces.images import read_rgb
from faceexpr_core.fusion import redraw as way
from faceexpr_core.fusion.donor_faces import moved_regions
from faceexpr_core.fusion.run import MOST_GUIDANCE, Run
from faceexpr_core.fusion.settings import MAX_STRENGTH
from faceexpr_core.text import expression_terms

SIDE = 96
NAN, INFINITE = float("nan"), float("inf")


@pytest.fixture(scope="module")
def face(detector: FaceDetector) -> tuple[np.ndarray, FaceCut]:
    picture = np.asarray(read_rgb(mini.donor_path() / "another_person_happy.jpg") / 255, np.float32)
    (one,) = detector.detect((picture * 255).astype(np.uint8))
    return picture, cut_face(picture, one, SIDE)


class AtEach:
    """`redraw.Host` that enters the fusion of an evaluation for this one alone, and leaves it afterwards; `host` fuses nothing itself."""

    def __init__(self, host: RedrawHost, fusions: dict[str, Fusion | None], sigmas: tuple[float, ...]) -> None:
        self.host, self.fusions, self.sigmas = host, fusions, sigmas

    def predict(self, x: torch.Tensor, sigma: float, which: Any) -> torch.Tensor:
        one, conditional = self.fusions[which], len(self.host._texts[1]) - 1
        rows = Rows((conditional,), (0,), self.host._cfg, self.sigmas, sigma)
        with nullcontext() if one is None else apply_fusion(self.host._pipe.unet, one, rows):
            return self.host.predict(x, sigma, which)


def drawn(pipe: Any, face: tuple[np.ndarray, FaceCut], how: Redrawing, shown: str, asked: str, **options: Any) -> np.ndarray:
    words = way.redraw_words("a photo of a woman", expression_terms(asked), shown, partial(encoding.count_tokens, pipe))
    return change_face(pipe, *face, words, shown, moved_regions(asked), how, **options)


@pytest.mark.parametrize("how", [Redrawing(steps=3), Redrawing(steps=2, cfg=3.0, negative="blurry")], ids=["plain", "guided"])
@pytest.mark.parametrize(("shown", "asked"), [("happy", "sad"), ("happy", "neutral"), ("neutral", "surprised")])
def test_the_picture_is_that_of_fusions_entered_at_each_evaluation(
    pipe: Any, face: tuple[np.ndarray, FaceCut], how: Redrawing, shown: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    injection = fusion.Injection

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return injection(*arguments)

    monkeypatch.setattr(fusion, "Injection", counted)
    picture = drawn(pipe, face, how, shown, asked)
    fused = sum(name != "neutral" for name in (shown, asked))
    assert len(made) == fused
    given: dict[str, Fusion | None] = {}
    fusing = RedrawHost.fusing

    def not_entered(host: RedrawHost, fusions: Any) -> Any:
        given.update(fusions)
        return fusing(host, {})

    def at_each(host: RedrawHost, latent: torch.Tensor, sigmas: Any, mask: torch.Tensor, weight: float) -> torch.Tensor:
        return way.redraw(AtEach(host, given, sigmas), latent, sigmas, mask, weight)

    monkeypatch.setattr(RedrawHost, "fusing", not_entered)
    entered_often = drawn(pipe, face, how, shown, asked, draw=at_each)
    assert len(made) == fused + sum(count for which, count in (("n", how.steps + 1), ("e", how.steps)) if given[which] is not None)
    assert np.array_equal(picture, entered_often)
    assert np.abs(picture - face[0]).max() > 1e-3


def test_no_hook_is_left(pipe: Any, face: tuple[np.ndarray, FaceCut]) -> None:
    before = {name: len(module._forward_hooks) for name, module in pipe.unet.named_modules()}
    with pytest.raises(KeyboardInterrupt):
        drawn(pipe, face, Redrawing(steps=2), "happy", "sad", on_call=stopping(3))
    assert {name: len(module._forward_hooks) for name, module in pipe.unet.named_modules()} == before


def stopping(calls: int) -> Callable[[], None]:
    left = iter(range(calls))

    def call() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return call


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"strength": NAN}, "the strength is nan; it must lie between 0 and 4"),
        ({"strength": MAX_STRENGTH + 0.1}, "the strength is 4.1"),
        ({"strength": -1.0}, "the strength is -1"),
        ({"steps": 0}, "the steps are 0; at least 1 is needed"),
        ({"cfg": NAN}, r"the guidance \(cfg\) is nan"),
        ({"cfg": INFINITE}, r"the guidance \(cfg\) is inf"),
        ({"cfg": -2.0}, r"the guidance \(cfg\) is -2"),
        ({"denoise": NAN}, "the denoise is nan"),
        ({"denoise": 0.0}, "the denoise is 0; it must lie above 0 and up to 1"),
        ({"denoise": 1.01}, "the denoise is 1.01"),
    ],
)
def test_settings_that_cannot_be_are_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(FaceExprError, match=told):
        Redrawing(**changed)


@pytest.mark.parametrize("strength", [NAN, INFINITE, MAX_STRENGTH + 1, -0.5])
@pytest.mark.parametrize("asked", ["neutral", "sad"])
def test_a_strength_that_cannot_be_is_refused_whatever_is_asked(asked: str, strength: float) -> None:
    words = way.redraw_words("a man", expression_terms(asked), "happy", lambda text: (len(text.split()),))
    with pytest.raises(FaceExprError, match="the strength is"):
        way.strengths(strength, words)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"steps": 0}, "at least 1"),
        ({"cfg": NAN}, "the guidance"),
        ({"cfg": MOST_GUIDANCE + 1}, "the guidance"),
        ({"width": 100}, "multiples of 8"),
        ({"height": 0}, "multiples of 8"),
        ({"sigmas": (3.0, 4.0, 0.0)}, "the noise levels are 3 4 0; they must fall"),
        ({"sigmas": (3.0, NAN, 0.0)}, "they must fall"),
        ({"sigmas": (INFINITE, 1.0, 0.0)}, "they must fall"),
        ({"sigmas": (3.0, 1.0)}, "and end at 0"),
        ({"sigmas": (0.0,)}, "they must fall"),
    ],
)
def test_a_run_that_cannot_be_drawn_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(FaceExprError, match=told):
        Run(**changed)


def test_a_run_follows_its_own_noise_levels(pipe: Any) -> None:
    assert sampling.schedule_of(pipe, Run(steps=3)) == tuple(sampling.normal_schedule(pipe, 3).tolist())
    assert sampling.schedule_of(pipe, Run(steps=3, sigmas=(2.0, 0.0))) == (2.0, 0.0)
    assert Run(7, 3).meaning() == {"steps": 3, "cfg": 5.0, "width": 1024, "height": 1024, "negative": ""}
