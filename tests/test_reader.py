"""The reader of expressions that learned on photographs: the network against face-api's own figures, then pictures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from reader_inputs import reference_squares
from rendered import COLUMNS, rendered_people
from safetensors import safe_open

from faceexpr_core.faces.detector import Face, FaceDetector
from faceexpr_core.measure import reader
from faceexpr_core.measure.reader import READER_CLASSES, Judgement, face_square, judge, judge_faces
from faceexpr_core.measure.reader_network import weights

DATA = Path(__file__).parent / "data"
Picture = NDArray[np.uint8]


def turned(picture: Picture, degrees: float) -> Picture:
    """The same picture turned about its middle, beyond the edge grey."""
    return np.array(Image.fromarray(picture).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(120, 120, 120)))


def test_the_network_is_face_apis_own() -> None:
    reference = json.loads((DATA / "reader_face_api.json").read_text(encoding="utf-8"))["probabilities"]
    found = [one.probabilities for one in judge(reference_squares())]
    assert len(found) == len(reference) == 12
    assert np.abs(np.array(found) - reference).max() < 1e-3
    assert np.ptp(np.array(reference), axis=0).max() > 0.9  # the squares are not all read alike


def test_squares_are_judged_alike_alone_and_in_batches() -> None:
    squares = reference_squares() * 7
    together = np.array([one.probabilities for one in judge(squares)])
    alone = np.array([judge([square])[0].probabilities for square in squares[:12]])
    assert together.shape == (84, 7) and np.abs(together.sum(axis=1) - 1).max() < 1e-5
    assert np.abs(together.reshape(7, 12, 7) - alone).max() < 1e-5
    assert judge([]) == []


def test_a_judgement_names_the_likeliest() -> None:
    judgement = Judgement((0.1, 0.2, 0.05, 0.05, 0.0, 0.0, 0.6))
    assert (judgement.expression, judgement.confidence, judgement.of("happy")) == ("surprised", 0.6, 0.2)
    with pytest.raises(ValueError, match="not in tuple"):
        judgement.of("bored")


def test_the_weights_are_whole_and_say_whose_they_are() -> None:
    with safe_open(Path(reader.__file__).parent / "reader.safetensors", "np") as file:
        names = [name for name in file.keys() if not name.endswith(".scale")]  # noqa: SIM118
        assert len(names) == 49 and "vladmandic/face-api 1.7.15" in file.metadata()["source"]
    assert sum(values.size for values in weights().values()) == 323_687
    assert "MIT License" in (Path(reader.__file__).parent / "reader.LICENSE.txt").read_text(encoding="utf-8")


def test_a_photographed_smile_is_happy_at_any_size_and_tilt(photo: Picture, detector: FaceDetector) -> None:
    half = np.array(Image.fromarray(photo).resize((256, 256), Image.Resampling.LANCZOS))
    double = np.array(Image.fromarray(photo).resize((1024, 1024), Image.Resampling.LANCZOS))
    pictures = [photo, half, double, turned(photo, 35), turned(photo, -35)]
    faces = [detector.detect(picture)[0] for picture in pictures]
    assert [round(one.of("happy"), 2) for one in judge_faces(pictures, faces)] == [1.0] * 5


def test_renders_are_mostly_read_as_what_they_are(detector: FaceDetector) -> None:
    people = rendered_people()
    asked = [(row, column) for row in range(3) for column in range(7)]
    pictures = [people[row][column] for row, column in asked]
    faces = [detector.detect(picture)[0] for picture in pictures]
    read = [one.expression for one in judge_faces(pictures, faces)]
    right = [name == COLUMNS[x] for name, (_, x) in zip(read, asked, strict=True)]
    assert sum(right) >= 15  # of 21; by chance 3


def test_the_square_holds_the_landmarks_upright_in_its_middle(photo: Picture, detector: FaceDetector) -> None:
    face = detector.detect(photo)[0]
    points = face.landmarks[:, :2]
    span = np.ptp(points, axis=0).max()
    drawn = np.zeros((512, 512, 3), np.uint8)
    cv2.circle(drawn, (int(points[1, 0]), int(points[1, 1])), 3, (255, 255, 255), -1)  # the nose's tip
    square = face_square(drawn, face)
    assert square.shape == (112, 112, 3) and square.dtype == np.uint8
    rows, columns = np.nonzero(square[..., 0] > 128)
    low, high = points.min(axis=0), points.max(axis=0)
    expected = (points[1] - (low + high) / 2) * 112 / (1.1 * span) + 56
    assert np.abs([columns.mean() + 0.5 - expected[0], rows.mean() + 0.5 - expected[1]]).max() < 3


def test_a_face_at_the_pictures_edge_gets_the_edge_repeated(photo: Picture, detector: FaceDetector) -> None:
    face = detector.detect(photo)[0]
    left = int(face.box[0]) + 10
    cut = np.ascontiguousarray(photo[:, left:])
    square = face_square(cut, face.moved(1.0, left, 0))
    assert np.ptp(square[50:60, :8].astype(int), axis=1).max() <= 12
    (smile,) = judge([square])
    assert smile.expression == "happy"


def test_pictures_are_never_changed(photo: Picture, detector: FaceDetector) -> None:
    before = photo.copy()
    face: Face = detector.detect(photo)[0]
    first, second = judge_faces([photo, photo], [face, face])
    assert first == second and np.array_equal(photo, before)
    assert len(READER_CLASSES) == 7
