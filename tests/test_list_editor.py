"""The expression editor where a list of expressions is asked, and where one is asked without a strength, in ComfyUI's own page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from editor import EDITOR, RENDERERS, SETTLE, Editor, keep_picture
from playwright.sync_api import Page, expect
from workflow_api import WORKFLOWS

from faceexpr_core import sheet
from faceexpr_core.expressions import EXPRESSIONS, blendshapes_of

ADD = """async ([type, nodes2]) => {
    await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', nodes2)
    for (const other of [...app.graph.nodes]) app.graph.remove(other) // clear() would have newer pages give their values to the next
    app.canvas.ds.scale = 0.9
    app.canvas.ds.offset = [260, 60]
    globalThis.node = LiteGraph.createNode(type)
    node.pos = [100, 20]
    app.graph.add(node)
}"""
VALUE = "name => node.widgets.find(widget => widget.name === name).value"
SET = "([name, value]) => { const w = node.widgets.find(w => w.name === name); w.value = value; w.callback?.(value) }"
TRACKER = "app.extensionManager.workflow.activeWorkflow.changeTracker"
FACES_DRAWN = "[...document.querySelectorAll('.fx-face img')].every(face => face.src)"


@dataclass(frozen=True)
class ListEditor(Editor):
    def value(self, name: str = "expressions") -> Any:
        return self.page.evaluate(VALUE, name)

    def put(self, name: str, value: Any) -> None:
        self.page.evaluate(SET, [name, value])

    def tick(self, name: str) -> None:
        self.root.get_by_role("checkbox", name=name, exact=True).click()

    def listed(self) -> list[str]:
        return self.root.locator(".fx-list .fx-name").all_inner_texts()


@pytest.fixture(scope="module", params=RENDERERS)
def shown(request: pytest.FixtureRequest, opened: tuple[Page, list[str]]) -> ListEditor:
    page = opened[0]
    page.evaluate(ADD, ["FaceExprExpressionSheet", RENDERERS[request.param]])
    page.wait_for_function(EDITOR, timeout=60_000)
    editor = ListEditor(page, page.locator(".fx-editor"))
    editor.root.wait_for()
    page.wait_for_function(FACES_DRAWN, timeout=60_000)
    return editor


@pytest.fixture
def editor(shown: ListEditor) -> ListEditor:
    shown.put("intensities", "1.0")
    shown.put("expressions", "neutral, happy")
    shown.open("Faces")
    return shown


def test_faces_that_are_ticked_are_drawn_in_that_order(editor: ListEditor, request: pytest.FixtureRequest) -> None:
    editor.button("None").click()
    assert (editor.value(), editor.listed()) == ("", [])
    for name in ("sad", "angry", "happy"):
        editor.tick(name)
    assert editor.value() == "sad, angry, happy"
    assert sheet.parse_entries(editor.value()) == ("sad", "angry", "happy")
    assert editor.blendshapes() == pytest.approx(blendshapes_of("happy"))
    editor.tick("angry")
    assert editor.value() == "sad, happy"
    editor.button("All basic ones").click()
    assert editor.value() == sheet.ALL
    assert tuple(editor.listed()) == tuple(EXPRESSIONS) == sheet.parse_entries(editor.value())
    (queued,) = editor.page.evaluate("app.graphToPrompt()")["output"].values()
    assert queued["inputs"]["expressions"] == sheet.ALL
    keep_picture(editor.page, f"list {request.node.callspec.params['shown']}")


def test_the_order_is_changed_and_entries_are_taken_out(editor: ListEditor) -> None:
    editor.put("expressions", "neutral, happy, AU1+AU2")
    editor.button("later: neutral").click()
    assert editor.value() == "happy, neutral, AU1+AU2"
    expect(editor.button("later: neutral")).to_be_focused()
    editor.button("earlier: AU1+AU2").press("Enter")
    assert editor.value() == "happy, AU1+AU2, neutral"
    expect(editor.button("earlier: happy")).to_be_disabled()
    editor.button("take out happy").click()
    assert editor.value() == "AU1+AU2, neutral"
    editor.button("undo").click()
    assert editor.value() == "happy, AU1+AU2, neutral"


def test_the_keyboard_stays_in_the_list_where_its_button_goes_and_delete_spares_the_node(editor: ListEditor) -> None:
    editor.put("expressions", "neutral, happy, sad")
    editor.button("neutral").click()
    editor.page.evaluate("app.canvas.selectNode(node)")
    steps = (
        ("later: happy", "neutral, sad, happy", "happy"),  # to the end: there is no later any more
        ("earlier: sad", "sad, neutral, happy", "sad"),
        ("take out neutral", "sad, happy", "happy"),  # the next one
        ("take out happy", "sad", "sad"),  # the one before
        ("take out sad", "", "undo"),  # there is no face of one's own to add
    )
    for pressed, value, focused in steps:
        editor.button(pressed).press("Enter")
        assert editor.value() == value
        expect(editor.button(focused)).to_be_focused()
        editor.page.keyboard.press("Delete")
        assert editor.page.evaluate("app.graph.nodes.includes(node)"), pressed
    editor.open("Muscles")
    editor.slider("12 lip corners pulled up").fill("0.6")
    editor.put("expressions", "sad")
    editor.button("take out sad").press("Enter")
    expect(editor.button("Add")).to_be_focused()
    editor.open("Faces")
    editor.tick("sad")  # which the head shows then


def test_a_face_of_ones_own_is_pulled_and_added(editor: ListEditor) -> None:
    add = editor.button("Add")
    expect(add).to_be_disabled()
    editor.open("Muscles")
    editor.slider("12 lip corners pulled up").fill("0.6")
    assert editor.value() == "neutral, happy"
    add.click()
    assert editor.value() == "neutral, happy, AU12:0.6"
    expect(add).to_be_disabled()
    assert sheet.parse_entries(editor.value())[-1] == "AU12:0.6"
    before = editor.head()
    editor.pull(0.07, 0.27, 0, -0.25)
    assert abs(editor.head() - before).mean() > 0.1
    add.click()
    assert editor.listed()[-1] == "AU12:0.6+AU1"
    editor.button("happy").click()
    assert editor.blendshapes() == pytest.approx(blendshapes_of("happy"))


def test_add_undo_and_redo_hand_the_keyboard_on(editor: ListEditor) -> None:
    editor.button("neutral").click()
    editor.page.evaluate("app.canvas.selectNode(node)")
    editor.open("Muscles")
    editor.slider("6 raised cheeks").fill("0.6")
    for pressed, focused in (("Add", "AU6:0.6"), ("undo", "undo"), ("redo", "undo")):
        editor.button(pressed).press("Enter")
        expect(editor.button(focused)).to_be_focused()
        editor.page.evaluate(SETTLE)
        editor.page.keyboard.press("Delete")
        assert editor.page.evaluate("app.graph.nodes.includes(node)"), pressed
    assert editor.listed() == ["neutral", "happy", "AU6:0.6"]


def test_the_list_is_read_as_python_reads_it_and_nothing_of_it_is_lost(editor: ListEditor) -> None:
    for text in ("Happy;  sadly_angry\nR12:0.5, happy", "all", "sad, all", " contemptuous ,,AU4+AU9"):
        editor.put("expressions", text)
        assert tuple(editor.listed()) == sheet.parse_entries(text), text
    editor.put("expressions", "happy, hapy")
    assert editor.root.locator(".fx-wrong").all_inner_texts()[0].startswith("hapy")
    editor.tick("sad")
    assert editor.value() == "happy, hapy, sad"


def test_the_head_shows_the_strongest_of_the_intensities(editor: ListEditor) -> None:
    editor.button("happy").click()
    editor.put("intensities", "0.2, 0.5")
    assert editor.blendshapes() == pytest.approx({shape: 0.5 * weight for shape, weight in blendshapes_of("happy").items()})
    assert editor.words() == "happy 0.50"


def test_letters_typed_into_the_list_are_one_step_of_the_editor_and_none_of_the_page(editor: ListEditor) -> None:
    editor.tick("sad")
    before = editor.page.evaluate(f"{TRACKER}.undoQueue.length")
    text = editor.page.get_by_placeholder("expressions")
    text.press("Control+End")
    text.press_sequentially(", angry")
    assert editor.value() == "neutral, happy, sad, angry"
    assert editor.page.evaluate(f"{TRACKER}.undoQueue.length") == before
    for value in ("neutral, happy, sad", "neutral, happy"):
        editor.button("undo").click()
        assert editor.value() == value


def test_the_wheel_scrolls_what_is_longer_than_its_place_and_zooms_nothing(editor: ListEditor) -> None:
    long = "AU1+AU2+AU4+AU5+AU6+AU7+AU9+AU10"
    editor.put("expressions", f"{long}, all")
    editor.button(long).click()
    scale = editor.page.evaluate("app.canvas.ds.scale")
    for part in (".fx-list", ".fx-words", ".fx-panel:not([hidden])"):
        editor.root.locator(part).hover()
        editor.page.mouse.wheel(0, 40)
        editor.page.wait_for_function("part => document.querySelector(part).scrollTop > 0", arg=part)
    assert editor.page.evaluate("app.canvas.ds.scale") == scale


def test_a_list_that_comes_by_a_link_is_not_set_and_the_editor_says_so(editor: ListEditor) -> None:
    editor.button("take out happy").focus()
    editor.page.evaluate(
        """() => {
            const source = LiteGraph.createNode('PrimitiveString'); source.pos = [-300, 60]; app.graph.add(source)
            source.connect(0, node, node.inputs.findIndex(input => input.name === 'expressions'))
        }"""
    )
    expect(editor.root.get_by_role("checkbox", name="sad", exact=True)).to_be_disabled()
    expect(editor.button("take out happy")).to_be_disabled()
    expect(editor.button("happy")).to_be_focused()  # where the keyboard was in its row
    for name in ("Add", "All basic ones", "None", "undo"):
        expect(editor.button(name)).to_have_accessible_description("By a link, neither set nor shown here: expressions")
    expect(editor.note()).to_be_visible()
    editor.page.evaluate("node.disconnectInput(node.inputs.findIndex(input => input.name === 'expressions'))")
    expect(editor.button("take out happy")).to_be_enabled()
    editor.page.evaluate("app.graph.remove(app.graph.nodes.find(node => node.type === 'PrimitiveString'))")
    with editor.linked("intensities"):
        expect(editor.note()).to_have_text("By a link, neither set nor shown here: intensities")
        expect(editor.button("take out happy")).to_be_enabled()
    expect(editor.note()).to_have_text("")


def test_the_saved_node_holds_the_widgets_that_python_knows_and_nothing_else(editor: ListEditor) -> None:
    names = editor.page.evaluate("node.widgets.map(widget => widget.name)")
    assert names[-1] == "expression_editor"
    assert len(editor.page.evaluate("node.serialize().widgets_values")) == len(names) - 1


@pytest.mark.parametrize("renderer", RENDERERS)
def test_where_features_are_named_a_face_is_clicked(opened: tuple[Page, list[str]], renderer: str) -> None:
    page = opened[0]
    page.evaluate(ADD, ["FaceExprExtractExpressionFeatures", RENDERERS[renderer]])
    editor = ListEditor(page, page.locator(".fx-editor"))
    editor.button("▸ Set it on a face").click()
    page.wait_for_function(EDITOR, timeout=60_000)
    page.wait_for_function(FACES_DRAWN, timeout=60_000)
    assert editor.words() == "the whole face"
    expect(editor.root.get_by_role("tab")).to_have_text(["Faces"])
    editor.face("surprised").click()
    assert (editor.value("expression"), editor.words()) == ("surprised", "surprised")
    assert editor.blendshapes() == pytest.approx(blendshapes_of("surprised"))
    (queued,) = page.evaluate("app.graphToPrompt()")["output"].values()
    assert queued["inputs"]["expression"] == "surprised"
    keep_picture(page, f"extract's editor {renderer}")


def test_lists_that_are_loaded_leave_the_history_of_the_page_alone(opened: tuple[Page, list[str]]) -> None:
    page = opened[0]
    page.evaluate(ADD, ["FaceExprExpressionSheet", False])
    page.wait_for_function(EDITOR, timeout=60_000)
    editor = ListEditor(page, page.locator(".fx-editor"))
    editor.button("None").click()
    for name in ("sad", "angry"):
        editor.tick(name)
    page.evaluate("document.activeElement.blur()")
    for key, value in (("z", "sad"), ("z", ""), ("y", "sad"), ("y", "sad, angry")):
        page.keyboard.press(f"Control+{key}")
        page.wait_for_function(f"value => (globalThis.node = app.graph.nodes[0]) && ({VALUE})('expressions') === value", arg=value)
    unsaved = page.evaluate(f"globalThis.left = {TRACKER}; JSON.stringify([left.activeState, left.undoQueue])")
    page.evaluate("file => app.loadGraphData(file)", json.loads((WORKFLOWS / "faceexpr_mini_sheet.json").read_text()))
    assert page.evaluate(f"[{TRACKER} === left, JSON.stringify([left.activeState, left.undoQueue])]") == [False, unsaved]
