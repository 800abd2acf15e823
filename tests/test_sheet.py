"""What is on a sheet of expressions, and how it is put together."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from faceexpr_core.errors import FaceExprError
from faceexpr_core.expressions import EXPRESSIONS
from faceexpr_core.sheet import (
    Asked,
    SheetPage,
    grid_of_expressions,
    labelled_sheet,
    parse_entries,
    parse_intensities,
    sheet_columns,
    strip,
)


def test_expressions_are_read_from_names_lines_and_action_units() -> None:
    assert parse_entries("happy, Sadly_Angry\nR12+AU6:0.5; happy, contemptuous") == ("happy", "sadly angry", "R12+AU6:0.5", "contempt")
    assert parse_entries("all, happy") == tuple(EXPRESSIONS)


@pytest.mark.parametrize(("text", "said"), [("", "no expressions"), (" ,", "no expressions"), ("hapy", "'hapy'"), ("AU99", "AU99")])
def test_what_is_no_expression_is_refused(text: str, said: str) -> None:
    with pytest.raises(FaceExprError, match=said):
        parse_entries(text)


@pytest.mark.parametrize("text", ["", "strong", "1.6", "0.5, -1", "nan"])
def test_what_is_no_intensity_is_refused(text: str) -> None:
    with pytest.raises(FaceExprError, match=r"0 to 1\.5"):
        parse_intensities(text)


def test_a_grid_has_a_row_an_expression_and_a_column_an_intensity() -> None:
    asked = grid_of_expressions(parse_entries("happy, AU12"), parse_intensities("0.5, 1"))
    assert asked[:2] == [Asked("happy", 0.5), Asked("happy", 1.0)]
    assert asked[2:] == [Asked("none", 0.5, action_units="AU12"), Asked("none", 1.0, action_units="AU12")]
    assert [one.label for one in asked] == ["happy 0.5", "happy", "AU12 0.5", "AU12"]
    labels = [Asked("happy", strength).label for strength in (1.05, 1.1, 1.25, 0.125)]
    assert labels == ["happy 1.05", "happy 1.1", "happy 1.25", "happy 0.125"]
    assert sheet_columns(2, 2) == 2
    assert sheet_columns(9, 1) == 3
    with pytest.raises(FaceExprError, match="400 at most"):
        grid_of_expressions(("happy",) * 21, (1.0,) * 20)


def test_a_strip_fades_one_expression_into_the_next_and_draws_shared_ends_once() -> None:
    frames = strip(("neutral", "happy", "sad"), 0.8, 3)
    assert frames[0] == Asked("neutral", 0.8)
    assert frames[1] == Asked("neutral", 0.4, "happy", 0.4)
    assert frames[2] == Asked("happy", 0.8)
    assert frames[3] == Asked("happy", 0.4, "sad", 0.4)
    assert frames[4:] == [Asked("sad", 0.8)]


@pytest.mark.parametrize(
    ("entries", "frames", "said"),
    [(("happy",), 4, "two expressions or more"), (("happy", "sad"), 1, "two frames or more"), (("happy", "AU12"), 4, "AU12 is an action")],
)
def test_a_strip_that_cannot_be_is_refused(entries: tuple[str, ...], frames: int, said: str) -> None:
    with pytest.raises(FaceExprError, match=said):
        strip(entries, 1.0, frames)


def test_the_sheet_holds_every_picture_pixel_for_pixel_over_a_label() -> None:
    pictures = [np.full((40, 128, 3), 40 * number, np.uint8) for number in range(1, 6)]
    page = labelled_sheet(pictures, ["happy", "sad", "happily surprised 0.75 angry 0.25", "AU1", "neutral"], 3)
    gap = (page.shape[1] - 3 * 128) // 4
    step = (page.shape[0] - gap) // 2
    for number, picture in enumerate(pictures):
        row, column = divmod(number, 3)
        top, left = gap + row * step, gap + column * (128 + gap)
        assert np.array_equal(page[top : top + 40, left : left + 128], picture)
        label = page[top + 40 : top + step - gap, left : left + 128]
        assert label.min() < 120  # ink
        assert (page[top + 40 : top + step - gap, left - gap : left] > 240).all()  # and none beside it


def test_a_page_filled_picture_by_picture_is_the_sheet_and_its_small_copy_shows_what_is_there() -> None:
    pictures = [np.random.default_rng(number).integers(0, 256, (40, 128, 3), np.uint8) for number in range(5)]
    labels = ["happy", "sad", "sadly surprised 0.75 happily disgusted 0.25 " * 4, "AU1", "neutral"]  # the third runs over its neighbours
    page = SheetPage(40, 128, 5, 3, small_side=100)
    blank = page.small()
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True), start=1):
        page.add(picture, label)
        so_far = labelled_sheet(pictures[:number], labels[:number], 3)
        assert np.array_equal(page.pixels()[: len(so_far)], so_far)
        if number <= 3:
            assert np.array_equal(page.small()[20:], blank[20:])  # the second row is not there yet
    reduced = np.asarray(Image.fromarray(page.pixels()).resize(page.small().shape[1::-1], Image.Resampling.BILINEAR), float)
    assert max(page.small().shape) == 100
    assert np.abs(page.small() - reduced).mean() < 12 < np.abs(blank - reduced).mean()
