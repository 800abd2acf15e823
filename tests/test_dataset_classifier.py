"""The classifiers that learn from a data set, on the nine expressions of three rendered people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rendered import COLUMNS, rendered_people

from faceexpr_core.faces.detector import FaceDetector
from lab.benchmarks import dataset_classifier as benchmark


@pytest.fixture(scope="module")
def samples(model_folder: Path) -> list[benchmark.Sample]:
    with FaceDetector([model_folder]) as detector:

        def pictures() -> Any:
            for row, people in enumerate(rendered_people()):
                for name, picture in zip(COLUMNS, people, strict=True):
                    yield (row,), name, picture, detector.detect(picture)[0]

        return benchmark.samples_of(pictures())


def test_a_regression_reads_a_person_that_it_never_saw(samples: list[benchmark.Sample]) -> None:
    classes = list(COLUMNS[:-1])  # shocked is much like surprised
    known = [one for one in samples if one.label in classes]
    train, unseen = [one for one in known if one.person != "2"], [one for one in known if one.person == "2"]
    assert len(train) == 16 and len(unseen) == 8
    assert all((one.change == 0).all() for one in known if one.label == "neutral")
    classify = benchmark.learn_regression(train, benchmark.changes, classes)
    assert classify(train) == [one.label for one in train]
    assert benchmark.right_by_person(unseen, classify).mean >= 0.6  # by chance 0.125


def test_the_net_learns_what_pixels_show(samples: list[benchmark.Sample]) -> None:
    classes = ["neutral", "happy", "surprised"]
    known = [one for one in samples if one.label in classes]
    assert benchmark.pixels(known).shape == (9, 3, benchmark.SIDE, benchmark.SIDE)
    told = benchmark.report(known, {"themselves": known}, classes, steps=250)
    assert "Learned on 9 pictures of 3 people (neutral 3, happy 3, surprised 3). By chance 0.33." in told
    assert "| convolutional net, pixels | 1.00 |" in told
