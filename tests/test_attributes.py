"""What is worn and where a person is, read from pictures: `lab.recipe.check attributes`."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from diffusers import StableDiffusionXLPipeline
from rendered import rendered_people

from faceexpr_core.faces.detector import FaceDetector
from lab.recipe import attributes
from lab.recipe.attributes import ATTRIBUTES, NO_FACE, PLAIN, SCENES, Attribute, Picture, aligned, framed, learned, scene_reader, tallied
from lab.world.backgrounds import background
from lab.world.identity import person_of
from lab.world.light import Lights


@pytest.fixture(scope="module")
def places() -> attributes.Reader:
    return scene_reader(range(12))


def with_glasses(picture: Picture, detector: FaceDetector) -> Picture:
    points = detector.detect(picture)[0].landmarks[:, :2]
    painted = picture.copy()
    for corners in ((33, 133), (362, 263)):
        middle, width = points[list(corners)].mean(0), abs(points[corners[0], 0] - points[corners[1], 0])
        cv2.circle(painted, (round(float(middle[0])), round(float(middle[1]))), round(float(width)), (20, 20, 25), 2, cv2.LINE_AA)
    return painted


def test_glasses_are_read_on_people_whom_the_reader_never_saw(detector: FaceDetector) -> None:
    people = rendered_people()

    def examples(rows: list[list[Picture]]) -> list[tuple[np.ndarray, str]]:
        plain = [picture for row in rows for picture in row[:6]]
        shown = [(one, PLAIN) for one in plain] + [(with_glasses(one, detector), "glasses") for one in plain]
        return [(aligned(one, detector.detect(one)[0]), label) for one, label in shown]

    known = examples(people[:2])
    reader = learned([features for features, _ in known], [label for _, label in known], attributes.FACE_RIDGE)
    read = [(reader.read(features), label) for features, label in examples(people[2:])]
    assert np.mean([one == label for one, label in read]) >= 0.75


def test_a_place_is_read_from_what_lies_beside_the_person(places: attributes.Reader) -> None:
    seen = {(name, seed): np.clip(background(name, Lights(), seed, 96), 0, 1) ** (1 / 2.2) for name in SCENES for seed in (100, 101)}
    read = {key: places.read(framed((255 * one).astype(np.uint8))) for key, one in seen.items()}
    assert np.mean([name == key[0] for key, name in read.items()]) > 0.8  # of 19; by chance 0.05


def test_mini_draws_a_person_where_the_prompt_says(places: attributes.Reader, pipe: StableDiffusionXLPipeline) -> None:
    asked = ("purple", "library")
    drawn = [attributes.drawn(pipe, 4.0, 8, 200_003, SCENES[name]) for name in asked]
    assert tuple(places.read(framed(one)) for one in drawn) == asked


def test_shares_are_counted_over_the_people_who_can_wear_it_and_a_lost_face_shows_nothing(detector: FaceDetector) -> None:
    face, wall = rendered_people()[0][0], np.full((192, 192, 3), 90, np.uint8)

    def show(seed: int, attribute: Attribute | None) -> Picture:
        return wall if attribute is not None and seed == 200_001 else face

    reads = {one.name: SimpleNamespace(read=lambda _, name=one.name: name) for one in ATTRIBUTES}
    people = range(200_000, 200_004)
    tallies, rows = tallied(people, show, reads, detector)  # type: ignore[arg-type]
    assert tallies["glasses"].shares("glasses") == (0.75, 1.0, 4)
    assert tallies["glasses"].asked[NO_FACE] == 1
    men = [seed for seed in people if person_of(seed).gender == "man"]
    assert tallies["beard"].asked.total() == len(men) > 0
    assert [len(row) for row in rows] == [1 + sum(one.fits(person_of(seed)) for one in ATTRIBUTES) for seed in people]
