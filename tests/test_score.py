"""FaceExpr Score and `faceexpr score`: pictures measured by both judges, sorted, the best given, from one function."""

from __future__ import annotations

import errno
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from comfy_process import ComfyError, ComfyProcess, Graph
from PIL import Image
from skimage import data

from faceexpr_core import mini
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.people import Person
from faceexpr_core.evaluation.run import keep_person, kept_person
from faceexpr_core.faces.images import SourceImage, read_rgb
from faceexpr_core.measure.expression import prototype_change, prototypes
from faceexpr_core.measure.identity import IdentityMeter
from faceexpr_core.measure.judges import Judges, Looks, Seen
from faceexpr_core.measure.picture_score import Asked, PictureScore, best_first, score_picture
from faceexpr_core.measure.scores import harmonic_score
from faceexpr_core.photos.settings import Framing, SubjectSettings
from faceexpr_core.photos.subject import Subject, prepare_subject

HAPPY, NEUTRAL = (mini.donor_path() / f"another_person_{name}.jpg" for name in ("happy", "neutral"))


@pytest.fixture(scope="module")
def judges(model_folder: Path) -> Iterator[Judges]:
    with Judges([model_folder]) as judges:
        yield judges


@pytest.fixture(scope="module")
def happy(judges: Judges) -> Seen:
    return judges.see(read_rgb(HAPPY))


@pytest.fixture(scope="module")
def neutral(judges: Judges) -> Seen:
    return judges.see(read_rgb(NEUTRAL))


@pytest.fixture(scope="module")
def person(judges: Judges) -> Looks:
    return judges.looks([read_rgb(HAPPY), read_rgb(NEUTRAL)])


def test_a_smile_is_read_as_asked_by_both_judges_and_scored_with_its_likeness(happy: Seen, neutral: Seen, person: Looks) -> None:
    asked = score_picture(happy, Asked("happy"), person, neutral)
    assert (asked.right, asked.right_classifier, asked.right_on_person, asked.read, asked.classified) == (
        True,
        True,
        True,
        "happy",
        "happy",
    )
    assert asked.likeness is not None and asked.likeness > 0.9
    assert asked.expression_score > 0.7 and asked.score == harmonic_score(asked.expression_score, asked.likeness)
    assert asked.pose is not None and asked.pose < 5 and asked.background is not None and asked.background < 0.02
    wrong = score_picture(happy, Asked("sad"), person, neutral)
    assert (wrong.right, wrong.right_classifier) == (False, False) and wrong.score < 0.1 < asked.score
    assert wrong.l1 is not None and asked.l1 is not None and wrong.l1 > asked.l1


def test_expression_and_likeness_are_those_of_one_face(judges: Judges, person: Looks) -> None:
    """Of two people side by side each has its own vector, whichever of them a judge sees first."""
    photo = read_rgb(mini.subject_path() / "photo_1.png")
    other = read_rgb(HAPPY)[: len(photo), : photo.shape[1]]
    both = np.concatenate([photo, other], axis=1)
    with IdentityMeter(detector=judges.detector) as meter:
        left, right = sorted(judges.detector.detect(both, every=True), key=lambda face: face.centre[0])
        mine, donors = meter.reference([photo]), person.reference
        for face, own, foreign in ((left, mine, donors), (right, donors, mine)):
            vector = meter.embed(both, face)
            assert vector is not None and vector @ own > 0.85 > 0.6 > vector @ foreign
    seen = judges.see(both)
    assert seen.face is not None and seen.vector is not None
    assert seen.vector @ (mine if seen.face.centre[0] < photo.shape[1] else donors) > 0.85


OWN = [mini.subject_path() / f"photo_{number}.png" for number in (1, 2, 3, 4)]


def sized(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((side, side), Image.Resampling.BICUBIC))


def with_a_larger_one(own: np.ndarray) -> np.ndarray:
    """Another one close beside the person, whose face is larger."""
    scene = np.full((540, 440, 3), 120, np.uint8)
    scene[100:280, :180], scene[70:430, 150:] = sized(own, 180), sized(data.astronaut()[:256, 96:352], 360)[:, 70:]
    return scene


@pytest.fixture(scope="module", params=["face crop", "whole picture"])
def among_others(judges: Judges, request: pytest.FixtureRequest) -> Subject:
    """A person of whom two of three prepared photos show another one too, whose face is larger."""
    pictures = [with_a_larger_one(read_rgb(OWN[0])), with_a_larger_one(read_rgb(OWN[1])), sized(read_rgb(OWN[2]), 384)]
    sources = [SourceImage(f"{number}", one) for number, one in enumerate(pictures)]
    settings = SubjectSettings(resolution=384, framing=request.param, drop_small=False, drop_duplicates=False)
    return prepare_subject(sources, settings, detector=judges.detector)


def test_a_person_is_compared_with_their_own_face_of_a_photo_of_two(judges: Judges, among_others: Subject, tmp_path: Path) -> None:
    photos = among_others.photos
    largest = [judges.see(photo.image).face for photo in photos]
    assert [face is not None and face.again(photo.face) for face, photo in zip(largest, photos, strict=True)] == [False, False, True]
    alone = judges.looks([read_rgb(path) for path in OWN[:3]])
    found = judges.looks([photo.image for photo in photos], [photo.face for photo in photos])
    assert found.reference @ alone.reference > 0.97
    assert max(abs(found.resting[name] - value) for name, value in alone.resting.items()) < 0.15
    assert judges.looks([photo.image for photo in photos]).reference @ alone.reference < 0.7
    keep_person(tmp_path, Person("anna", tmp_path, "ohwx", "woman"), among_others, judges)
    kept = kept_person(tmp_path, "anna")
    assert kept is not None and np.allclose(kept.reference, found.reference) and kept.resting == found.resting


@pytest.mark.parametrize("side", [64, 128, 512])
@pytest.mark.parametrize("framing", ["face crop", "whole picture"])
def test_a_photo_of_one_person_is_measured_as_before(judges: Judges, side: int, framing: Framing) -> None:
    """To the bit: the blendshapes of the photo before it was cut and resized differ by up to 0.3."""
    sources = [SourceImage(f"{number}", picture) for number, picture in enumerate([read_rgb(NEUTRAL), data.astronaut()])]
    settings = SubjectSettings(resolution=side, framing=framing, drop_small=False, person=-1)
    photos = prepare_subject(sources, settings, detector=judges.detector).photos
    pictures = [photo.image for photo in photos]
    told, found = judges.looks(pictures), judges.looks(pictures, [photo.face for photo in photos])
    assert len(photos) == 2 and np.array_equal(told.reference, found.reference) and told.resting == found.resting


def test_a_face_that_is_not_seen_again_is_taken_as_it_was(judges: Judges, happy: Seen) -> None:
    assert happy.face is not None
    grey = np.full_like(happy.picture, 127)
    assert judges.see(grey, happy.face).face is happy.face


def test_the_score_falls_where_it_is_stronger_or_weaker_than_asked(happy: Seen, neutral: Seen, person: Looks) -> None:
    strength = score_picture(happy, Asked("happy"), person, neutral).strength
    assert strength is not None
    # asked for less than is shown, for that, and for more
    scores = [score_picture(happy, Asked("happy", share * strength), person, neutral).expression_score for share in (0.5, 0.7, 1, 1.4, 2)]
    assert scores[0] < scores[1] < scores[2] > scores[3] > scores[4]
    assert max(scores[0], scores[4]) < 0.85 * scores[2]


def test_neutral_and_intensity_0_ask_for_the_resting_face(happy: Seen, neutral: Seen, person: Looks) -> None:
    for asked in (Asked("neutral"), Asked("happy", 0.0)):
        at_rest, smiling = (score_picture(one, asked, person, neutral) for one in (neutral, happy))
        assert (at_rest.right, smiling.right) == (True, False)
        assert at_rest.expression_score > smiling.expression_score


def test_action_units_are_scored_and_a_compound_is_read_among_the_twelve(happy: Seen, neutral: Seen, person: Looks) -> None:
    units = score_picture(happy, Asked("none", 1.0, "AU12"), person, neutral)
    assert units.right is None and units.right_classifier is None and units.probability is None
    assert units.expression_score > score_picture(happy, Asked("none", 1.0, "AU4"), person, neutral).expression_score
    compound = score_picture(happy, Asked("happily surprised"), person, neutral)
    assert (compound.read_of_twelve, compound.right, compound.right_classifier) == ("happily disgusted", False, True)
    assert score_picture(happy, Asked("contempt"), person, neutral).right_classifier is None  # which it does not know
    assert score_picture(happy, Asked("shocked"), person, neutral).right is False


def moved(neutral: Seen, change: dict[str, float]) -> Seen:
    """The neutral picture's face with its blendshapes changed."""
    assert neutral.face is not None
    shapes = neutral.face.blendshapes
    return replace(neutral, face=replace(neutral.face, blendshapes={name: value + change.get(name, 0.0) for name, value in shapes.items()}))


def test_a_compound_is_right_on_its_prototype_however_its_name_is_spelled(neutral: Seen, person: Looks) -> None:
    change = prototype_change("happily surprised", np.zeros(len(prototypes().blendshapes)))
    for name in ("happily surprised", "happily_surprised", "Happily Surprised"):
        assert score_picture(moved(neutral, change), Asked(name), person, neutral).right is True


def test_contempt_on_one_side_has_no_error_of_units_and_a_smile_on_both_has(neutral: Seen, person: Looks) -> None:
    def error(asked: Asked, *sides: str) -> float:
        face = moved(neutral, {f"{shape}{side}": 1.0 for shape in ("mouthSmile", "mouthDimple") for side in sides})
        found = score_picture(face, asked, person, neutral).units_error
        assert found is not None
        return found

    contempt, by_number = Asked("contempt"), Asked("none", 1.0, "R12+R14")
    assert error(contempt, "Right") == pytest.approx(0) and error(contempt, "Left") == pytest.approx(0)
    assert error(contempt, "Left", "Right") == pytest.approx(0.05)
    assert error(by_number, "Right") == pytest.approx(0) and error(by_number, "Left") == pytest.approx(0.1)  # its side was said
    assert Asked("contempt", 1.0, "AU12:0.5").units() == {"R14": 1.0, "12": 0.5}


def test_without_a_neutral_picture_the_change_is_from_the_photos_resting_face(happy: Seen, person: Looks) -> None:
    alone = score_picture(happy, Asked("happy"), person)
    assert alone.right and alone.right == alone.right_on_person and alone.pose is None and alone.background is None


def test_without_a_face_nothing_is_read_and_the_picture_comes_last(judges: Judges, happy: Seen, neutral: Seen, person: Looks) -> None:
    empty = judges.see(np.full((128, 128, 3), 127, np.uint8))
    score = score_picture(empty, Asked("happy"), person, neutral)
    assert score == PictureScore(False, right=False, right_classifier=False, right_on_person=False)
    blind = score_picture(happy, Asked("happy"), person, empty)
    assert blind.right is False and blind.read is None and blind.classified == "happy" and blind.pose is None
    first = score_picture(happy, Asked("happy"), person, neutral)
    assert best_first([score, first, replace(first), score]) == [1, 2, 0, 3]


def test_what_cannot_be_asked_is_refused(happy: Seen, neutral: Seen, person: Looks) -> None:
    for asked, told in ((("none",), "nothing to measure"), (("happy", 2.0), "between 0 and 1.5"), (("cheery",), "not an expression")):
        with pytest.raises(FaceExprError, match=told):
            Asked(*asked)  # type: ignore[arg-type]
    small = replace(neutral, picture=neutral.picture[:-8])
    with pytest.raises(FaceExprError, match="draw both from the same noise, in one size"):
        score_picture(happy, Asked("happy"), person, small)


def test_the_command_prints_the_best_first_and_writes_all_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(NEUTRAL), str(HAPPY), "--photos", str(mini.donor_path()), "--expression", "happy", "--neutral", str(NEUTRAL)]
    assert faceexpr(["score", *words, "--json", str(tmp_path / "scores.json")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"1. {HAPPY}: score 0.") and "read as happy at strength 0.7" in first and second.startswith(f"2. {NEUTRAL}")
    rows = json.loads((tmp_path / "scores.json").read_text())
    assert [row["picture"] for row in rows] == [str(NEUTRAL), str(HAPPY)] and rows[1]["right"] is True
    assert faceexpr(["score", *words, "--best", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(HAPPY)]
    for missing in (["nobody.png", *words[2:]], [str(HAPPY), "nobody.png", *words[2:]], [*words[:-1], "nobody.png"]):
        assert faceexpr(["score", *missing]) == 2
        told = capsys.readouterr().err
        assert "there is no picture nobody.png" in told and "the person:" not in told  # before any is looked at
    assert faceexpr(["score", str(tmp_path), *words[2:]]) == 2
    assert f"{tmp_path} is a folder. Give the path of a picture file." in capsys.readouterr().err
    grey = tmp_path / "grey.png"
    Image.new("RGB", (256, 256), "grey").save(grey)
    assert faceexpr(["score", *words[:-1], str(grey)]) == 2
    assert f"no face was found in the neutral picture --neutral {grey}" in capsys.readouterr().err
    small = tmp_path / "small.png"
    Image.open(HAPPY).resize((128, 128)).save(small)
    assert faceexpr(["score", str(small), *words[2:]]) == 2
    assert f"{small}: A picture of 128 x 128 pixels came with a neutral one of 256 x 256" in capsys.readouterr().err


def test_the_command_overwrites_no_file_with_its_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text("mine")
    words = ["score", str(HAPPY), "--photos", str(mini.donor_path()), "--expression", "happy"]
    assert faceexpr([*words, "--json", str(mine)]) == 0
    beside = tmp_path / "mine_00001_.json"
    assert capsys.readouterr().err.endswith(f"faceexpr: all measures: {beside}\n")
    assert mine.read_text() == "mine" and json.loads(beside.read_text())[0]["right"] is True


def test_measures_that_cannot_be_written_are_told_before_the_work_or_after_they_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["score", str(HAPPY), "--photos", str(mini.donor_path()), "--expression", "happy", "--json"]
    (tmp_path / "file").write_text("mine")
    for given, told in ((tmp_path, "is a folder; give the name of a file"), (tmp_path / "file" / "a.json", "cannot be written to --json")):
        assert faceexpr([*words, str(given)]) == 2
        seen = capsys.readouterr()
        assert told in seen.err and "the person" not in seen.err

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert faceexpr([*words, str(tmp_path / "scores.json")]) == 2
    seen = capsys.readouterr()
    assert seen.out.startswith(f"1. {HAPPY}: score") and "scores.json (No space left on device). Make room" in seen.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_command_says_which_photos_it_did_not_compare_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for photo in (NEUTRAL, HAPPY):
        shutil.copy(photo, tmp_path)
    Image.fromarray(data.astronaut()).save(tmp_path / "stranger.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xffbroken")
    (tmp_path / "notes.md").write_text("at the sea")
    assert faceexpr(["score", str(HAPPY), "--photos", str(tmp_path), "--expression", "happy"]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("faceexpr: the person: 2 of 4 pictures kept") and len(told.out.splitlines()) == 1
    assert "dropped  stranger.png: shows another person" in told.err and "skipped  broken.jpg: " in told.err
    assert "person 0 (taken: is in most photos)" in told.err and "kept  " not in told.err and "notes.md" not in told.err


def graph(**inputs: Any) -> Graph:
    """The node on two photos of a person, the neutral one first."""
    folder = {"folder": "score", "trigger_word": "ohwx", "class_word": "person", "resolution": 256, "framing": "whole picture"}
    score = {"images": ["batch", 0], "subject": ["photos", 0], "expression": "happy", "intensity": 1.0, "best_k": 1}
    return {
        "photos": {
            "class_type": "FaceExprLoadSubjectImages",
            "inputs": {**folder, "padding": 0.75, "face": 0, "drop_small_faces": True, "drop_duplicates": True},
        },
        "neutral": {"class_type": "LoadImage", "inputs": {"image": f"score/{NEUTRAL.name}"}},
        "happy": {"class_type": "LoadImage", "inputs": {"image": f"score/{HAPPY.name}"}},
        "batch": {"class_type": "ImageBatch", "inputs": {"image1": ["neutral", 0], "image2": ["happy", 0]}},
        "list": {"class_type": "RebatchImages", "inputs": {"images": ["batch", 0], "batch_size": 1}},
        "score": {"class_type": "FaceExprScore", "inputs": {**score, **inputs}},
        "best": {"class_type": "PreviewImage", "inputs": {"images": ["score", 0]}},
        "sorted": {"class_type": "PreviewImage", "inputs": {"images": ["score", 1]}},
        "data": {"class_type": "PreviewAny", "inputs": {"source": ["score", 3]}},
    }


@pytest.fixture
def photos(comfy: ComfyProcess) -> None:
    (comfy.input_dir / "score").mkdir(exist_ok=True)
    for photo in (HAPPY, NEUTRAL):
        shutil.copy(photo, comfy.input_dir / "score")


def pixels(comfy: ComfyProcess, shown: dict[str, Any]) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(comfy.view(one))).convert("RGB")) for one in shown["images"]]


@pytest.mark.parametrize("given", ["batch", "list"])
def test_the_node_sorts_a_batch_or_a_list_and_gives_the_best(comfy: ComfyProcess, photos: None, given: str) -> None:
    shown = comfy.run(graph(images=[given, 0], neutral=["neutral", 0]))
    (best,), every = pixels(comfy, shown["best"]), pixels(comfy, shown["sorted"])
    assert np.array_equal(best, read_rgb(HAPPY))
    assert [np.array_equal(one, read_rgb(path)) for one, path in zip(every, (HAPPY, NEUTRAL), strict=True)] == [True, True]
    (report,) = shown["score"]["text"]
    assert report.startswith("1. picture 2: score 0.") and "2. picture 1: score" in report
    rows = json.loads(shown["data"]["text"][0])
    assert [(row["picture"], row["read"], row["right"]) for row in rows] == [(1, "neutral", False), (2, "happy", True)]
    assert rows[0]["background"] == 0 and rows[0]["pose"] == pytest.approx(0, abs=1e-4)


def test_the_node_measures_as_the_command_does(comfy: ComfyProcess, photos: None, tmp_path: Path) -> None:
    asked = graph(action_units="AU12", intensity=0.8)
    asked["photos"]["inputs"] |= {"resolution": 512, "framing": "face crop", "drop_small_faces": False}
    shown = comfy.run(asked)
    words = ["--photos", str(mini.donor_path()), "--expression", "happy", "--intensity", "0.8", "--action_units", "AU12"]
    assert faceexpr(["score", str(NEUTRAL), str(HAPPY), *words, "--json", str(tmp_path / "scores.json")]) == 0
    for node, command in zip(json.loads(shown["data"]["text"][0]), json.loads((tmp_path / "scores.json").read_text()), strict=True):
        assert {**node, "picture": ""} == {**command, "picture": ""}


def test_the_node_refuses_neutral_pictures_that_belong_to_none(comfy: ComfyProcess, photos: None) -> None:
    three = graph(neutral=["three", 0]) | {
        "three": {"class_type": "ImageBatch", "inputs": {"image1": ["batch", 0], "image2": ["neutral", 0]}}
    }
    with pytest.raises(ComfyError) as failed:
        comfy.run(three)
    assert "3 neutral pictures came with 2; connect one for all, or one for each" in failed.value.exception_message


@pytest.mark.parametrize(
    ("picked", "told"),
    [
        ([(0, 0), (1, 64)], "no face was found in the neutral picture 2"),
        ([(0, 0)], "picture 1 has 256 x 248 pixels and its neutral one 256 x 256"),
    ],
    ids=["no face", "another size"],
)
def test_a_neutral_picture_that_compares_to_nothing_is_named(
    picked: list[tuple[int, int]], told: str, comfy_modules: SimpleNamespace, neutral: Seen
) -> None:
    """Before anything was scored by it."""
    from faceexpr_pack.nodes.score import Score

    whole = torch.from_numpy(neutral.picture).float()[None] / 255
    images = [whole, whole] if len(picked) == 2 else [whole[:, :-8]]
    subject = SimpleNamespace(photos=[SimpleNamespace(image=neutral.picture, face=neutral.face)])
    calm = [whole if not grey else torch.full_like(whole, 0.5) for _, grey in picked]
    with pytest.raises(Exception, match=told):
        Score.execute(images, [subject], ["happy"], [1.0], [1], calm)


def test_pictures_of_different_size_come_out_as_a_list(comfy_modules: SimpleNamespace, neutral: Seen, happy: Seen) -> None:
    from faceexpr_pack.nodes.score import Score  # type: ignore[import-not-found]

    pictures = [torch.from_numpy(read_rgb(path)).float() / 255 for path in (NEUTRAL, HAPPY)]
    subject = SimpleNamespace(photos=[SimpleNamespace(image=one.picture, face=one.face) for one in (neutral, happy)])
    images = [pictures[0][None, :-8], pictures[1][None]]
    best, every, _, _, score = Score.execute(images, [subject], ["happy"], [1.0], [2]).args
    assert [tuple(one.shape) for one in best] == [tuple(one.shape) for one in every] == [(1, 256, 256, 3), (1, 248, 256, 3)]
    assert 0 < score <= 1


@pytest.mark.parametrize("many", [0, -1])
def test_how_many_of_the_best_is_named_where_a_link_brings_none(comfy_modules: SimpleNamespace, neutral: Seen, many: int) -> None:
    """Before anything is measured; 0 gave an empty list, at which the next node failed, and -1 all but the worst."""
    from faceexpr_pack.nodes.score import Score

    whole = torch.from_numpy(neutral.picture).float()[None] / 255
    subject = SimpleNamespace(photos=[SimpleNamespace(image=neutral.picture, face=neutral.face)])
    with pytest.raises(comfy_modules.core.errors.FaceExprError, match=f"best_k is {many}; it must be 1 or more"):
        Score.execute([whole, whole], [subject], ["happy"], [1.0], [many])
    (best,) = Score.execute([whole, whole], [subject], ["happy"], [1.0], [3]).args[0]
    assert len(best) == 2  # more than there are: all


ONE = torch.zeros(1, 64, 64, 3)
LOADED = {
    "folder": ["none"], "trigger_word": ["ohwx"], "class_word": ["person"], "resolution": [64], "framing": ["face crop"], "padding": [0.75],
    "face": [0], "drop_small_faces": [True], "drop_duplicates": [True], "person": [0],
}  # fmt: skip


@pytest.mark.parametrize("given", [[], [ONE[:0]], [ONE[:0], ONE[:0]]], ids=["list", "batch", "batches"])
def test_nodes_say_that_no_picture_came(comfy_modules: SimpleNamespace, given: list[torch.Tensor]) -> None:
    """Before they open a model; a batch of none comes from a filter that let nothing pass."""
    from faceexpr_pack.nodes.change_expression import ChangeExpression  # type: ignore[import-not-found]
    from faceexpr_pack.nodes.extract_expression_features import ExtractExpressionFeatures  # type: ignore[import-not-found]
    from faceexpr_pack.nodes.load_subject_images import LoadSubjectImages  # type: ignore[import-not-found]
    from faceexpr_pack.nodes.score import Score  # type: ignore[import-not-found]

    asked: tuple[Any, ...] = (["happy"], [1.0], [1])
    change = partial(ChangeExpression.execute, model=None, clip=None, vae=None, prompt="", expression="happy", intensity=1.0)
    change = partial(change, second_expression="none", second_weight=0.5, strength=1.0, face=-1)
    extract = partial(ExtractExpressionFeatures.execute, None, None, None, None, {}, 0, 1, 1.0, "euler", "normal", 1.0)
    runs: dict[str, Any] = {
        "images": [lambda: Score.execute(given, [None], *asked), lambda: LoadSubjectImages.execute(images=given, **LOADED)],
        "neutral": [lambda: Score.execute([ONE], [None], *asked, given)],
        "image": [partial(change, one) for one in given],
        "photo": [partial(extract, photo=one) for one in given],
        "neutral_photo": [partial(extract, photo=ONE, neutral_photo=one) for one in given],
        "subject": [lambda: Score.execute([ONE], [], *asked)],
    }
    for name, every in runs.items():
        for run in every:
            with pytest.raises(comfy_modules.core.errors.FaceExprError, match=f"No (pictures|value) came in '{name}': .* is empty"):
                run()
    with pytest.raises(comfy_modules.core.errors.FaceExprError, match="Choose a folder with photos of one person, or connect an IMAGE"):
        LoadSubjectImages.execute(images=[None], **LOADED)


def test_each_picture_of_a_list_has_its_own_expression_intensity_units_and_neutral_picture(
    comfy_modules: SimpleNamespace, neutral: Seen, happy: Seen, person: Looks
) -> None:
    from faceexpr_pack.nodes.score import Score  # type: ignore[import-not-found]

    rest, smile = (torch.from_numpy(read_rgb(path)).float()[None] / 255 for path in (NEUTRAL, HAPPY))
    subject = SimpleNamespace(photos=[SimpleNamespace(image=one.picture, face=one.face) for one in (happy, neutral)])

    def scored(images: list[torch.Tensor], expressions: list[str], intensities: list[float], **more: Any) -> list[dict[str, Any]]:
        return json.loads(Score.execute(images, [subject], expressions, intensities, [1], **more).args[3])

    def right(expressions: list[str]) -> list[bool]:
        return [row["right"] for row in scored([smile, rest], expressions, [1.0])]

    assert right(["happy", "neutral"]) == [True, True] and right(["neutral", "happy"]) == [False, False]
    rows = scored([smile, smile], ["happy"], [1.0], neutral=[torch.cat([rest, smile])])
    assert [row["right"] for row in rows] == [True, False] and rows[1]["strength"] == pytest.approx(0, abs=1e-6)
    rows = scored([smile, smile], ["none", "happy"], [0.9, 0.4], action_units=["AU12", ""])
    asked = [Asked("none", 0.9, "AU12"), Asked("happy", 0.4)]
    assert [row["expression_score"] for row in rows] == [score_picture(happy, one, person).expression_score for one in asked]


def test_the_node_compares_with_the_persons_own_face_too(comfy_modules: SimpleNamespace, among_others: Subject) -> None:
    from faceexpr_pack.nodes.score import Score  # type: ignore[import-not-found]

    pictures = [torch.from_numpy(one).float() / 255 for one in (read_rgb(OWN[3]), data.astronaut())]
    own, other = json.loads(Score.execute([one[None] for one in pictures], [among_others], ["happy"], [1.0], [1]).args[3])
    assert own["likeness"] > 0.85 and other["likeness"] < 0.3


def test_the_command_compares_with_the_persons_own_face_too(tmp_path: Path) -> None:
    given = {"own": read_rgb(OWN[3]), "other": data.astronaut()}
    shown = {"1": with_a_larger_one(read_rgb(OWN[0])), "2": with_a_larger_one(read_rgb(OWN[1])), "3": sized(read_rgb(OWN[2]), 384)}
    (tmp_path / "photos").mkdir()
    for name, picture in {**given, **{f"photos/{name}": one for name, one in shown.items()}}.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    words = ["--photos", str(tmp_path / "photos"), "--expression", "happy", "--json", str(tmp_path / "scores")]
    assert faceexpr(["score", *(str(tmp_path / f"{name}.png") for name in given), *words]) == 0
    own, other = json.loads((tmp_path / "scores").read_text())
    assert own["likeness"] > 0.85 and other["likeness"] < 0.3


def test_the_face_at_rest_is_that_of_the_photo_that_is_said_to_show_it(judges: Judges) -> None:
    photos = [read_rgb(HAPPY), read_rgb(NEUTRAL)]
    face = judges.see(photos[0]).face
    assert face is not None
    told = judges.looks(photos, at_rest=photos[0])
    assert told.resting == face.blendshapes != judges.looks(photos).resting
    with pytest.raises(FaceExprError, match="should show the person at rest"):
        judges.looks(photos, at_rest=np.zeros((64, 64, 3), np.uint8))
