"""The expression editor in ComfyUI's own page where some of its values come by a link, and where the control that has the keyboard goes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from editor import NAMES, NEUTRAL, RENDERERS, SETTLE, Editor, add_editor, keep_picture
from playwright.sync_api import Locator, Page, expect

SAYS = "By a link, neither set nor shown here: "
BEFORE = {"expression": "happy", "intensity": 0.7, "second_expression": "surprised", "second_weight": 0.3, "action_units": "AU12"}
GLOOM = {"expression": "sad", "intensity": 0.4, "second_expression": "angry", "second_weight": 0.8, "action_units": "AU1"}
KEEP = "presets => app.extensionManager.setting.set('FaceExpr.ExpressionPresets', presets)"
VALENCE = "valence (unpleasant to pleasant)"


@pytest.fixture(scope="module", params=RENDERERS)
def renderer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def editor(opened: tuple[Page, list[str]], renderer: str) -> Editor:
    """One with nothing to undo, whose node is selected: a Delete that it lets through deletes it."""
    page = opened[0]
    page.evaluate(KEEP, [{"name": name, "values": GLOOM} for name in ("gloom", "doom", "boom")])
    editor = add_editor(page, renderer, faces=False)
    editor.page.evaluate("app.canvas.selectNode(node)")
    return editor


def all_but(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return {one: value for one, value in values.items() if one != name}


def keeps_the_keyboard(editor: Editor) -> None:
    editor.page.evaluate(SETTLE)
    editor.page.wait_for_timeout(50)  # the browser takes it from what is disabled or hidden with its next picture
    assert editor.page.evaluate("document.activeElement.closest('.fx-editor') !== null && !document.activeElement.disabled")
    assert editor.page.evaluate("document.activeElement.checkVisibility()")
    editor.page.keyboard.press("Delete")
    assert editor.page.evaluate("app.graph.nodes.includes(node)")


def press(editor: Editor, control: Locator, then: Locator) -> None:
    control.press("Enter")
    expect(then).to_be_focused()
    keeps_the_keyboard(editor)


def test_what_sets_several_values_sets_those_without_a_link_and_says_which_have_one(editor: Editor, renderer: str) -> None:
    editor.open("Mine")
    gloom, undo, redo, neutral = (editor.button(name) for name in ("gloom", "undo", "redo", "Neutral"))
    for name in NAMES:
        editor.set(**BEFORE)
        expect(editor.note()).to_have_text("")
        with editor.linked(name):
            expect(editor.note()).to_have_text(SAYS + name)
            for control in (gloom, undo, redo, neutral):
                expect(control).to_have_accessible_description(SAYS + name)
            gloom.click()
            gloomy = BEFORE | all_but(name, GLOOM)
            assert editor.values() == gloomy
            undo.click()
            assert editor.values() == BEFORE
            redo.click()
            assert editor.values() == gloomy
            neutral.click()
            assert editor.values() == gloomy | all_but(name, all_but("second_weight", NEUTRAL))
            if name == "intensity":
                keep_picture(editor.page, f"editor {renderer} intensity by a link")
    expect(editor.note()).to_have_text("")


def test_what_can_set_nothing_is_disabled_and_says_why(editor: Editor, renderer: str) -> None:
    with ExitStack() as links:
        for name in NAMES:
            links.enter_context(editor.linked(name))
        expect(editor.note()).to_have_text(SAYS + ", ".join(NAMES))
        expect(editor.note()).to_be_visible()
        editor.open("Mine")
        for name in ("Neutral", "gloom", "undo", "redo"):
            expect(editor.button(name)).to_be_disabled()
        expect(editor.button("delete gloom")).to_be_enabled()
        editor.open("Muscles")
        expect(editor.slider("12 lip corners pulled up")).to_be_disabled()
        expect(editor.root.get_by_role("group", name="Muscles")).to_have_accessible_description(SAYS + ", ".join(NAMES))
        editor.open("Feeling")
        expect(editor.root.get_by_role("group", name="Feeling")).to_have_accessible_description(SAYS + ", ".join(NAMES))
        editor.open("Faces")
        expect(editor.root.locator(".fx-face").first).to_have_css("opacity", "0.4")
        keep_picture(editor.page, f"editor {renderer} all by links")
    editor.open("Mine")
    for name in ("Neutral", "gloom"):
        expect(editor.button(name)).to_be_enabled()


def test_the_note_pushes_nothing_out_of_its_place(editor: Editor) -> None:
    box = "document.querySelector('{}').getBoundingClientRect()".format
    height, room = f"{box('.fx-left')}.height", f"{box('.fx-tools')}.top - {box('.fx-linked')}.bottom"
    before = editor.page.evaluate(height)
    with ExitStack() as links:
        for name in NAMES:
            links.enter_context(editor.linked(name))
            expect(editor.note()).to_be_visible()
            assert editor.page.evaluate(height) == pytest.approx(before, abs=1)
            assert editor.page.evaluate(room) >= 0
        assert editor.page.evaluate("document.querySelector('.fx-head').clientHeight") > 100
    expect(editor.note()).to_have_text("")
    assert editor.page.evaluate(height) == pytest.approx(before, abs=1)


def test_a_face_for_the_second_place_is_not_taken_in_silence(editor: Editor) -> None:
    with editor.linked("second_expression"):
        editor.face("angry").click(modifiers=["Shift"])
        assert editor.values()["second_expression"] == "none"
        faces = editor.root.get_by_role("radiogroup")
        expect(faces).to_have_accessible_description(f"{SAYS}second_expression")
        expect(editor.face("angry")).to_be_enabled()
        editor.button("Second, to blend").click()
        expect(editor.face("angry")).to_be_disabled()


def test_undo_passes_over_what_a_link_holds_and_a_link_leaves_the_history_alone(editor: Editor) -> None:
    undo, redo = editor.button("undo"), editor.button("redo")
    editor.set(intensity=0.6)
    editor.face("sad").click()
    steps = [NEUTRAL | {"intensity": 0.6}, editor.values()]
    for strength in ("0.3", "0.4"):
        editor.slider("intensity").fill(strength)
        editor.slider("intensity").blur()
        steps.append(editor.values())
    with editor.linked("intensity"):
        undo.click()
        assert editor.values() == steps[-1] | {"expression": "neutral"}
        redo.click()
        assert editor.values() == steps[-1]
        expect(redo).to_be_disabled()
        undo.click()
    for step in steps[1:]:
        redo.click()
        assert editor.values() == step
    for step in reversed(steps[:-1]):
        undo.click()
        assert editor.values() == step


def test_undo_rests_where_a_link_holds_all_that_was_changed(editor: Editor) -> None:
    before = editor.values()
    editor.slider("intensity").fill("0.4")
    editor.slider("intensity").blur()
    with editor.linked("intensity"):
        expect(editor.button("undo")).to_be_disabled()
        editor.slider("second weight").focus()
        editor.page.keyboard.press("Control+z")
        assert editor.values() == before | {"intensity": 0.4}
    editor.button("undo").click()
    assert editor.values() == before


def test_undo_and_redo_hand_the_keyboard_to_each_other(editor: Editor) -> None:
    undo, redo = editor.button("undo"), editor.button("redo")
    editor.face("angry").click()
    editor.button("Neutral").click()
    press(editor, undo, undo)
    press(editor, undo, redo)
    press(editor, redo, redo)
    press(editor, redo, undo)


def test_an_expression_of_ones_own_keeps_the_keyboard_and_one_that_is_deleted_hands_it_on(editor: Editor) -> None:
    editor.open("Mine")
    for pressed, focused in (
        ("doom", "doom"),
        ("delete doom", "boom"),  # the next one
        ("delete boom", "gloom"),  # the one before
    ):
        press(editor, editor.button(pressed), editor.button(focused))
    press(editor, editor.button("delete gloom"), editor.root.get_by_role("textbox"))


def test_a_link_leaves_the_keyboard_in_the_editor(editor: Editor) -> None:
    slider = editor.slider
    tab = editor.root.get_by_role("tab", name="Feeling")
    for panel, control, names, nearest in (
        ("Faces", slider("intensity"), ["intensity"], editor.button("Neutral")),
        ("Faces", editor.face("neutral"), ["expression"], editor.button("Second, to blend")),
        ("Faces", editor.button("Neutral"), NAMES, editor.button("One side")),
        ("Feeling", slider(VALENCE), ["second_weight"], tab),  # the one that is open
        ("Muscles", slider("12 lip corners pulled up"), ["action_units"], editor.root.get_by_role("checkbox")),
        ("Mine", editor.button("gloom"), NAMES, editor.button("delete gloom")),
    ):
        editor.open(panel)
        control.focus()
        with ExitStack() as links:
            for name in names:
                links.enter_context(editor.linked(name))
            expect(nearest).to_be_focused()
            keeps_the_keyboard(editor)


def test_a_side_that_comes_level_with_the_other_stays_under_the_hand(editor: Editor) -> None:
    editor.set(action_units="L12:0.6+R12:0.65")
    editor.open("Muscles")
    left = editor.slider("12 lip corners pulled up, left")
    for written in ("AU12:0.65", "L12:0.7+R12:0.65"):
        left.press("ArrowRight")
        expect(left).to_be_focused()
        keeps_the_keyboard(editor)
        assert editor.values()["action_units"] == written
