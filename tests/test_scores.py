"""The field's measures on numbers that can be checked by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from faceexpr_core.errors import FaceExprError
from faceexpr_core.expressions import blend_of
from faceexpr_core.faces.detector import Face, FaceDetector
from faceexpr_core.measure.expression import CLASSES, measured_as, nearest_of, prototypes
from faceexpr_core.measure.pose import pose_change
from faceexpr_core.measure.scores import (
    BASIC_SIX,
    TWELVE,
    accuracy,
    blendshape_distance,
    control_linearity,
    harmonic_score,
    structural_confusion,
)
from faceexpr_core.measure.statistics import pearson


@pytest.fixture(scope="module")
def face(model_folder: Path) -> Iterator[Face]:
    with FaceDetector([model_folder]) as detector:
        yield detector.detect(np.asarray(data.astronaut()))[0]


def test_accuracy_counts_only_what_was_asked_among_the_expressions() -> None:
    asked = ["happy", "sad", "angry", "contempt", "neutral"]
    read = ["happy", "angry", None, "contempt", "happy"]
    assert accuracy(asked, read) == pytest.approx(1 / 3)
    assert accuracy(asked, read, TWELVE) == pytest.approx(2 / 4)
    with pytest.raises(FaceExprError, match="none of 1 was"):
        accuracy(["neutral"], ["neutral"])
    with pytest.raises(FaceExprError, match="2 pictures were asked for and 1 read"):
        accuracy(["happy", "sad"], ["happy"])


def test_structural_confusion_is_the_mean_of_both_ways_over_both_pairs() -> None:
    asked = ["fearful"] * 4 + ["surprised"] * 2 + ["angry"] * 2 + ["disgusted"] * 5
    read = ["surprised", "fearful", "fearful", "sad"] + ["surprised", "fearful"] + ["angry", None] + ["angry"] * 5
    assert structural_confusion(asked, read) == pytest.approx(((1 / 4 + 1 / 2) / 2 + (0 + 1) / 2) / 2)
    assert structural_confusion(asked, asked) == 0
    with pytest.raises(FaceExprError, match="no picture was asked for 'disgusted'"):
        structural_confusion(["fearful", "surprised", "angry"], ["fearful", "surprised", "angry"])


def test_linearity_is_the_mean_of_pearsons_r() -> None:
    assert pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1) and pearson([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert pearson([0, 1, 2], [0, 1, 0]) == pytest.approx(0) and pearson([1, 2, 3], [5, 5, 5]) == 0
    assert control_linearity([([0.25, 0.5, 1], [0.1, 0.2, 0.4]), ([0.25, 0.5, 1], [0.7, 0.7, 0.7])]) == pytest.approx(0.5)
    with pytest.raises(FaceExprError, match="at least three pairs"):
        control_linearity([([0, 1], [0, 1])])
    with pytest.raises(FaceExprError, match="at least one series"):
        control_linearity([])


def test_blendshape_distance_is_the_mean_absolute_difference(face: Face) -> None:
    assert blendshape_distance({"a": 0.2, "b": 0.5}, {"a": 0.6, "b": 0.5}) == pytest.approx(0.2)
    assert blendshape_distance({"a": 0.2, "_neutral": 0.0}, {"a": 0.6, "_neutral": 1.0}) == pytest.approx(0.4)
    assert blendshape_distance(face.blendshapes, face.blendshapes) == 0
    with pytest.raises(FaceExprError, match="other blendshapes"):
        blendshape_distance({"a": 0.2}, {"b": 0.2})


@pytest.mark.parametrize(
    ("expression", "likeness", "score"), [(1, 1, 1), (0.5, 0.5, 0.5), (1, 0.5, 2 / 3), (0, 1, 0), (0.4, -0.2, 0), (1.5, 1, 1)]
)
def test_the_harmonic_score_is_high_only_where_both_are(expression: float, likeness: float, score: float) -> None:
    assert harmonic_score(expression, likeness) == pytest.approx(score)


def change_of(name: str) -> NDArray[np.float64]:
    fitted = prototypes()
    return np.sum([weight * fitted.vectors[CLASSES.index(measured_as(part.name))] for part, weight in blend_of(name)], axis=0)


@pytest.mark.parametrize("name", TWELVE)
def test_each_of_the_twelve_is_nearest_to_itself_on_either_side(name: str) -> None:
    change = change_of(name)
    assert nearest_of(change, TWELVE) == nearest_of(0.3 * change[prototypes().mirror], TWELVE) == name


def test_the_six_are_ekmans_and_the_twelve_hold_them() -> None:
    assert set(BASIC_SIX) < set(CLASSES) and len(set(BASIC_SIX)) == 6
    assert set(BASIC_SIX) < set(TWELVE) and len(set(TWELVE)) == 12


def turned(face: Face, degrees: float, axis: int) -> Face:
    """The same face with its landmarks turned about an axis (0 pitch, 1 yaw, 2 roll), made larger and moved."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = [other for other in range(3) if other != axis]
    rotation = np.eye(3)
    rotation[first, first] = rotation[second, second] = cos
    rotation[first, second], rotation[second, first] = -sin, sin
    points = (face.landmarks @ rotation.T * 1.7 + [40, -9, 3]).astype(np.float32)
    return Face(face.box, points, face.blendshapes)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [0, 3, 25, 90])
def test_pose_change_is_the_angle_of_the_turn_whatever_place_and_size(face: Face, axis: int, degrees: float) -> None:
    assert pose_change(turned(face, degrees, axis), face) == pytest.approx(degrees, abs=0.1)


def test_a_tilted_photograph_is_turned_as_far(model_folder: Path) -> None:
    photo = Image.fromarray(data.astronaut())
    with FaceDetector([model_folder]) as detector:
        upright, tilted = (detector.detect(np.array(photo.rotate(angle, Image.Resampling.BICUBIC)))[0] for angle in (0, 20))
    assert pose_change(tilted, upright) == pytest.approx(20, abs=4)
