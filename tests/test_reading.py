"""A photo read by both judges: what they agree on is named, and where they disagree less is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, cast

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image
from rendered import COLUMNS, rendered_people
from skimage import data

from faceexpr_core import mini
from faceexpr_core.expressions import ACTION_UNITS, action_unit
from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.faces.images import read_rgb
from faceexpr_core.measure.action_units import MOVED, moved_units, one_sidedness, unit_errors, unit_strength
from faceexpr_core.measure.expression import CLASSES, blendshape_vector, measured_as, prototypes, read_change
from faceexpr_core.measure.reader import READER_CLASSES, Judgement, judge_faces
from faceexpr_core.measure.reading import (
    CLEAR_EXPRESSION,
    ONE_SIDED,
    SURE,
    SURE_FAINT,
    Reading,
    read_album,
    read_expression,
    resting_face,
)
from faceexpr_core.measure.shown import shown_expression

Shapes = dict[str, float]


def showing(expression: str = "neutral", share: float = 1.0, resting: Mapping[str, float] | None = None) -> Shapes:
    """Blendshapes of a face that moved `share` of a usual full expression from the average resting face, plus what is added at rest."""
    fitted = prototypes()
    moved = np.zeros(len(fitted.scale)) if expression == "neutral" else share * fitted.vectors[CLASSES.index(expression)]
    values = dict(zip(fitted.blendshapes, (fitted.resting + moved * fitted.scale).tolist(), strict=True))
    return {**values, **{name: values[name] + more for name, more in (resting or {}).items()}}


def judged(expression: str, probability: float = 0.9, second: str = "") -> Judgement:
    """A judgement with this probability for one class; the rest goes to the `second`, or is spread over all others."""
    left = 1 - probability
    others = dict.fromkeys(READER_CLASSES, left / 6) if not second else {second: left}
    return Judgement(tuple(probability if name == expression else others.get(name, 0.0) for name in READER_CLASSES))


@pytest.mark.parametrize("expression", CLASSES)
def test_what_both_judges_see_is_named_with_its_strength(expression: str) -> None:
    said = judged("happy", 0.6, "neutral") if expression == "contempt" else judged(expression)
    reading = read_expression(showing(expression, 0.9), said)
    assert reading.expression == reading.likeliest == expression and reading.sure > 0.9
    assert reading.intensity == pytest.approx(0.9)


def test_a_resting_face_is_neutral() -> None:
    reading = read_expression(showing(), judged("neutral", 0.95))
    assert (reading.expression, reading.intensity, reading.units) == ("neutral", 0.0, ())
    assert reading.sure > 0.9


@pytest.mark.parametrize("expression", ["sad", "angry", "surprised", "fearful", "disgusted"])
@pytest.mark.parametrize("favourite", ["neutral", "happy"])
def test_an_expression_that_the_classifier_denies_is_never_named(expression: str, favourite: str) -> None:
    for share in (0.5, 1.0, 1.8):
        reading = read_expression(showing(expression, share), judged(favourite, 0.95))
        assert reading.expression in (None, favourite)
        assert reading.classified == favourite


def test_a_smile_that_blendshapes_hardly_see_is_happy() -> None:
    assert read_expression(showing("happy", 0.3), judged("happy", 0.98)).expression == "happy"


def test_unsure_judges_name_nothing_and_still_say_what_is_likeliest() -> None:
    torn = Judgement((0.35, 0.0, 0.2, 0.2, 0.15, 0.05, 0.05))
    reading = read_expression(showing("sad", 0.17), torn)
    assert reading.expression is None and reading.sure < 0.7
    assert reading.likeliest in ("neutral", "sad")


def test_low_brows_of_a_man_are_his_resting_face_and_his_smile_is_still_one() -> None:
    brows = {"browDownLeft": 0.45, "browDownRight": 0.45, "eyeSquintLeft": 0.2, "eyeSquintRight": 0.2}
    alone = read_expression(showing(resting=brows), judged("neutral", 0.8, "angry"))
    assert alone.likeliest == "angry"  # without his other photos the blendshapes are misled
    shapes = [*[showing(resting=brows)] * 3, showing("happy", 1.0, brows)]
    readings = read_album(shapes, [judged("neutral", 0.8, "angry")] * 3 + [judged("happy")])
    assert [reading.expression for reading in readings] == ["neutral"] * 3 + ["happy"]


def test_an_album_of_smiles_alone_does_not_make_the_smile_the_resting_face() -> None:
    readings = read_album([showing("happy", 0.9)] * 5, [judged("happy", 0.97)] * 5)
    assert [reading.expression for reading in readings] == ["happy"] * 5
    assert readings[0].intensity == pytest.approx(0.9)
    assert read_album([], []) == []


def test_the_resting_face_is_the_average_one_where_nobody_rests() -> None:
    fitted = prototypes()
    guessed = resting_face([showing("angry"), showing("surprised")], [judged("angry"), judged("surprised")])
    assert np.allclose(guessed, fitted.resting / fitted.scale)


def test_a_lone_photo_of_an_expression_that_the_blendshapes_doubt_is_not_its_own_resting_face() -> None:
    """Real anger, disgust and tears are not the renders' ones: their cosine to a prototype is low, the classifier is sure of them."""
    doubted = showing("angry", 1.0, {"eyeLookDownLeft": 0.6, "eyeLookDownRight": 0.6, "mouthPucker": 0.5})
    assert max(read_change(blendshape_vector(doubted) - blendshape_vector(showing())).scores.values()) < CLEAR_EXPRESSION
    assert [reading.expression for reading in read_album([doubted], [judged("angry", 0.97)])] == ["angry"]
    assert [reading.expression for reading in read_album([doubted], [judged("neutral", 0.97)])] == ["neutral"]


def test_a_faint_smile_of_a_face_that_the_classifier_calls_neutral_is_not_named() -> None:
    faint = read_expression(showing("happy", 0.24), judged("neutral", 0.75, "happy"))
    assert faint.likeliest == "happy" and SURE < faint.sure < SURE_FAINT and faint.expression is None
    assert read_expression(showing("happy", 0.24), judged("happy", 0.75, "neutral")).expression == "happy"


def test_the_resting_face_of_minis_subject_is_not_called_a_smile(detector: FaceDetector) -> None:
    """It rests with raised corners of the mouth, which the average person's resting face has not."""
    photo = read_rgb(mini.subject_path() / "photo_1.png")
    assert shown_expression(photo, detector.detect(photo)[0]) == "neutral"


@pytest.mark.parametrize(("share", "named"), [(0.6, None), (0.8, None), (1.0, "contempt"), (1.4, "contempt")])
def test_contempt_is_named_where_a_corner_of_the_mouth_moved_visibly_further_than_the_other(share: float, named: str | None) -> None:
    smirk = showing("contempt", share)
    assert (max(one_sidedness(unit, smirk, showing()) for unit in ONE_SIDED) >= MOVED) == (named is not None)
    reading = read_expression(smirk, judged("happy", 0.6, "neutral"))
    assert (reading.likeliest, reading.expression) == ("contempt", named)


def test_contempt_needs_a_clearly_one_sided_face() -> None:
    fitted = prototypes()
    smirk, smile = (fitted.vectors[CLASSES.index(name)] for name in ("contempt", "happy"))
    between = (smirk / np.linalg.norm(smirk) + smile / np.linalg.norm(smile)) * 4
    values = (fitted.resting + between * fitted.scale).tolist()
    crooked = read_expression(dict(zip(fitted.blendshapes, values, strict=True)), judged("happy", 0.5, "neutral"))
    assert crooked.expression is None


def test_a_photographed_smile_is_read_by_both(detector: FaceDetector) -> None:
    photo: NDArray[np.uint8] = np.asarray(data.astronaut())
    face = detector.detect(photo)[0]
    (reading,) = read_album([face.blendshapes], judge_faces([photo], [face]))
    assert reading.expression == "happy" and reading.sure > 0.8 and reading.intensity > 0.8
    assert reading.units[0] == "12"


def test_a_photographed_portrait_is_neutral(detector: FaceDetector) -> None:
    """Matplotlib's sample: the official portrait of an officer, with lines of age about her mouth (US Navy, public domain)."""
    with cast(BinaryIO, get_sample_data("grace_hopper.jpg")) as file:
        photo = np.asarray(Image.open(file).convert("RGB"))
    face = detector.detect(photo)[0]
    (reading,) = read_album([face.blendshapes], judge_faces([photo], [face]))
    assert reading.expression == "neutral" and reading.sure > 0.9
    assert shown_expression(photo, face) == "neutral"


def test_renders_of_unseen_people_are_captioned_rightly_or_not_at_all(detector: FaceDetector) -> None:
    read: list[tuple[str, Reading]] = []
    for pictures in rendered_people():
        faces = [detector.detect(picture)[0] for picture in pictures]
        readings = read_album([face.blendshapes for face in faces], judge_faces(pictures, faces))
        read += zip((name if name == "neutral" else measured_as(name) for name in COLUMNS), readings, strict=True)
    named = [reading.expression == true for true, reading in read if reading.expression is not None]
    assert sum(named) == len(named) >= 0.75 * len(read)


def test_action_units_are_read_from_the_change() -> None:
    rest = showing()
    up = {**rest, **{f"mouthSmile{side}": rest[f"mouthSmile{side}"] + 0.6 for side in ("Left", "Right")}}
    assert unit_strength(ACTION_UNITS[12], up, rest) == pytest.approx(0.6)
    assert unit_strength(ACTION_UNITS[12], rest, up) == 0
    assert moved_units(up, rest) == ("12",)
    one_side = {**rest, "mouthSmileRight": rest["mouthSmileRight"] + 0.6}
    assert moved_units(one_side, rest) == ("R12",)
    assert moved_units({**rest, "jawOpen": rest["jawOpen"] + 0.3}, rest) == ("26",)
    assert moved_units({**rest, "jawOpen": rest["jawOpen"] + 0.9}, rest) == ("27",)
    winking = {**rest, "eyeBlinkLeft": rest["eyeBlinkLeft"] + 0.8}
    assert moved_units(winking, rest) == ("L43",)


def test_unit_errors_count_what_is_missing_and_what_nobody_asked_for() -> None:
    rest = showing()
    up = {**rest, **{f"mouthSmile{side}": rest[f"mouthSmile{side}"] + 0.5 for side in ("Left", "Right")}}
    errors = unit_errors([action_unit("12"), action_unit("4")], 0.8, up, rest)
    assert errors["12"] == pytest.approx(0.3) and errors["4"] == pytest.approx(0.8) and errors["1"] == 0
    assert errors.keys() == {str(number) for number in ACTION_UNITS}


def test_a_unit_asked_of_one_side_is_compared_side_by_side() -> None:
    rest = dict.fromkeys(showing(), 0.0)
    right = {**rest, "mouthSmileRight": 0.8}
    both = {**right, "mouthSmileLeft": 0.8}
    assert unit_errors([action_unit("R12")], 0.8, right, rest)["12"] == pytest.approx(0)
    assert unit_errors([action_unit("R12")], 0.8, both, rest)["12"] == pytest.approx(0.4)
    assert unit_errors([action_unit("L12")], 0.8, right, rest)["12"] == pytest.approx(0.8)
    assert unit_errors([action_unit("12")], 0.8, both, rest)["12"] == pytest.approx(0)
    assert unit_errors([action_unit("R27")], 0.8, {**rest, "jawOpen": 0.8}, rest)["27"] == pytest.approx(0)  # the jaw has no sides
