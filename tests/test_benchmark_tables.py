"""Tables of benchmarks that need hours to fill, from records that can be counted by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rendered import rendered_people

from faceexpr_core.evaluation.records import Lines
from faceexpr_core.evaluation.run import write_picture
from faceexpr_core.measure.identity import IdentityMeter, identity_scale, normalised
from faceexpr_core.measure.statistics import mean_interval
from lab.benchmarks import change, dataset_classifier, frowns, photographs, preset_summary
from lab.benchmarks.summary import cell


def lines_of(told: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in told.splitlines() if line.startswith("| ")]


def test_a_cell_has_its_interval_where_there_are_people_enough_for_one() -> None:
    values = [[0.0], [0.5], [1.0], [0.5], [0.75]]
    assert re.fullmatch(r"0\.55 \[0\.\d\d, [01]\.\d\d\]", cell(mean_interval(values), "right"))
    assert re.fullmatch(r"\+0\.55 \[\+0\.\d\d, \+[01]\.\d\d\]", cell(mean_interval(values), "right", signed=True))
    assert cell(mean_interval(values[:4]), "right") == "0.50" and cell(None, "right") == "-"


def test_changes_are_told_by_arm_and_of_the_first_arm_by_expression() -> None:
    def row(subject: int, arm: str, asked: str, right: bool) -> dict[str, Any]:
        return {"subject": subject, "arm": arm, "asked": asked, "right": right, "likeness": 0.9, "same": 0.8, "outside": 0}

    rows = [
        row(subject, arm, asked, asked != "sad" or subject == 1)
        for subject in (1, 2)
        for arm in ("redraw", "lora")
        for asked in ("sad", "neutral")
    ]
    told = lines_of(change.table(rows, "the command"))
    assert ["`redraw`", "an expression", "2", "0.50", "0.90", "0.80", "0"] in told
    assert ["`lora`", "neutral", "2", "1.00", "0.90", "0.80", "0"] in told
    assert ["neutral", "1.00", "0.90", "0.80"] in told
    assert len([line for line in told if line[0] == "sad"]) == 1


def test_presets_are_told_by_arm_by_difference_and_by_person(tmp_path: Path) -> None:
    def row(arm: str, subject: int, kind: str, expression: str, right: bool, similarity: float) -> dict[str, Any]:
        value = {"arm": arm, "subject": subject, "kind": kind, "noise": 0, "expression": expression, "face": True, "similarity": similarity}
        value |= {} if expression == "neutral" else {"right": right, "cosine": 0.5, "intensity": 0.5}
        return value | ({"on_person": right} if kind == "person" else {})

    similar = {"base": 0.2, "paper": 0.5, "default": 0.6}
    for arm, hits in (("base", "happy sad"), ("paper", "happy"), ("default", "happy sad")):
        for subject in (1, 2):
            lines = Lines(tmp_path / "records" / arm / f"{subject}.jsonl")
            for kind in ("class",) if arm == "base" else ("person", "class"):
                for expression in ("neutral", "happy", "sad"):
                    hit = expression in hits or (subject, arm) == (2, "paper")
                    lines.add(row(arm, subject, kind, expression, hit, similar[arm] - 0.1 * (kind == "class")))
    told = lines_of(preset_summary.table(tmp_path, ["paper", "default"], ["paper"], "the command"))
    arms = {line[0]: line for line in told if len(line) == 14}
    assert arms["`paper`"][1:4] == ["2", "0.75", "0.67"] and arms["`default`"][2] == "1.00"
    assert arms["`default`"][11] == "0.400"
    (less,) = [line for line in told if len(line) == 11 and line[0] == "`default`"]
    assert less[1] == "+0.25" and less[6] == "+0.100"
    by_expression = {tuple(line[:2]): line[2:5] for line in told if line[1] in ("person", "class")}
    assert by_expression["`paper`", "person"] == ["0.50", "1.00", "0.50"]
    assert by_expression["`paper`", "class"] == ["-", "1.00", "0.50"] and by_expression["`base`", "class"] == ["-", "1.00", "1.00"]
    likeness = " / ".join(f"{normalised(similar[arm]):.2f}" for arm in ("paper", "default"))
    assert ["1", "0.50 / 1.00", "0.33 / 0.67", likeness, "0.30 / 0.40"] in told
    assert ["2", "1.00 / 1.00", "1.00 / 0.67", likeness, "0.30 / 0.40"] in told


@pytest.fixture
def frowning() -> list[dict[str, Any]]:
    """Two people: words leave the frown, fusion takes it away at the cost of a twentieth of the likeness."""
    scale = identity_scale()
    found = []
    for subject in (1, 2):
        for arm, name in frowns.DRAWN:
            cured = arm == frowns.FROM_SAD
            likeness = scale.mu_diff + (0.75 if cured else 0.8) * (scale.mu_same - scale.mu_diff)
            where = {"subject": subject, "noise": 0, "arm": arm, "expression": name}
            found.append({**where, "right": cured, "sad": 0.1 if cured else 0.7, "similarity": likeness})
    return found


def test_a_frown_is_told_before_and_after_with_what_it_cost(frowning: list[dict[str, Any]]) -> None:
    told = lines_of(frowns.table(frowning, "the command"))
    before = ["`words`", "neutral", "2", "0.00", "0.70", "0.80", "-", "-", "-"]
    after = ["`from sad`", "neutral", "2", "1.00", "0.10", "0.75"]
    less = ["+1.00", "-0.60", "-0.05"]
    assert before in told and [*after, *less] in told
    assert not [line for line in told if line[:2] == ["`fused`", "neutral"]]  # which fusion alone cannot ask for


def test_the_sheet_of_frowns_has_a_row_a_person(frowning: list[dict[str, Any]], tmp_path: Path) -> None:
    for one in frowning:
        path = tmp_path / "pictures" / f"{one['subject']}_0_{one['arm'].replace(' ', '_')}_{one['expression']}.png"
        write_picture(path, np.full((32, 32, 3), 200, np.uint8))
    page = frowns.sheet(tmp_path, frowning)
    assert page.shape[1] == len(frowns.DRAWN) * 32 and page.shape[0] > 2 * 32


def test_a_data_set_is_made_before_it_is_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[list[str]] = []

    def faceexpr(words: list[str]) -> int:
        called.append(words)
        print("a path")
        return len(called) - 1

    monkeypatch.setattr("faceexpr_core.commands.cli.main", faceexpr)
    dataset_classifier.make_data_set(tmp_path, "--model mini --expressions 'happily surprised'")
    assert called == [["dataset", "--model", "mini", "--expressions", "happily surprised", "--output_dir", str(tmp_path)]]
    assert capsys.readouterr().out == ""  # where the tables go
    with pytest.raises(SystemExit, match="1"):
        dataset_classifier.make_data_set(tmp_path, "")


def test_photographs_are_told_by_one_person_and_by_two(tmp_path: Path, meter: IdentityMeter) -> None:
    for number, own in enumerate(rendered_people()):
        write_picture(tmp_path / str(number) / "at rest.png", own[0])
        for copy in ("1", "2"):
            write_picture(tmp_path / str(number) / f"surprised {copy}.png", own[4])
        write_picture(tmp_path / str(number) / "wall.png", np.full((192, 192, 3), 90, np.uint8))
    people = [photographs.photographs(tmp_path / str(number), meter) for number in range(3)]
    assert [[one.name for one in own] for own in people] == [["at rest.png", "surprised 1.png"]] * 3  # neither walls nor copies
    told = lines_of(photographs.likeness_table([[one.vector for one in own] for own in people]))
    assert [line[:2] for line in told[2:]] == [
        ["one person, photo and photo", "3"],
        ["one person, photo and the mean of the others", "6"],
        ["two people, photo and photo", "12"],
        ["two people, photo and the other's mean", "12"],
    ]
    assert float(told[2][2]) > float(told[4][4])  # the least of one person over the most of two
    said = photographs.caption_lines({f"{one.name}": one.named for one in people[1]} | {"c": None, "d": "happy"})
    assert said == "4 photographs: 1 neutral, 1 happy, 1 surprised, 1 no expression\n- surprised 1.png: surprised\n"
    assert photographs.sheet(people).shape[1] > 10 * photographs.SIDE
