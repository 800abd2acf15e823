"""The vocabulary is the method's, and its phrases are those that Mini is trained with."""

from __future__ import annotations

import pytest

from faceexpr_core import expressions
from faceexpr_core.errors import FaceExprError
from faceexpr_core.expressions import (
    ACTION_UNITS,
    COMPOUNDS,
    EXPRESSIONS,
    action_unit,
    blend_of,
    blendshapes_of,
    canonical_name,
    parse_action_units,
    parse_unit_strengths,
)
from lab.world import expressions as world


@pytest.mark.parametrize(
    ("name", "phrase", "codes"),
    [
        ("neutral", "neutral expression", []),
        ("happy", "happy expression", ["6", "12", "25"]),
        ("sad", "sad expression", ["1", "4", "15"]),
        ("angry", "angry expression", ["4", "5", "7", "23"]),
        ("surprised", "surprised expression", ["1", "2", "5", "26"]),
        ("fearful", "fearful expression", ["1", "2", "4", "5", "20"]),
        ("disgusted", "disgusted expression", ["9", "10", "17"]),
        ("contempt", "contemptuous expression", ["R12", "R14"]),
        ("shocked", "shocked expression", ["1", "2", "5", "27"]),
    ],
)
def test_expressions_are_those_of_the_method(name: str, phrase: str, codes: list[str]) -> None:
    expression = EXPRESSIONS[name]
    assert expression.phrase == phrase
    assert [unit.code for unit in expression.action_units] == codes


def test_single_action_units_are_those_of_the_method() -> None:
    assert set(ACTION_UNITS) - {14} == {1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 17, 20, 23, 24, 25, 26, 27, 43, 46}


def test_mini_is_trained_with_the_words_of_the_vocabulary() -> None:
    assert set(world.EXPRESSIONS) == {expression.word for expression in EXPRESSIONS.values()}


def test_mini_renders_the_blendshapes_of_each_action_unit() -> None:
    rendered = {number: set(weights) for number, weights in world.ACTION_UNITS.items()}
    assert rendered == {number: set(unit.blendshapes) for number, unit in ACTION_UNITS.items() if number in rendered}


@pytest.mark.parametrize(
    ("code", "regions"),
    [("1", {"brows"}), ("6", {"eyes"}), ("10", {"nose", "mouth"}), ("17", {"mouth", "jaw"}), ("27", {"mouth", "jaw"}), ("43", {"eyes"})],
)
def test_regions_of_an_action_unit(code: str, regions: set[str]) -> None:
    assert action_unit(code).regions == regions


def test_regions_and_blendshapes_of_an_expression_join_those_of_its_action_units() -> None:
    happy = EXPRESSIONS["happy"]
    assert happy.regions == {"eyes", "mouth"}
    assert happy.blendshapes["mouthSmileLeft"] == 1.0
    assert happy.blendshapes["jawOpen"] == 0.08
    assert EXPRESSIONS["shocked"].blendshapes["jawOpen"] == 1.0


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("AU1+AU2", ["1", "2"]),
        ("12", ["12"]),
        ("R12", ["R12"]),
        (" au6 , l14; 25", ["6", "L14", "25"]),
        ("1+1", ["1"]),
        ("", []),
        (" ", []),
    ],
)
def test_action_units_are_read_as_people_write_them(text: str, codes: list[str]) -> None:
    assert [unit.code for unit in parse_action_units(text)] == codes


@pytest.mark.parametrize("text", ["3", "AU", "smile", "X12", "AU1+AU99", "12.5"])
def test_unknown_action_units_are_refused_with_the_list(text: str) -> None:
    with pytest.raises(FaceExprError, match="out of: 1, 2, 4"):
        parse_action_units(text)


def test_one_sided_action_units_move_that_side_only() -> None:
    assert dict(action_unit("R12").blendshapes) == {"mouthSmileRight": 1.0}
    assert dict(action_unit("L12").blendshapes) == {"mouthSmileLeft": 1.0}
    assert dict(action_unit("R46").blendshapes) == {"eyeBlinkRight": 1.0, "cheekSquintRight": 0.3}
    assert action_unit("R12").phrase == "lip corners pulled up on the right side"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("contempt", "contempt"),
        ("Contemptuous", "contempt"),
        ("happily_surprised", "happily surprised"),
        ("Happily  Surprised", "happily surprised"),
    ],
)
def test_names_and_words_both_serve(name: str, known: str) -> None:
    assert canonical_name(name) == known
    assert all(weight > 0 for _, weight in blend_of(name))
    assert blend_of(name) == blend_of(known)


def test_an_unknown_expression_is_refused_with_the_names() -> None:
    with pytest.raises(FaceExprError, match=r"'smug' is not an expression.*bittersweet"):
        blend_of("smug")


def test_every_compound_blends_two_different_basic_expressions() -> None:
    assert len(COMPOUNDS) == 16
    for name in COMPOUNDS:
        parts = blend_of(name)
        assert len({part.name for part, _ in parts}) == 2
        assert 1.0 <= sum(weight for _, weight in parts) <= 1.5
    assert not set(COMPOUNDS) & set(EXPRESSIONS)
    assert len(expressions.names()) == 25


def test_an_action_unit_may_carry_a_strength() -> None:
    assert [(unit.code, strength) for unit, strength in parse_unit_strengths("AU6:0.5, 12; R14 : .25")] == [
        ("6", 0.5),
        ("12", 1.0),
        ("R14", 0.25),
    ]


@pytest.mark.parametrize("text", ["AU12:", "AU12:strong", "AU12:0", "AU12:1.01", "AU12:nan", "AU12:-1"])
def test_a_strength_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(FaceExprError, match="after the colon"):
        parse_unit_strengths(text)


def test_one_unit_at_two_strengths_is_refused() -> None:
    with pytest.raises(FaceExprError, match="twice"):
        parse_unit_strengths("AU12:0.5+AU12")


def test_the_parts_of_a_compound_add_up() -> None:
    assert blendshapes_of("surprised") == EXPRESSIONS["surprised"].blendshapes
    assert blendshapes_of("awed")["browInnerUp"] == pytest.approx(0.8 + 0.4)
    assert blendshapes_of("awed")["mouthStretchLeft"] == pytest.approx(0.4)
