"""Arms, people and plans of an evaluation as they are written, and its numbers from records that can be counted by hand."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from faceexpr_core import mini
from faceexpr_core.commands.cli import _parser
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.commands.drawing import checkpoint_digest
from faceexpr_core.commands.evaluate_plan import evaluation_of
from faceexpr_core.commands.evaluate_work import Worker
from faceexpr_core.commands.learned import tell_learned
from faceexpr_core.commands.sharing import Share
from faceexpr_core.commands.train_flags import split_flags, training_flags, training_words
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation import page as evaluation_page
from faceexpr_core.evaluation.arms import parse_arms, without_folders
from faceexpr_core.evaluation.page import _differences as page_differences
from faceexpr_core.evaluation.page import build_page
from faceexpr_core.evaluation.people import Person, find_people, parse_class_words, passed_over
from faceexpr_core.evaluation.plan import Plan
from faceexpr_core.evaluation.records import Lines, keep_meaning, short_name
from faceexpr_core.evaluation.report import write_report
from faceexpr_core.evaluation.run import Evaluation, kept_person, write_picture
from faceexpr_core.evaluation.summary import differences, measures, summarise
from faceexpr_core.evaluation.tables import difference_rows, summary_rows
from faceexpr_core.fusion import settings
from faceexpr_core.measure import judges
from faceexpr_core.measure.identity import normalised
from faceexpr_core.measure.picture_score import PictureScore
from faceexpr_core.training import settings as training_settings
from faceexpr_core.training.settings import PRESETS


def test_arms_are_read_from_words() -> None:
    base, lora, other, fusion = parse_arms(
        ["base", "lora", "lora:preset=paper,prior=off,lora_strength=0.8", "fusion:strength=1.5,window=0-0.8"]
    )
    assert (base.training, lora.training, other.training) == (None, (), (("preset", "paper"), ("prior", "off")))
    assert other.lora_strength == 0.8 and other.fusion is None
    assert fusion.fusion is not None and (fusion.fusion.strength, fusion.fusion.window, fusion.text) == (1.5, (0, 0.8), "neutral")


def test_an_arm_may_say_the_expression_in_plain_words() -> None:
    plain, base, fused = parse_arms(["lora:embeddings=off", "base:embeddings=off", "fusion:embeddings=off,prior=off"])
    assert not (plain.embeddings or base.embeddings or fused.embeddings) and fused.training == (("prior", "off"),)
    assert "embeddings" in plain.meaning()
    assert "embeddings" not in parse_arms(["lora"])[0].meaning()  # as folders from before the key have it


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("lora:embeddings=maybe", "embeddings is maybe, not one of on, off"),
        ("lora:embeddings=off,scale=2", "scale needs embeddings, which are off"),
        ("sideways", "starts with none of base, lora, fusion"),
        ("base:preset=paper", "base takes no preset"),
        ("lora:strength=2", "strength belongs to fusion"),
        ("fusion:strength=much", "strength is 'much', which is no number"),
        ("fusion:site=nose", "site is nose, not one of"),
        ("lora:preset", "'preset' is no key=value"),
    ],
)
def test_an_arm_that_cannot_be_read_is_refused_with_what_is_wrong(word: str, told: str) -> None:
    with pytest.raises(FaceExprError, match=told):
        parse_arms([word])


def test_two_arms_that_draw_the_same_are_refused() -> None:
    with pytest.raises(FaceExprError, match="'lora' and 'lora:lora_strength=1' draw the same pictures"):
        parse_arms(["lora", "lora:lora_strength=1"])


def test_an_arms_training_becomes_flags_of_train() -> None:
    assert training_flags([("preset", "paper"), ("convolutions", "off"), ("flip", "on")]) == [
        "--preset",
        "paper",
        "--no-convolutions",
        "--flip",
    ]
    with pytest.raises(FaceExprError, match="'colour' is neither a key of a drawing nor an option of faceexpr train"):
        training_flags([("colour", "red")])
    with pytest.raises(FaceExprError, match="convolutions is 'maybe'; give on or off"):
        training_flags([("convolutions", "maybe")])


def test_people_are_one_folder_of_photos_or_its_folders(tmp_path: Path) -> None:
    for name in ("ben", "anna", "notes"):
        (tmp_path / name).mkdir()
    with pytest.raises(FaceExprError, match="holds no photos, nor does a folder in it"):
        find_people(tmp_path, "ohwx", "person")
    for name in ("ben", "anna"):
        shutil.copy(mini.subject_path() / "photo_1.png", tmp_path / name)
    people = find_people(tmp_path, "ohwx", "person", parse_class_words(["anna=old woman"]))
    assert [(one.name, one.words, one.anybody) for one in people] == [
        ("anna", "ohwx old woman", "an old woman"),
        ("ben", "ohwx person", "a person"),
    ]
    assert passed_over(tmp_path, people) == ["notes (no photos)"]
    (tmp_path / "carla" / "10_ohwx woman").mkdir(parents=True)  # as kohya's scripts have it
    shutil.copy(mini.subject_path() / "photo_1.png", tmp_path / "carla" / "10_ohwx woman")
    assert [one.name for one in find_people(tmp_path, "ohwx", "person")] == ["anna", "ben", "carla"]
    assert [one.name for one in find_people(tmp_path / "ben", "ohwx", "man")] == ["ben"]
    with pytest.raises(FaceExprError, match="class word is given for 'dan', but the people are: anna, ben, carla"):
        find_people(tmp_path, "ohwx", "person", {"dan": "man"})


@pytest.mark.parametrize("inside", ["10_ohwx person", "img/10_ohwx person", "train"])
def test_one_persons_folder_is_what_train_reads_as_one(inside: str, tmp_path: Path) -> None:
    """Two of kohya's folders are one album, and `img` and `train` hold what lies in them."""
    for place in (f"anna/{inside}", f"anna/{inside.replace('10_', '5_')}", f"ben/{inside}"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(mini.subject_path() / "photo_1.png", tmp_path / place)
    assert [one.name for one in find_people(tmp_path / "anna", "ohwx", "person")] == ["anna"]
    people = find_people(tmp_path, "ohwx", "person")
    assert [one.name for one in people] == ["anna", "ben"] and passed_over(tmp_path, people) == []


def test_without_a_class_word_anybody_is_a_person(tmp_path: Path) -> None:
    assert Person("anna", tmp_path, "sks", "").anybody == "a person" and Person("anna", tmp_path, "sks", "").words == "sks"


@pytest.mark.parametrize("arms", [("base",), ("base", "lora:preset=paper")])
def test_photos_are_prepared_whether_or_not_anything_is_learned(arms: tuple[str, ...], tmp_path: Path) -> None:
    worker = worker_of(mini.subject_path(), tmp_path / "out", "--arms", *arms)
    (one,) = worker.evaluation.people
    with judges.Judges() as opened:
        worker._prepare(one, opened)
    assert kept_person(tmp_path / "out", one.name) is not None


def test_photos_that_cannot_be_used_are_told_with_whose_they_are(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "anna" / "1.png")
    worker = worker_of(tmp_path / "anna", tmp_path / "out")
    with judges.Judges() as opened, pytest.raises(FaceExprError, match=rf"anna \({re.escape(str(tmp_path / 'anna'))}\): None of"):
        worker._prepare(worker.evaluation.people[0], opened)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("faceexpr train --start_from /home/me/anna.safetensors --rank=8", "faceexpr train --start_from anna.safetensors --rank=8"),
        (r"lora:vae=C:\Users\me\v.safetensors,preset=paper", "lora:vae=v.safetensors,preset=paper"),
        ("fusion:strength=0.8,window=0-0.8", "fusion:strength=0.8,window=0-0.8"),
    ],
)
def test_readers_are_told_no_folders_of_a_computer(words: str, told: str) -> None:
    assert without_folders(words) == told


def test_a_link_is_called_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all that the links lead to is called alike, nobody takes another's place."""
    (tmp_path / "people").mkdir()
    for name in ("anna", "ben"):
        chosen = tmp_path / "albums" / name / "selected"
        chosen.mkdir(parents=True)
        shutil.copy(mini.subject_path() / "photo_1.png", chosen)
        linked(tmp_path / "people" / name, chosen)
    people = find_people(tmp_path / "people", "ohwx", "person", {"ben": "man"})
    assert [(one.name, one.class_word) for one in people] == [("anna", "person"), ("ben", "man")]
    assert [one.name for one in find_people(tmp_path / "people" / "anna", "ohwx", "person")] == ["anna"]
    monkeypatch.chdir(tmp_path / "albums" / "anna" / "selected")
    assert [one.name for one in find_people(Path(), "ohwx", "person")] == ["selected"]
    (tmp_path / "albums" / "anna" / "selected" / "inner").mkdir()
    assert [one.name for one in find_people(Path("inner/.."), "ohwx", "person")] == ["selected"]


def linked(link: Path, folder: Path) -> None:
    try:
        link.symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("needs symbolic links")


@pytest.mark.parametrize("other", ["ANNÄ", "Anna\N{COMBINING DIAERESIS}"], ids=["capitals", "another spelling of a letter"])
def test_two_people_of_one_name_are_refused(other: str, tmp_path: Path) -> None:
    for name in ("Annä", other):
        (tmp_path / name).mkdir(exist_ok=True)
        shutil.copy(mini.subject_path() / "photo_1.png", tmp_path / name)
    if len([*tmp_path.iterdir()]) < 2:
        pytest.skip("this disk holds them as one")
    with pytest.raises(FaceExprError, match=r"Two people in .* have one name, .* Rename one of the two folders"):
        find_people(tmp_path, "ohwx", "person")


def test_pictures_beside_peoples_folders_are_no_person(tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        (tmp_path / name).mkdir()
        shutil.copy(mini.subject_path() / "photo_1.png", tmp_path / name)
    shutil.copy(mini.subject_path() / "photo_1.png", tmp_path / "all.png")
    with pytest.raises(FaceExprError, match=r"all\.png and folders of pictures \(anna, ben\): is this one person or several\?"):
        find_people(tmp_path, "ohwx", "person")
    shutil.rmtree(tmp_path / "ben")
    people = find_people(tmp_path, "ohwx", "person")
    assert [one.folder for one in people] == [tmp_path]
    assert passed_over(tmp_path, people) == ["anna (a folder beside the person's photos)"]
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "all.png"}\n{"file_name": "anna/photo_1.png"}\n')
    assert passed_over(tmp_path, find_people(tmp_path, "ohwx", "person")) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"expressions": ("happy", "neutral")}, "without neutral, which is always drawn"),
        ({"expressions": ("happy", "Neutral")}, "without neutral, which is always drawn"),
        ({"expressions": ("cheery",)}, "'cheery' is not an expression"),
        ({"intensities": (0.0, 1.0)}, "above 0 and up to 1.5"),
        ({"scenes": ("a photo of a man",)}, "does not say where the person goes; write {person} there"),
        ({"seeds": ()}, "at least one scene and one seed"),
    ],
)
def test_a_plan_that_cannot_be_drawn_is_refused(changes: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {"expressions": ("happy",), "intensities": (1.0,), "scenes": ("a photo of {person}",), "seeds": (0,)}
    with pytest.raises(FaceExprError, match=told):
        Plan(arms=tuple(parse_arms(["base"])), **given | changes)


def test_a_plan_keeps_expressions_as_the_vocabulary_spells_them(tmp_path: Path) -> None:
    plan = Plan(tuple(parse_arms(["lora"])), ("Happy", "happy", "contemptuous"), (1.0,), ("a photo of {person}",), (0,))
    assert plan.expressions == ("happy", "contempt")
    run = replace(evaluation(tmp_path), plan=plan)
    recorded(run)
    (row,) = summarise(run.records(), ["lora"], measures(tmp_path))
    assert row.values["accuracy_6"].mean == 1  # type: ignore[union-attr]


def test_processes_share_all_places_and_each_once() -> None:
    run = evaluation(Path(), seeds=(0, 1, 2))
    shared = [place for rank in range(4) for place in run.places(rank, 4)]
    assert len(shared) == 6 and {*shared} == {*run.places()}
    assert Share(1, 4).of("abcdefgh") == "bf"


def test_lines_cut_off_what_a_killed_run_left_unfinished(tmp_path: Path) -> None:
    Lines(tmp_path / "a.jsonl").add({"number": 1})
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'{"num')
    lines = Lines(tmp_path / "a.jsonl")
    lines.add({"number": 2})
    assert Lines(tmp_path / "a.jsonl").values == [{"number": 1}, {"number": 2}]


def test_what_a_name_stands_for_stays(tmp_path: Path) -> None:
    keep_meaning(tmp_path / "run.json", {"steps": 20})
    keep_meaning(tmp_path / "run.json", {"steps": 20, "cfg": 5})
    with pytest.raises(FaceExprError, match="'cfg' was 5, now it is 4; give another --output_dir"):
        keep_meaning(tmp_path / "run.json", {"cfg": 4})


def test_names_of_files_are_safe_and_never_shared() -> None:
    words = ["anna", "../anna", "lora:a=1", "lora:a,1", "x" * 300, "x" * 301, "äöü 1", ""]
    names = [short_name(one) for one in words]
    assert len({*names}) == len(words) and names[0] == "anna"
    assert all(len(one) <= 50 and "/" not in one and not one.startswith(".") for one in names)


def evaluation(output: Path, seeds: tuple[int, ...] = (0,), names: tuple[str, ...] = ("anna", "<b>ben & co</b>")) -> Evaluation:
    plan = Plan(tuple(parse_arms(["lora", "fusion"])), ("happy", "sad"), (0.5, 1.0, 1.5), ("a photo of {person}",), seeds)
    return Evaluation(output, plan, tuple(Person(name, output / "photos", "ohwx", "person") for name in names))


def recorded(run: Evaluation, gains: tuple[str, ...] = ("anna",)) -> None:
    """Every picture of the plan: `fusion` right in all of those who gain by it, in half of the others'; `lora` in half of all."""
    rng = np.random.default_rng(0)
    for place in run.places():
        lines = Lines(place.records(run.output))
        for arm in run.plan.arms:
            for name, intensity in run.plan.wanted():
                path = place.picture(arm.name, name, intensity)
                write_picture(run.output / path, rng.integers(0, 255, (16, 16, 3)).astype(np.uint8))
                right = name != "sad" or (arm.name == "fusion" and place.person in gains)
                read = name if right else "angry"
                score = PictureScore(
                    True,
                    read=read,
                    read_of_six=read,
                    read_of_twelve=read,
                    classified=read,
                    right=right,
                    right_classifier=right,
                    right_on_person=right,
                    strength=None if name == "neutral" else 0.8 * intensity,
                    cosine=0.9,
                    probability=0.5,
                    l1=0.1,
                    units_error=0.1,
                    likeness=0.7 if arm.name == "fusion" else 0.6,
                    background=0.02,
                    pose=2.0,
                    expression_score=0.5,
                    score=0.55,
                )
                where = {"person": place.person, "arm": arm.name, "scene": place.scene, "seed": place.seed}
                lines.add({**where, "expression": name, "intensity": intensity, **asdict(score), "picture": path.as_posix()})


def test_a_face_that_is_missing_never_helps(tmp_path: Path) -> None:
    """It breaks its series, and is as little alike as a stranger."""
    run = evaluation(tmp_path, names=("anna",))
    recorded(run)
    known = [one for one in run.records() if one["arm"] == "lora"]
    for one in known:
        one["probability"] = one["intensity"] / 2
    nobody = dict.fromkeys(("strength", "probability", "likeness", "l1")) | {"face": False}
    lost = [one | nobody if (one["expression"], one["intensity"]) == ("sad", 1.5) else one for one in known]
    measured = {one.name: one.of for one in measures(tmp_path)}
    for name in ("linearity", "linearity_classifier", "order"):
        assert measured[name](known) == pytest.approx(1) and measured[name](lost) == pytest.approx(0.5), name
    stranger, none = ([{**one, "likeness": value} for one in known] for value in (-0.2, None))
    assert normalised(-0.2) < 0 and measured["likeness_scaled"](stranger) == measured["likeness_scaled"](none) == 0
    contempt = [{**one, "expression": "contempt", "probability": None} for one in known if one["expression"] == "sad"]
    assert measured["linearity_classifier"](contempt) is None  # which it does not know


def test_measures_are_taken_in_each_person_then_over_people(tmp_path: Path) -> None:
    run = evaluation(tmp_path)
    recorded(run)
    lora, fusion = rows = summarise(run.records(), ["lora", "fusion"], measures(tmp_path))
    assert lora.pictures == 14 and {*lora.people} == {"anna", "<b>ben & co</b>"}

    def mean(row: Any, name: str) -> float:
        return float(row.values[name].mean)

    assert (mean(lora, "accuracy_6"), mean(fusion, "accuracy_6")) == (0.5, 0.75)
    assert mean(lora, "linearity") == pytest.approx(1) and mean(lora, "order") == pytest.approx(1)
    assert mean(lora, "linearity_classifier") == 0
    assert mean(fusion, "likeness") - mean(lora, "likeness") == pytest.approx(0.1)
    assert mean(lora, "likeness_lost") == 0 and mean(lora, "face") == 1
    assert lora.values["accuracy_12"] is None and lora.values["confusion"] is None and lora.values["diversity"] is None
    (difference,) = differences(rows)
    assert (difference.arm, difference.against) == ("fusion", "lora")
    assert difference.values["accuracy_6"].mean == 0.25  # type: ignore[union-attr]
    assert {one.name for one in measures(tmp_path)} == {*lora.values}


def test_the_page_escapes_what_users_call_their_people_and_marks_clear_differences(tmp_path: Path) -> None:
    run = evaluation(tmp_path)
    recorded(run)
    rows = summarise(run.records(), ["lora", "fusion"], measures(tmp_path))
    page = build_page(run, run.records(), rows, differences(rows), measures(tmp_path), {"Model": "<script>alert(1)</script>"})
    assert "<script" not in page and "<b>ben" not in page and "&lt;b&gt;ben &amp; co" in page
    assert "There are no intervals" in page and '<span class="right">better</span>' not in page  # of two people
    assert "http://" not in page.replace("http://www.w3.org/", "") and "https://" not in page and "url(http" not in page


@pytest.mark.parametrize(("gains", "word"), [(("anna",), ""), (("anna", "ben", "cara", "dan"), "better")])
def test_of_five_people_the_page_has_intervals_and_marks_clear_differences(tmp_path: Path, gains: tuple[str, ...], word: str) -> None:
    run = evaluation(tmp_path, names=("anna", "ben", "cara", "dan", "eve"))
    recorded(run, gains)
    rows = summarise(run.records(), ["lora", "fusion"], measures(tmp_path))
    page = build_page(run, run.records(), rows, differences(rows), measures(tmp_path), {})
    assert "In brackets 95 % bootstrap intervals over people" in page
    (both,) = differences(rows)
    (told,) = (
        one for one in page_differences("lora", measures(tmp_path), differences(rows))["lines"] if one["title"] == "Acc-6, blendshapes"
    )
    assert told["cells"][0].get("word", "") == word and told["cells"][0]["ends"].startswith("[+")
    assert page.count('<span class="right">better</span>') >= 1 + bool(word)  # the legend
    values = [both.values[one.name] for one in measures(tmp_path) if one.better]
    marked = sum(value is not None and value.low < value.high for value in values)
    assert f"Of {marked} intervals here chance alone would mark 5 %, " in page


@pytest.mark.parametrize(
    ("intervals", "told"), [(10, "less than one"), (20, "about 1"), (29, "about 1"), (75, "about 4"), (900, "about 45")]
)
def test_a_page_with_many_intervals_says_how_many_are_marked_by_chance(intervals: int, told: str) -> None:
    better = {"mean": "+0.1", "ends": "[+0.0, +0.2]"}
    lines = [{"arrow": "↑", "cells": [better]}] * intervals + [{"arrow": "", "cells": [better]}, {"arrow": "↓", "cells": [{"mean": "-"}]}]
    assert evaluation_page._chance([{"lines": lines[:5]}, {"lines": lines[5:]}]) == {"intervals": intervals, "marked": told}


def test_everybody_has_a_sheet_before_anybody_has_two(tmp_path: Path) -> None:
    """Two arms of three expressions: six pictures on a sheet at the strongest, twelve on one of all intensities."""
    run = evaluation(tmp_path, names=("anna", "ben", "cara", "dan", "eve"))
    recorded(run)
    with mock.patch.object(evaluation_page, "SHOWN", 5 * 6 + 2 * 12 + 11):
        people, left_out = evaluation_page._sheets(run, run.records())
    assert [len(one["sheets"]) for one in people] == [2, 2, 1, 1, 1]
    assert left_out == len(run.records()) - 5 * 6 - 2 * 12 + 2 * 4  # the strongest stand on both


def test_a_picture_that_is_gone_is_drawn_again(tmp_path: Path) -> None:
    run = evaluation(tmp_path)
    recorded(run)
    (place, _) = run.places()
    assert run.missing(place) == {}
    (tmp_path / place.picture("fusion", "sad", 1.0)).unlink()
    assert [(arm.name, wanted) for arm, wanted in run.missing(place).items()] == [("fusion", [("sad", 1.0)])]


def test_half_a_face_that_is_none_has_no_likeness_in_records_of_earlier_versions(tmp_path: Path) -> None:
    run = evaluation(tmp_path, names=("anna",))
    recorded(run)
    (place,) = run.places()
    faceless = dict.fromkeys(run.records()[0]) | run.records()[3] | {"face": False, "likeness": 0.68}
    Lines(place.records(tmp_path)).add(faceless)
    assert run.records()[3] == faceless | {"likeness": None}


def test_tables_count_those_who_have_a_value_and_have_no_ends_where_they_are_few(tmp_path: Path) -> None:
    run = evaluation(tmp_path, names=("anna", "ben", "cara", "dan", "eve"))
    recorded(run)
    few = [{**one, "pose": None} if one["person"] != "anna" else one for one in run.records()]
    rows = summarise(few, ["lora", "fusion"], measures(tmp_path))
    for table in (summary_rows(rows, measures(tmp_path)), difference_rows(differences(rows), measures(tmp_path))):
        told = {one["measure"]: one for one in table}
        assert told["likeness"]["people"] == 5 and None not in (told["likeness"]["low"], told["likeness"]["high"])
        assert (told["pose"]["people"], told["pose"]["low"], told["pose"]["high"]) == (1, None, None) and told["pose"]["mean"] is not None
        assert (told["accuracy_12"]["people"], told["accuracy_12"]["mean"]) == (0, None)


def test_what_two_processes_drew_both_is_counted_once(tmp_path: Path) -> None:
    run = evaluation(tmp_path)
    recorded(run)
    once = run.records(), summarise(run.records(), ["lora", "fusion"], measures(tmp_path))
    recorded(run)
    assert run.records() == once[0] and summarise(run.records(), ["lora", "fusion"], measures(tmp_path)) == once[1]


def test_without_pyarrow_the_tables_are_csv_alone_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    run = evaluation(tmp_path)
    recorded(run)
    page, note = write_report(run, {})
    assert page.is_file() and "pip install pyarrow" in note
    assert (tmp_path / "pictures.csv").read_text().count("\n") == 29 and not [*tmp_path.glob("*.parquet")]


def test_the_largest_seeds_are_kept_to_the_last_digit(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    seeds = (2**64 - 1, 2**53 + 1, 0)
    run = evaluation(tmp_path, seeds, names=("anna",))
    recorded(run)
    page, _ = write_report(run, {})
    assert str(seeds[0]) in page.read_text(encoding="utf-8") and str(seeds[0]) in (tmp_path / "pictures.csv").read_text()
    rows = parquet.read_table(tmp_path / "pictures.parquet").to_pylist()
    assert [*dict.fromkeys(row["seed"] for row in rows)] == [*seeds]
    assert parquet.read_schema(tmp_path / "pictures.parquet").names == (tmp_path / "pictures.csv").read_text().split("\n")[0].split(",")


def test_tables_of_an_earlier_run_with_pyarrow_do_not_lie_beside_newer_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    run = evaluation(tmp_path)
    recorded(run)
    write_report(run, {})
    (tmp_path / "mine.parquet").touch()
    assert len([*tmp_path.glob("*.parquet")]) == 5
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    write_report(run, {})
    assert [*tmp_path.glob("*.parquet")] == [tmp_path / "mine.parquet"] and len([*tmp_path.glob("*.csv")]) == 4


def test_the_command_explains_its_arms() -> None:
    told = next(action for action in _parser()._actions if action.dest == "verb").choices["evaluate"].format_help()  # type: ignore[index,union-attr]
    assert "fusion:strength=1.5,text=expression" in told and "accelerate launch" in told


@pytest.mark.parametrize(
    "words",
    [f"evaluate --photos . --seeds 0 {2**64}", f"dataset --people 4 --seed {2**64}", f"dataset --lora anna.safetensors --seeds {2**64}"],
)
def test_a_seed_that_cannot_be_is_refused_before_anything_is_read(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert faceexpr([*words.split(), "--model", "nowhere", "--output_dir", str(tmp_path / "out")]) == 2
    flag = "seed" if "--seed " in words else "seeds"
    assert f"--{flag} is {2**64}; give a value from 0 to {2**64 - 1}." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--lora anna.safetensors --train --rank=8", "'--rank=8' in --train would change nothing: with --lora nothing is trained"),
        ("--arms base --train --steps=8", "'--steps=8' in --train would change nothing: no arm draws with a LoRA"),
        ("--cfg 1 --negative blurry", "--negative would change nothing: without guidance nothing is avoided"),
        ("--arms base --lora anna.safetensors", "--lora would change nothing: no arm draws with a LoRA"),
        ("--arms lora:rank=8 --lora anna.safetensors", "--lora would change nothing: every LoRA is one of an arm's own training"),
    ],
)
def test_what_would_change_nothing_is_refused(more: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--model", "mini", "--photos", str(mini.subject_path()), "--output_dir", str(tmp_path / "out")]
    assert faceexpr([*words, *more.replace("--train ", "--train=").split()]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_looking_what_is_missing_leaves_what_another_process_is_writing(tmp_path: Path) -> None:
    plan = Plan(tuple(parse_arms(["base"])), ("happy",), (1.0,), ("a photo of {person}",), (0,))
    run = Evaluation(tmp_path, plan, (Person("anna", tmp_path, "ohwx", "woman"),))
    (place,) = run.places()
    file = place.records(tmp_path)
    file.parent.mkdir()
    file.write_text('{"arm": "base", "expression": "neutral", "intensity": 1.0, "picture": "."}\n{"arm": "base", "expr')
    assert list(run.missing(place).values()) == [[("happy", 1.0)]]
    assert file.read_text().endswith('"expr')


def person_in(folder: Path) -> Person:
    for number in (1, 2):
        shutil.copy(mini.subject_path() / f"photo_{number}.png", folder)
    return Person(folder.name, folder, "ohwx", "woman")


def test_an_output_among_the_photos_does_not_make_them_others(tmp_path: Path) -> None:
    anna = person_in(tmp_path)
    before = anna.meaning()
    for name in ("evaluation/pictures/anna/base/happy.png", "evaluation/loras/anna.safetensors", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(mini.subject_path() / "photo_3.png", tmp_path / name) if name.endswith(".png") else (tmp_path / name).write_bytes(b"1")
    assert anna.meaning() == before
    (tmp_path / "photo_1.txt").write_text("a photo of ohwx woman, sad")
    assert anna.meaning() != before


@pytest.mark.parametrize("changed", [["--prediction_type", "v_prediction"], ["--train=--person 1"]])
def test_a_folder_is_not_gone_on_with_once_the_model_or_the_photos_are_read_in_another_way(changed: list[str], tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    person_in(tmp_path / "anna")
    words = ["evaluate", "--model", "mini", "--photos", str(tmp_path / "anna"), "--output_dir", str(tmp_path / "out")]

    def worker(*more: str) -> Worker:
        arguments = _parser().parse_args([*words, *more])
        return Worker(arguments, evaluation_of(arguments), Share())

    first, other = worker(), worker(*changed)
    first.keep_meaning()
    begin(tmp_path / "out")
    worker().keep_meaning()
    with pytest.raises(FaceExprError, match="give another --output_dir"):
        other.keep_meaning()
    assert not {*first.loras.values()} & {*other.loras.values()}


@pytest.mark.parametrize("name", ["people.json", "summary.csv", "report.html", "pictures/holiday.png", "people/anna/photo_0.png"])
def test_what_others_wrote_is_not_written_over(name: str, tmp_path: Path) -> None:
    """What lies beside it does not matter; a run that was stopped at its first file goes on."""
    arguments = _parser().parse_args(
        ["evaluate", "--model", "mini", "--photos", str(mini.subject_path()), "--output_dir", str(tmp_path / "out")]
    )
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    (tmp_path / "out" / "notes.txt").write_text("mine")

    def keep() -> None:
        Worker(arguments, evaluation_of(arguments), Share()).keep_meaning()

    with pytest.raises(FaceExprError, match=rf"out holds {name.split('/')[0]}, which is not of an evaluation of faceexpr"):
        keep()
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()) == sorted(
        [name, "notes.txt"]
    )
    shutil.move(file, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "out" / name.split("/")[0], ignore_errors=True)
    keep()
    for other in (tmp_path / "out").glob("*.json"):
        if other.name != "run.json":
            other.unlink()
    keep()


def test_a_folder_begun_when_a_strength_stood_for_less_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "anna").mkdir()
    person_in(tmp_path / "anna")
    output = tmp_path / "out"

    def keep(*arms: str) -> None:
        worker_of(tmp_path / "anna", output, "--arms", *arms).keep_meaning()

    with monkeypatch.context() as before:
        before.setitem(settings._UNITS, settings.CONTEXT_SITE, (1.0, 1.0))
        keep("lora", "fusion", "fusion:site=skip")
        begin(output)
    keep("lora", "fusion:site=skip")
    with pytest.raises(FaceExprError, match=r"'fusion' was .*'strength 1': \[1\.0, 1\.0\].*now it is .*'strength 1': \[1\.25, 1\.25\]"):
        keep("lora", "fusion")


def worker_of(photos: Path, output: Path, *more: str) -> Worker:
    arguments = _parser().parse_args(["evaluate", "--model", "mini", "--photos", str(photos), "--output_dir", str(output), *more])
    return Worker(arguments, evaluation_of(arguments), Share())


def begin(output: Path) -> None:
    """As if a picture were drawn and the photos measured."""
    Lines(output / "records" / "anna.jsonl").add({"arm": "lora"})
    (output / "people" / "anna").mkdir(parents=True)
    (output / "people" / "anna" / "person.json").write_text("{}")


def test_what_was_asked_before_anything_was_drawn_may_be_asked_otherwise(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    person_in(tmp_path / "anna")
    words = ["evaluate", "--model", "mini", "--photos", str(tmp_path / "anna"), "--output_dir", str(tmp_path / "out")]

    def keep(*more: str) -> None:
        arguments = _parser().parse_args([*words, *more])
        Worker(arguments, evaluation_of(arguments), Share()).keep_meaning()

    keep("--cfg", "50")
    keep("--cfg", "4")
    begin(tmp_path / "out")
    keep("--cfg", "4")
    with pytest.raises(FaceExprError, match=r"'drawing' was .*'cfg': 4\.0.*now it is .*'cfg': 50\.0"):
        keep("--cfg", "50")


def lora_in(file: Path, metadata: dict[str, str] | None = None, size: int = 1) -> Path:
    save_file(
        {"weight": torch.zeros(size)},
        file,
        metadata={"faceexpr.trigger": "ohwx", "faceexpr.class_word": "person"} if metadata is None else metadata,
    )
    return file


@pytest.mark.parametrize(
    ("metadata", "more", "words"),
    [
        ({"faceexpr.trigger": "sks", "faceexpr.class_word": "woman"}, (), "sks woman"),
        ({"faceexpr.class_word": "woman"}, (), "woman"),
        ({"modelspec.trigger_phrase": "zwx young man"}, (), "zwx young man"),
        ({"faceexpr.trigger": "sks", "faceexpr.class_word": "woman"}, ("--class_words", "anna=girl"), "sks girl"),
        ({"faceexpr.trigger": "sks", "faceexpr.class_word": "woman"}, ("--trigger", "ohwx"), "ohwx woman"),
        ({"x": "y"}, ("--trigger", "sks"), "sks person"),
        ({"x": "y"}, ("--trigger", "sks", "--class_word", "man"), "sks man"),
    ],
)
def test_a_lora_that_is_given_is_drawn_with_the_words_that_it_learned(
    metadata: dict[str, str], more: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (one,) = with_lora(tmp_path, metadata, *more).people
    told = capsys.readouterr().err
    assert one.words == words
    assert ("as given; lora.safetensors says it learned 'sks woman'" in told) is ("x" not in metadata and bool(more))


def test_a_lora_that_does_not_say_its_words_is_refused_unless_they_are_given(tmp_path: Path) -> None:
    with pytest.raises(FaceExprError, match="does not say which words it learned; give them: --trigger WORD --class_word WORD"):
        with_lora(tmp_path, {"x": "y"})


def with_lora(folder: Path, metadata: dict[str, str], *more: str) -> Evaluation:
    """Of one person, whose LoRA is given."""
    (folder / "anna").mkdir()
    person_in(folder / "anna")
    lora = lora_in(folder / "lora.safetensors", metadata)
    words = ["evaluate", "--model", "mini", "--photos", str(folder / "anna"), "--output_dir", str(folder / "out"), "--lora", str(lora)]
    return evaluation_of(_parser().parse_args([*words, *more]))


def test_a_lora_that_is_given_belongs_to_its_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there leaves no trace; people may be added; another file for one of them is refused."""
    people, loras, output = tmp_path / "people", tmp_path / "loras", tmp_path / "out"
    loras.mkdir()
    words = ["evaluate", "--model", "mini", "--photos", str(people), "--output_dir", str(output), "--lora", str(loras)]

    def join(name: str) -> None:
        (people / name).mkdir(parents=True)
        person_in(people / name)
        lora_in(loras / f"{name}.safetensors", size=len(name))

    def keep(*more: str) -> None:
        arguments = _parser().parse_args([*words, *more])
        Worker(arguments, evaluation_of(arguments), Share()).keep_meaning()

    join("anna")
    assert faceexpr([*words, "--lora", str(loras / "ana.safetensors")]) == 2
    assert "there is no LoRA of its own for anna" in capsys.readouterr().err and not output.exists()
    keep()
    begin(output)
    join("ben")
    (loras / "another.safetensors").touch()
    keep()
    (loras / "ben.safetensors").rename(loras / "ben's")
    with pytest.raises(FaceExprError, match=r"no LoRA of its own for ben\. .* a PEFT adapter's folder <name>"):
        keep()
    (loras / "ben").mkdir()
    (loras / "ben's").rename(loras / "ben" / "adapter_model.safetensors")  # the same file, as an adapter's folder
    keep()
    lora_in(loras / "anna.safetensors", size=9)
    with pytest.raises(FaceExprError, match=r"'anna' was [0-9a-f]{16}, now it is [0-9a-f]{16}"):
        keep()


def test_an_arm_of_its_own_training_beside_a_given_lora_keeps_its_training(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    person_in(tmp_path / "anna")
    lora = lora_in(tmp_path / "anna.safetensors")
    words = ["evaluate", "--model", "mini", "--photos", str(tmp_path / "anna"), "--output_dir", str(tmp_path / "out"), "--lora", str(lora)]

    def worker(train: str) -> Worker:
        arguments = _parser().parse_args([*words, f"--train={train}", "--arms", "lora", "lora:preset=paper"])
        return Worker(arguments, evaluation_of(arguments), Share())

    worker("--steps 8").keep_meaning()
    begin(tmp_path / "out")
    with pytest.raises(FaceExprError, match=r"'lora:preset=paper' was .*--steps 8.*now it is .*--steps 9"):
        worker("--steps 9").keep_meaning()


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ("--trigger sks --rank 8", "--trigger is not the training's to say here; give faceexpr evaluate's own --trigger"),
        ("--prediction_type=v_prediction", "--prediction_type is not the training's to say here"),
        ("--output mine.safetensors", "give faceexpr evaluate's own --photos and --output_dir"),
        ("--class_images 'my women", r"it cannot be read \(No closing quotation\)"),
    ],
)
def test_a_training_cannot_say_what_the_evaluation_says(train: str, told: str) -> None:
    with pytest.raises(FaceExprError, match=told):
        training_words(train)


@pytest.mark.parametrize("train", ["--flip", "--preset=paper", "--no-captions", "--steps=400 --rank=8", "--seed=3 --rank 4"])
def test_a_trainings_flags_are_read_whatever_they_look_like(train: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """argparse takes `--train --flip` for two flags of its own."""
    words = ["evaluate", "--model", "mini", "--photos", str(mini.subject_path()), "--output_dir", str(tmp_path / "out"), "--arms", "base"]
    for given in (["--train", train], [f"--train={train}"]):
        assert faceexpr([*words, *given]) == 2
        assert f"'{train}' in --train would change nothing" in capsys.readouterr().err


def test_trackers_are_refused_where_several_processes_learn(tmp_path: Path) -> None:
    """Each of them would wait for the others, who learn somebody else."""
    words = ["evaluate", "--model", "mini", "--photos", str(mini.subject_path()), "--output_dir", str(tmp_path / "out")]
    arguments = _parser().parse_args([*words, "--train=--report_to tensorboard"])
    Worker(arguments, evaluation_of(arguments), Share())
    with pytest.raises(FaceExprError, match="--report_to tensorboard in --train: several processes"):
        Worker(arguments, evaluation_of(arguments), Share(1, 2, 1))


def test_people_who_were_learned_in_different_ways_are_told(tmp_path: Path) -> None:
    def made(name: str, preset: str, base: str = "full") -> Path:
        told = {
            "faceexpr.preset": preset,
            "faceexpr.steps": "400",
            "modelspec.resolution": "768x768",
            "faceexpr.settings": f'{{"base": "{base}"}}',
        }
        return lora_in(tmp_path / f"{name}.safetensors", told)

    anna, ben, cara = made("anna", "default"), made("ben", "default"), made("cara", "low-vram", "nf4")
    alike = tell_learned({("anna", ""): anna, ("ben", ""): ben})
    assert alike == ({"Learned": "preset default, 768x768, 400 steps"}, [])
    lines, (warning,) = tell_learned({("anna", "rank=8"): anna, ("ben", "rank=8"): ben, ("cara", "rank=8"): cara})
    assert lines == {
        "Learned with rank=8": "anna, ben: preset default, 768x768, 400 steps; cara: preset low-vram, base nf4, 768x768, 400 steps"
    }
    assert "the people were not learned alike" in warning and "--preset default" in warning


def test_people_learned_by_one_preset_whose_values_changed_are_told(tmp_path: Path) -> None:
    files = {
        (name, ""): lora_in(tmp_path / f"{name}.safetensors", {"faceexpr.preset": "default", "faceexpr.settings": f'{{"rank": {rank}}}'})
        for name, rank in (("anna", 32), ("ben", 32), ("cara", 16))
    }
    lines, warnings = tell_learned(files)
    assert lines["Learned"] == "anna, ben: preset default, ? steps, rank 32; cara: preset default, ? steps, rank 16"
    assert len(warnings) == 1


def test_a_lora_is_another_and_its_pictures_too_once_a_preset_has_other_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words, in another version."""
    (tmp_path / "anna").mkdir()
    person_in(tmp_path / "anna")
    output = tmp_path / "out"

    def worker(*arms: str) -> Worker:
        return worker_of(tmp_path / "anna", output, "--train=--preset default", "--arms", *arms)

    before = worker("base", "lora", "lora:preset=paper")
    before.keep_meaning()
    begin(output)
    default = PRESETS["default"]
    changed = MappingProxyType({**PRESETS, "default": replace(default, settings={**default.settings, "crafting_weight": 0.1})})
    monkeypatch.setattr(training_settings, "PRESETS", changed)
    after = worker("base", "lora", "lora:preset=paper")
    assert after.loras[("anna", ())] != before.loras[("anna", ())]
    paper = ("anna", (("preset", "paper"),))
    assert after.loras[paper] == before.loras[paper]
    worker("base", "lora:preset=paper").keep_meaning()
    with pytest.raises(FaceExprError, match=r"'lora' was .*'crafting_weight': 0\.05.*now it is .*'crafting_weight': 0\.1"):
        after.keep_meaning()


def test_a_lora_is_another_once_the_one_that_it_starts_from_is(tmp_path: Path) -> None:
    start = lora_in(tmp_path / "start.safetensors")

    def files() -> list[Path]:
        return [*worker_of(mini.subject_path(), tmp_path / "out", f"--train=--start_from {start}").loras.values()]

    before = files()
    assert files() == before
    lora_in(start, size=2)
    assert files() != before
    start.unlink()
    with pytest.raises(FaceExprError, match=r"there is no .*start\.safetensors"):
        files()


def test_what_was_measured_in_another_way_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep() -> None:
        worker_of(mini.subject_path(), tmp_path / "out", "--arms", "base").keep_meaning()

    keep()
    begin(tmp_path / "out")
    keep()
    monkeypatch.setattr(judges, "MEASURES", judges.MEASURES + 1)
    with pytest.raises(FaceExprError, match="'measured by' was"):
        keep()


def test_a_name_that_nobody_said_before_is_a_difference_where_all_is_said(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    keep_meaning(file, {"model": "a"}, whole=True)
    keep_meaning(file, {"model": "a"}, whole=True)
    for given, told in (
        ({"model": "a", "strength 1": 1.25}, "'strength 1' was not said, now it is 1.25"),
        ({}, "'model' was a, now it is not said"),
    ):
        with pytest.raises(FaceExprError, match=told):
            keep_meaning(file, given, whole=True)
    assert json.loads(file.read_text()) == {"model": "a"}
    keep_meaning(file, {"arm": "b"})
    assert json.loads(file.read_text()) == {"model": "a", "arm": "b"}


def test_on_windows_a_backslash_in_a_training_is_a_letter() -> None:
    words = split_flags(r"""--class_images "C:\my women\new" --vae=C:\vae --start_from='D:\a b.safetensors'""", windows=True)
    assert split_flags(r"--class_images C:\\my\ women", windows=False) == ["--class_images", r"C:\my women"]
    assert words == ["--class_images", r"C:\my women\new", r"--vae=C:\vae", r"--start_from=D:\a b.safetensors"]


def test_a_model_is_another_wherever_its_weights_changed(tmp_path: Path) -> None:
    file, weights = tmp_path / "model.safetensors", bytearray(np.random.default_rng(0).bytes(6 << 20))
    file.write_bytes(weights)
    before = checkpoint_digest(str(file))
    weights[5 << 20 : (5 << 20) + (1 << 17)] = bytes(1 << 17)
    file.write_bytes(weights)
    assert checkpoint_digest(str(file)) != before


def test_a_place_that_cannot_be_written_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    words = ["evaluate", "--model", "mini", "--photos", str(mini.subject_path()), "--output_dir", str(tmp_path / "file" / "out")]
    assert faceexpr(words) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert str(tmp_path / "file") in told and told.endswith("Make room or give another place, then the same command again.")


def test_how_photos_are_read_may_be_said_beside_a_lora() -> None:
    assert training_words("--framing 'whole picture' --resolution 192 --keep_small_faces") == []
    assert training_words("--framing 'whole picture' --rank 8 --no-flip") == ["--rank", "8", "--no-flip"]
    with pytest.raises(FaceExprError, match="the training cannot be read: argument --padding"):
        training_words("--padding wide")
