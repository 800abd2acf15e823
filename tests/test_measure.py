"""Measuring expression and identity, on renders of three people whom no fit has seen (tests/data/rendered_faces.jpg)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rendered import COLUMNS, SIDE, rendered_people
from skimage import data

from faceexpr_core.errors import FaceExprError
from faceexpr_core.expressions import EXPRESSIONS
from faceexpr_core.faces.detector import Face, FaceDetector
from faceexpr_core.faces.upright import _square_upright
from faceexpr_core.fusion.donor_faces import _aligned
from faceexpr_core.measure.expression import (
    CLASSES,
    NO_FACE,
    ExpressionMeter,
    intensity_of,
    measured_as,
    prototypes,
    read_change,
)
from faceexpr_core.measure.identity import IdentityMeter, donor_leak, identity_drop, identity_scale, normalised
from faceexpr_core.measure.pictures import Locality, diversity, locality
from faceexpr_core.measure.reader import face_square
from faceexpr_core.measure.statistics import Interval, mean_interval, spearman

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def people() -> list[dict[str, Picture]]:
    """Three people, each with every expression."""
    return [dict(zip(COLUMNS, row, strict=True)) for row in rendered_people()]


@pytest.fixture(scope="module")
def found(detector: FaceDetector, people: list[dict[str, Picture]]) -> list[dict[str, Face]]:
    return [{name: detector.detect(picture)[0] for name, picture in person.items()} for person in people]


def change_of(name: str, share: float = 1.0) -> NDArray[np.float64]:
    return share * prototypes().vectors[CLASSES.index(name)]


@pytest.mark.parametrize("name", CLASSES)
def test_a_prototype_reads_as_itself(name: str) -> None:
    reading = read_change(change_of(name, 0.8))
    assert reading.expression == name and reading.hits(name)
    assert reading.scores[name] == pytest.approx(1) and reading.intensity == pytest.approx(0.8)


def test_contempt_counts_on_either_side() -> None:
    fitted = prototypes()
    for change in (change_of("contempt"), change_of("contempt")[fitted.mirror]):
        assert read_change(change).expression == "contempt"
    assert np.array_equal(fitted.mirror[fitted.mirror], np.arange(len(fitted.mirror)))
    assert fitted.blendshapes[fitted.mirror[fitted.blendshapes.index("mouthSmileLeft")]] == "mouthSmileRight"


def test_a_weak_change_is_neutral_and_no_face_is_a_miss() -> None:
    weak = read_change(change_of("sad", 0.2))
    assert weak.is_neutral() and weak.hits("neutral") and weak.hits("sad")
    assert not read_change(change_of("sad")).hits("neutral")
    assert not any(NO_FACE.hits(name) for name in (*CLASSES, "neutral"))


def test_words_of_the_vocabulary_are_judged_by_their_class() -> None:
    assert {measured_as(name) for name in EXPRESSIONS if name != "neutral"} == set(CLASSES)
    assert measured_as("shocked") == "surprised"
    with pytest.raises(FaceExprError, match="bittersweet"):
        measured_as("bittersweet")


def test_rendered_expressions_are_read_from_their_change(detector: FaceDetector, people: list[dict[str, Picture]]) -> None:
    meter = ExpressionMeter(detector=detector)
    asked = [(person, name) for person in people for name in COLUMNS[1:]]
    hits = [meter.measure(person[name], person["neutral"]).hits(name) for person, name in asked]
    assert sum(hits) >= 0.85 * len(hits)


def test_intensity_of_the_asked_expression_is_near_one_for_full_renders(found: list[dict[str, Face]]) -> None:
    strengths = [intensity_of(person[name], person["neutral"], name) for person in found for name in CLASSES]
    assert 0.8 < float(np.mean(strengths)) < 1.8
    assert intensity_of(found[0]["neutral"], found[0]["neutral"], "happy") == 0


def test_a_picture_without_a_face_reads_as_none(detector: FaceDetector, people: list[dict[str, Picture]]) -> None:
    reading = ExpressionMeter(detector=detector).measure(np.zeros((128, 128, 3), np.uint8), people[0]["neutral"])
    assert reading.expression is None and not reading.hits("happy")


def test_identity_tells_people_apart_whatever_they_express(
    detector: FaceDetector, people: list[dict[str, Picture]], model_folder: Path
) -> None:
    with IdentityMeter([model_folder], detector) as meter:
        references = [meter.reference([person[name] for name in COLUMNS[:6]]) for person in people]
        scores = np.array(
            [[[normalised(meter.similarity(person[name], r)) for r in references] for name in COLUMNS[6:]] for person in people]
        )
    own = np.array([scores[i, :, i] for i in range(3)])
    others = np.array([scores[i, :, j] for i in range(3) for j in range(3) if i != j])
    assert own.min() > others.max()
    assert 0.7 < own.mean() < 1.3 and others.mean() < 0.5


def test_the_same_photograph_is_the_same_person(detector: FaceDetector, people: list[dict[str, Picture]]) -> None:
    meter = IdentityMeter(detector=detector)
    photo = np.asarray(data.astronaut())
    reference = meter.reference([photo])
    assert np.linalg.norm(reference) == pytest.approx(1, abs=1e-5)
    half = np.asarray(Image.fromarray(photo).resize((256, 256), Image.Resampling.LANCZOS))
    similar, other = meter.similarity(half[:, ::-1].copy(), reference), meter.similarity(people[0]["happy"], reference)
    assert similar is not None and similar > 0.8
    assert other is not None and other < 0.5


def test_no_face_is_no_similarity(detector: FaceDetector) -> None:
    meter = IdentityMeter(detector=detector)
    blank = np.zeros((128, 128, 3), np.uint8)
    assert meter.similarity(blank, np.ones(128, np.float32)) is None
    assert normalised(None) == 0
    with pytest.raises(FaceExprError, match="No face was found"):
        meter.reference([blank])


def test_the_identity_scale_ends_at_other_people_and_at_the_same_person() -> None:
    scale = identity_scale()
    assert (normalised(scale.mu_diff), normalised(scale.mu_same)) == (0, 1)
    assert 0.3 < scale.mu_diff < 0.6 < 0.8 < scale.mu_same < 1


def test_rank_correlation() -> None:
    assert spearman([0.2, 0.5, 0.8, 1.0], [0.1, 0.15, 3.0, 9.0]) == pytest.approx(1)
    assert spearman([1, 2, 3], [5, 4, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 3], [4, 4, 4]) == 0
    with pytest.raises(FaceExprError, match="at least three"):
        spearman([1, 2], [1, 2])


def test_the_drop_is_what_the_expression_costs_of_the_likeness() -> None:
    scale = identity_scale()
    assert identity_drop(scale.mu_same, scale.mu_diff) == pytest.approx(1)
    assert identity_drop(scale.mu_same, scale.mu_same) == 0
    assert identity_drop(scale.mu_same, None) == pytest.approx(1)


def test_leak_is_the_step_towards_the_donor() -> None:
    person, donor = np.eye(2, 128, dtype=np.float32)
    between = (0.8 * person + 0.6 * donor).astype(np.float32)
    assert donor_leak(between, person, donor) == pytest.approx(0.6)
    assert donor_leak(person, person, donor) == 0
    assert donor_leak(None, person, donor) is None and donor_leak(person, None, donor) is None


def test_becoming_the_donor_leaks_and_an_expression_does_not(
    detector: FaceDetector, people: list[dict[str, Picture]], model_folder: Path
) -> None:
    with IdentityMeter([model_folder], detector) as meter:
        donor = meter.reference([people[1]["happy"]])
        mine, smiling, theirs = (meter.embed(p) for p in (people[0]["neutral"], people[0]["happy"], people[1]["neutral"]))
    became, stayed = donor_leak(theirs, mine, donor), donor_leak(smiling, mine, donor)
    assert became is not None and stayed is not None
    assert became > 0.1 and stayed < became / 2


def test_locality_counts_changes_where_they_are() -> None:
    neutral = np.full((8, 8, 3), 100, np.uint8)
    mask = np.zeros((8, 8), np.float32)
    mask[:4] = 1
    picture = neutral.copy()
    picture[:4] += 51
    assert locality(picture, neutral, mask) == Locality(pytest.approx(0.2), 0)  # type: ignore[arg-type]
    picture[4:] -= 51
    both = locality(picture, neutral, mask)
    assert both.inside == pytest.approx(0.2) and both.ratio == pytest.approx(1)
    with pytest.raises(FaceExprError, match="100%"):
        locality(picture, neutral, np.ones((8, 8)))


def test_a_smile_is_local_to_the_face_of_a_render(found: list[dict[str, Face]], people: list[dict[str, Picture]]) -> None:
    from faceexpr_core.faces.detector import face_mask

    mask = face_mask(found[0]["neutral"], SIDE, SIDE)
    smile = people[0]["neutral"].copy()
    x, y = found[0]["neutral"].landmarks[13, :2].astype(int)  # the upper lip
    smile[y - 12 : y + 12, x - 18 : x + 18] = 255
    assert locality(smile, people[0]["neutral"], mask).ratio < 0.05


def test_diversity_is_the_distance_of_pairs() -> None:
    grey, lighter = np.full((4, 4, 3), 0, np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert diversity([grey, lighter]) == pytest.approx(0.2)
    assert diversity([grey, grey, lighter]) == pytest.approx(0.4 / 3)
    assert diversity([grey, grey]) == 0
    with pytest.raises(FaceExprError, match="two or more"):
        diversity([grey])


@pytest.mark.parametrize("people", [5, 10])
def test_of_few_people_too_the_interval_holds_the_mean_as_often_as_it_says(people: int) -> None:
    """Plain percentiles of ten people do so in about 90 of 100."""
    rng = np.random.default_rng(2)
    found = [mean_interval(rng.normal(0, 1, (people, 1)).tolist(), resamples=1000) for _ in range(600)]
    assert 0.91 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.97


@pytest.mark.parametrize("upright", [False, True])
def test_a_face_is_read_where_a_picture_is_too_long_for_opencvs_warps(
    detector: FaceDetector, people: list[dict[str, Picture]], monkeypatch: pytest.MonkeyPatch, upright: bool
) -> None:
    """Before version 5 they end with an error from 32,767 pixels a side on."""
    warp = cv2.warpAffine

    def as_before(picture: Picture, *given: Any, **named: Any) -> Any:
        assert max(picture.shape) < 32_767
        return warp(picture, *given, **named)

    monkeypatch.setattr(cv2, "warpAffine", as_before)
    happy = np.asarray(Image.fromarray(people[0]["happy"]).resize((320, 320), Image.Resampling.BICUBIC))
    photo = np.pad(happy, ((96, 96), (96, 96), (0, 0)), constant_values=120)
    long, start = (
        np.full((34_000, 512, 3) if upright else (512, 34_000, 3), 120, np.uint8),
        np.array((0, 33_400))[:: 1 if upright else -1],
    )
    long[start[1] : start[1] + 512, start[0] : start[0] + 512] = photo
    face, points = detector.detect(photo)[0], detector.five_points(photo)
    assert points is not None
    far = face.moved(1.0, *-start)
    with IdentityMeter(detector=detector) as meter:
        assert meter.embed_points(long, points + start) @ meter.embed_points(photo, points) > 0.98
    pairs = [
        (face_square(long, far), face_square(photo, face)),
        (_aligned(long, far, face, 512), _aligned(photo, face, face, 512)),
        (_square_upright(long, far, 30.0, 0.75), _square_upright(photo, face, 30.0, 0.75)),
    ]
    for there, here in pairs:
        size = min(len(there), len(here)) // 32 * 32  # what is turned upright stays at the size it was shrunk to
        shown = [np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BOX), np.float64) for one in (there, here)]
        assert np.abs(shown[0] - shown[1]).mean() < 3 < np.abs(shown[0] - shown[1][:, ::-1]).mean()


def test_the_bootstrap_draws_subjects_not_pictures() -> None:
    rng = np.random.default_rng(1)
    subjects = rng.normal(0.5, 0.1, 400)
    interval = mean_interval([[value] * 9 for value in subjects])
    assert interval.mean == pytest.approx(subjects.mean())
    usual = 1.96 * subjects.std() / np.sqrt(len(subjects))  # of the normal distribution
    assert interval.high - interval.mean == pytest.approx(usual, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(usual, rel=0.1)
    assert mean_interval([[1.0], [], [0.0, 2.0]]) == Interval(1, 1, 1, 2)
    assert mean_interval([[0.25, 0.75]]) == Interval(0.5, 0.5, 0.5, 1)
    assert mean_interval([[0.0], [0.25], [0.5], [0.75]]) == Interval(0.375, 0.375, 0.375, 4)  # too few to say more
    with pytest.raises(FaceExprError, match="no values"):
        mean_interval([[], []])
