"""The expression editor in ComfyUI's own page, driven by mouse and keyboard on the classic canvas and as a Nodes 2.0 node."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from comfy_process import REPOSITORY, ComfyProcess
from editor import EDITOR, NEUTRAL, RENDERERS, SETTLE, Editor, add_editor, keep_picture
from playwright.sync_api import Page, expect
from workflow_api import WORKFLOWS

from faceexpr_core.expressions import ACTION_UNITS, action_unit, blendshapes_of, names, parse_unit_strengths
from faceexpr_core.text import MAX_WEIGHT

RENEW = "(globalThis.node = app.graph.nodes.find(node => node.type === 'FaceExprExpressionTextEncode'))"
UNDO, REDO = "Control+z", "Control+Shift+z"
ADD_BLUEPRINT = "({nodes, definitions: {subgraphs}}) => { app.canvas._deserializeItems({nodes, subgraphs}, {position: [0, 900]}) }"
PRESETS = "FaceExpr.ExpressionPresets"
BROW = (0.07, 0.27)  # the person's left inner brow: right of the middle, from the top, in heights of the head's canvas
CORNER = (-0.10, 0.655)  # the right corner of the mouth


@pytest.fixture(scope="module", params=RENDERERS)
def shown(request: pytest.FixtureRequest, opened: tuple[Page, list[str]]) -> Editor:
    return add_editor(opened[0], request.param)


@pytest.fixture
def editor(shown: Editor) -> Editor:
    shown.set()
    shown.page.evaluate("node.widgets.at(-1).editor && document.activeElement?.blur?.()")
    shown.open("Faces")
    return shown


@pytest.fixture
def second(editor: Editor) -> Iterator[Editor]:
    """The editor of another node; `editor.root.first` is the first one's as long as it is there."""
    page = editor.page
    page.evaluate("globalThis.other = LiteGraph.createNode(node.type); other.pos = [720, 50]; app.graph.add(other)")
    page.wait_for_function(f"{EDITOR.replace('node.', 'other.')}?.root.isConnected")
    yield Editor(page, editor.root.nth(1))
    page.evaluate("app.graph.remove(other); delete globalThis.other")
    expect(editor.root).to_have_count(1)


def asked(values: dict[str, Any]) -> dict[str, float]:
    """Blendshape weights as Python has them: expressions and units add up, among the units the strongest counts."""
    total: dict[str, float] = {}
    units: dict[str, float] = {}
    for unit, strength in parse_unit_strengths(values["action_units"]):
        for shape, weight in unit.blendshapes.items():
            units[shape] = max(units.get(shape, 0.0), strength * weight)
    parts = [(units, values["intensity"])]
    parts += [
        (blendshapes_of(name), weight)
        for name, weight in ((values["expression"], values["intensity"]), (values["second_expression"], values["second_weight"]))
        if name != "none"
    ]
    for shapes, strength in parts:
        for shape, weight in shapes.items():
            total[shape] = total.get(shape, 0.0) + strength * weight
    return {shape: min(weight, MAX_WEIGHT) for shape, weight in total.items() if weight}


def units(editor: Editor) -> dict[str, float]:
    return {unit.code: strength for unit, strength in parse_unit_strengths(editor.values()["action_units"])}


def reopen(editor: Editor) -> None:
    """Wait for the editor of a node that was loaded anew."""
    editor.page.wait_for_function(f"{RENEW} && {EDITOR} && document.querySelectorAll('.fx-head').length === 1", timeout=60_000)


def move_on_the_pad(editor: Editor, x: float, y: float) -> None:
    """Move the mouse to a place in fractions of the plane."""
    box = editor.root.locator(".fx-plane").bounding_box()
    assert box is not None
    editor.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)


def pull_on_the_pad(editor: Editor) -> None:
    move_on_the_pad(editor, 0.5, 0.5)
    editor.page.mouse.down()
    move_on_the_pad(editor, 0.8, 0.2)
    editor.page.mouse.up()


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def living_heads(page: Page) -> int:
    """How many heads' canvases something still holds, in the page or not."""
    session = page.context.new_cdp_session(page)
    kind = session.send("Runtime.evaluate", {"expression": "HTMLCanvasElement.prototype"})["result"]["objectId"]
    found = session.send("Runtime.queryObjects", {"prototypeObjectId": kind})["objects"]["objectId"]  # collects garbage first
    count = "function () { return this.filter(canvas => canvas.classList.contains('fx-head')).length }"
    answer = session.send("Runtime.callFunctionOn", {"objectId": found, "functionDeclaration": count, "returnByValue": True})
    session.detach()
    return int(answer["result"]["value"])


def test_the_head_moves_what_python_says_for_every_expression_and_unit(editor: Editor) -> None:
    codes = [f"{side}{number}" for number in ACTION_UNITS for side in ("", "L", "R")]
    for given in [{"expression": name} for name in names()] + [{"action_units": code} for code in codes]:
        editor.set(**given)
        assert editor.blendshapes() == pytest.approx(asked(NEUTRAL | given)), given


@pytest.mark.parametrize(
    "given",
    [
        {"expression": "happy", "intensity": 0.35},
        {"expression": "shocked", "intensity": 1.5, "second_expression": "surprised", "second_weight": 1.5},
        {"expression": "sadly angry", "second_expression": "happy", "second_weight": 0.4, "action_units": "AU12:0.3, r14 ; 6"},
        {"expression": "none", "intensity": 0.5, "action_units": "AU1:0.5+AU4+L12:0.25+12:0.5"},
    ],
)
def test_strengths_blends_and_units_add_up_as_in_python(editor: Editor, given: dict[str, Any]) -> None:
    editor.set(**given)
    assert editor.blendshapes() == pytest.approx(asked(NEUTRAL | given))


def test_every_expression_has_a_head_of_its_own(editor: Editor) -> None:
    heads = {}
    for name in names():
        editor.set(expression=name)
        heads[name] = editor.head()
    assert heads["neutral"][..., 3].mean() > 100  # there is a head
    apart = {(a, b): difference(heads[a], heads[b]) for a, b in itertools.combinations(heads, 2)}
    assert min(apart.values()) > 0.2, min(apart, key=lambda pair: apart[pair])
    assert min(value for pair, value in apart.items() if "neutral" in pair) > 0.8


def test_every_action_unit_is_seen_and_each_side_on_its_side(editor: Editor) -> None:
    rest = editor.head()
    middle = rest.shape[1] // 2
    for number in ACTION_UNITS:
        sided = dict(action_unit(f"L{number}").blendshapes) != dict(action_unit(f"R{number}").blendshapes)
        for side in ("L", "R") if sided else ("",):
            editor.set(action_units=f"{side}{number}")
            moved = np.abs(editor.head() - rest)
            assert moved.mean() > 0.05, (number, side)
            if all(shape.endswith(("Left", "Right")) for shape in action_unit(f"{side}{number}").blendshapes):
                own = moved[:, middle:] if side == "L" else moved[:, :middle]  # the person's left is on the picture's right
                assert own.sum() > 0.75 * moved.sum(), (number, side)


def test_a_click_on_a_face_sets_the_expression_that_is_queued(editor: Editor) -> None:
    editor.face("surprised").click()
    assert editor.values() == NEUTRAL | {"expression": "surprised"}
    expect(editor.face("surprised")).to_be_checked()
    (queued,) = editor.page.evaluate("app.graphToPrompt()")["output"].values()
    assert queued["inputs"] == {"prompt": "a photo of a woman, {expression}", **NEUTRAL, "expression": "surprised"}
    assert editor.words() == "surprised 1.00"


def test_a_second_expression_is_blended_in(editor: Editor) -> None:
    editor.face("happy").click()
    editor.button("Second, to blend").click()
    editor.face("sad").click()
    editor.button("Expression").click()
    editor.face("angry").click(modifiers=["Shift"])
    assert editor.values() == NEUTRAL | {"expression": "happy", "second_expression": "angry"}
    editor.slider("second weight").fill("0.8")
    assert editor.values()["second_weight"] == 0.8
    assert editor.words() == "happy 1.00, angry 0.80"


def test_the_keyboard_reaches_faces_strength_and_panels(editor: Editor) -> None:
    keyboard = editor.page.keyboard
    editor.face("neutral").focus()
    keyboard.press("ArrowRight")
    expect(editor.face("happy")).to_be_focused()
    assert editor.values() == NEUTRAL | {"expression": "happy"}
    editor.slider("intensity").focus()
    keyboard.press("ArrowLeft")
    assert editor.values()["intensity"] == pytest.approx(0.95)
    editor.root.get_by_role("tab", name="Faces").focus()
    keyboard.press("ArrowRight")
    expect(editor.slider("valence (unpleasant to pleasant)")).to_be_visible()
    keyboard.press("End")
    expect(editor.root.get_by_role("textbox")).to_be_visible()
    keyboard.press("Delete")  # elsewhere on the page it deletes the selected node
    assert editor.page.evaluate("app.graph.nodes.length") == 1


def test_a_pull_at_the_brow_raises_it_and_one_side_alone_with_shift(editor: Editor) -> None:
    editor.pull(*BROW, 0, -0.125)
    assert units(editor) == {"1": pytest.approx(0.5, abs=0.05)}
    editor.set()
    editor.page.keyboard.down("Shift")
    editor.pull(*CORNER, 0, -0.3)
    editor.page.keyboard.up("Shift")
    assert editor.values()["action_units"] == "R12"
    editor.button("One side").click()
    editor.pull(*CORNER, 0, 0.65)
    editor.button("One side").click()
    assert editor.values()["action_units"] == "R15"


def test_a_pull_at_the_corner_of_the_mouth_goes_both_ways(editor: Editor) -> None:
    editor.pull(*CORNER, -0.3, -0.25)
    assert editor.values()["action_units"] == "AU12+AU20"
    editor.set()
    editor.pull(*CORNER, 0.3, 0)
    assert editor.values()["action_units"] == "AU14"


def test_a_pull_beside_the_face_turns_the_head_and_changes_no_value(editor: Editor) -> None:
    before = editor.head()
    editor.pull(0.3, 0.15, 0.3, 0.0)
    assert editor.values() == NEUTRAL
    assert difference(editor.head(), before) > 2
    editor.root.locator(".fx-head").dblclick(position={"x": 5, "y": 5})
    assert difference(editor.head(), before) < 0.1


def test_the_pad_blends_the_words_beside_the_point(editor: Editor) -> None:
    editor.open("Feeling")
    plane = editor.root.locator(".fx-plane")
    box = plane.bounding_box()
    assert box is not None
    plane.click(position={"x": 0.8 * box["width"], "y": 0.2 * box["height"]})
    values = editor.values()
    assert {values["expression"], values["second_expression"]} == {"happy", "surprised"}
    assert values["intensity"] >= values["second_weight"] > 0.2
    plane.click(position={"x": 0.695 * box["width"], "y": 0.838 * box["height"]})  # calm
    assert editor.values()["expression"] == "neutral"
    editor.slider("valence (unpleasant to pleasant)").fill("-0.9")
    editor.slider("arousal (calm to excited)").fill("-0.5")
    assert editor.values()["expression"] == "sad"


def test_the_pad_takes_no_hand_and_no_key_while_something_that_it_sets_comes_by_a_link(editor: Editor) -> None:
    editor.open("Feeling")
    sliders = [editor.slider(label) for label in ("valence (unpleasant to pleasant)", "arousal (calm to excited)")]
    for name in ("expression", "intensity", "second_expression", "second_weight"):
        with editor.linked(name):
            pull_on_the_pad(editor)
            assert editor.values() == NEUTRAL, name
            for part in (editor.root.get_by_role("group", name="Feeling"), *sliders):
                expect(part).to_be_disabled()
            expect(editor.root.locator(".fx-plane")).to_have_css("cursor", "default")
        for part in (editor.root.get_by_role("group", name="Feeling"), *sliders):
            expect(part).to_be_enabled()
        expect(editor.root.locator(".fx-plane")).to_have_css("cursor", "crosshair")
        pull_on_the_pad(editor)
        assert {editor.values()["expression"], editor.values()["second_expression"]} == {"happy", "surprised"}, name
        editor.set()


def test_a_pull_on_the_pad_ends_where_a_link_comes(editor: Editor) -> None:
    editor.open("Feeling")
    move_on_the_pad(editor, 0.8, 0.2)
    editor.page.mouse.down()
    pulled = editor.values()
    with editor.linked("expression"):
        move_on_the_pad(editor, 0.2, 0.8)
        editor.page.mouse.up()
        assert editor.values() == pulled
        expect(editor.root.get_by_role("group", name="Feeling")).to_be_disabled()
    assert pulled["second_expression"] != "none"


def test_muscles_have_sliders_left_and_right_apart(editor: Editor) -> None:
    editor.open("Muscles")
    editor.slider("12 lip corners pulled up").fill("0.6")
    assert editor.values()["action_units"] == "AU12:0.6"
    editor.root.get_by_role("checkbox").check()
    editor.slider("12 lip corners pulled up, left").fill("0.2")
    assert units(editor) == {"L12": 0.2, "R12": 0.6}
    editor.slider("12 lip corners pulled up, left").fill("0.6")
    editor.root.get_by_role("checkbox").uncheck()
    assert editor.values()["action_units"] == "AU12:0.6"
    editor.slider("46 winking, right").fill("1")
    assert editor.values()["action_units"] == "AU12:0.6+R46"
    expect(editor.slider("1 raised inner brows, left")).to_have_count(0)  # its blendshape has no sides


def test_undo_and_redo_take_back_one_step_each_also_of_the_widgets_themselves(editor: Editor) -> None:
    editor.face("happy").click()
    editor.slider("intensity").fill("0.4")
    editor.slider("intensity").blur()
    editor.pull(*BROW, 0, -0.3)
    steps = [editor.values()]
    for _ in range(3):
        editor.button("undo").click()
        steps.append(editor.values())
    assert [(step["expression"], step["intensity"], step["action_units"]) for step in steps] == [
        ("happy", 0.4, "AU1"),
        ("happy", 0.4, ""),
        ("happy", 1, ""),
        ("neutral", 1, ""),
    ]
    editor.face("neutral").focus()
    editor.page.keyboard.press(REDO)
    assert editor.values() == steps[2]
    editor.page.keyboard.press(UNDO)
    assert editor.values() == steps[3]
    editor.page.evaluate("() => { const w = node.widgets.find(w => w.name === 'expression'); w.value = 'sad'; w.callback('sad') }")
    assert editor.words() == "sad 1.00"
    editor.button("undo").click()
    assert editor.values() == steps[3]


def test_an_expression_of_ones_own_is_kept_beyond_the_page_and_never_overwritten(editor: Editor, comfy: ComfyProcess) -> None:
    mine = {"expression": "happy", "intensity": 0.8, "action_units": "R12:0.5"}
    editor.set(**mine)
    editor.open("Mine")
    editor.root.get_by_role("textbox").fill("my smirk")
    editor.page.keyboard.press("Enter")
    expect(editor.button("my smirk")).to_be_visible()
    editor.set()
    editor.root.get_by_role("textbox").fill("my smirk")
    editor.button("Keep").click()
    expect(editor.root.get_by_text("is there already")).to_be_visible()
    editor.button("my smirk").click()
    assert editor.values() == NEUTRAL | mine
    assert b"my smirk" in comfy.get("/settings")
    editor.button("delete my smirk").click()
    expect(editor.button("my smirk")).to_have_count(0)


def test_what_could_not_be_kept_is_told_and_its_name_stays_to_be_tried_again(editor: Editor) -> None:
    """The page's own call is content with whatever the server answers."""
    editor.open("Mine")
    editor.page.route("**/settings/**", lambda route: route.fulfill(status=500) if route.request.method == "POST" else route.fallback())
    editor.root.get_by_role("textbox").fill("lost")
    editor.button("Keep").click()
    expect(editor.root.get_by_text("could not keep that")).to_be_visible()
    assert editor.root.get_by_role("textbox").input_value() == "lost"
    editor.page.unroute("**/settings/**")
    editor.page.evaluate("name => app.extensionManager.setting.set(name, [])", PRESETS)


def test_what_is_kept_elsewhere_meanwhile_stays_and_is_shown(editor: Editor, second: Editor, comfy: ComfyProcess) -> None:
    page, first = editor.page, Editor(editor.page, editor.root.first)
    for one in (first, second):
        one.open("Mine")
    values = NEUTRAL | {"expression": "sad"}
    comfy.post("/settings", {PRESETS: [{"name": "by another tab", "values": values}]})  # which this page has not read
    first.root.get_by_role("textbox").fill("by the first")
    page.keyboard.press("Enter")
    for one in (first, second):
        for name in ("by another tab", "by the first"):
            expect(one.button(name)).to_be_visible()
    first.root.get_by_role("textbox").fill("by the second")
    comfy.post("/settings", {PRESETS: [{"name": "by the second", "values": values}]})
    page.keyboard.press("Enter")
    expect(first.root.get_by_text("is there already")).to_be_visible()
    expect(second.button("by the second")).to_be_visible()
    second.open("Faces")
    page.evaluate("name => app.extensionManager.setting.set(name, [])", PRESETS)
    second.open("Mine")
    expect(second.button("by the second")).to_have_count(0)


def test_a_slider_let_go_where_it_was_leaves_the_editor_listening(editor: Editor) -> None:
    box = editor.slider("intensity").bounding_box()
    assert box is not None
    thumb, middle = box["x"] + 8 + (box["width"] - 16) / MAX_WEIGHT, box["y"] + box["height"] / 2
    mouse = editor.page.mouse
    mouse.move(thumb, middle)
    mouse.down()
    mouse.move(thumb - 20, middle)
    assert editor.values()["intensity"] < 1
    mouse.move(thumb, middle)
    mouse.up()
    assert editor.values() == NEUTRAL
    editor.set(expression="sad")
    assert editor.words() == "sad 1.00"


def test_units_that_cannot_be_read_are_said_and_left_alone(editor: Editor) -> None:
    editor.set(action_units="AU99")
    assert "cannot be read: AU99" in editor.words()
    editor.face("sad").click()
    assert editor.values()["action_units"] == "AU99"


def test_what_comes_by_a_link_is_not_set(editor: Editor) -> None:
    editor.page.evaluate(
        """() => {
            const source = LiteGraph.createNode('PrimitiveFloat'); source.pos = [-400, 100]; app.graph.add(source)
            source.connect(0, node, node.inputs.findIndex(input => input.name === 'intensity'))
        }"""
    )
    expect(editor.slider("intensity")).to_be_disabled()
    editor.face("happy").click()
    assert editor.values()["expression"] == "happy"
    editor.page.evaluate("node.disconnectInput(node.inputs.findIndex(input => input.name === 'intensity'))")
    expect(editor.slider("intensity")).to_be_enabled()
    editor.page.evaluate("app.graph.remove(app.graph.nodes.find(node => node.type === 'PrimitiveFloat'))")


def test_the_saved_node_holds_the_widgets_that_python_knows_and_nothing_else(editor: Editor) -> None:
    editor.set(expression="sad", action_units="AU1")
    saved = editor.page.evaluate("node.serialize()")
    assert saved["widgets_values"] == ["a photo of a woman, {expression}", "sad", 1, "none", 0.5, "AU1"]
    assert saved["properties"]["faceexpr_editor"] is True


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_words_stand_out_from_their_ground(editor: Editor, theme: str, request: pytest.FixtureRequest) -> None:
    editor.page.evaluate("theme => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme)
    editor.set(expression="happily surprised", second_expression="sad")
    for panel in ("Faces", "Feeling", "Muscles", "Mine")[: 1 if theme == "light" else 4]:
        editor.open(panel)
        editor.head()
        keep_picture(editor.page, f"editor {request.node.callspec.params['shown']} {theme} {panel}")
    contrast = editor.page.evaluate(
        """() => ['.fx-toggle', '.fx-tabs button:not([aria-selected=true])'].map(selector => {
            const style = getComputedStyle(document.querySelector(selector))
            const light = colour => {
                const [r, g, b] = colour.match(/[\\d.]+/g).map(value => (value / 255) ** 2.2)
                return .2126 * r + .7152 * g + .0722 * b
            }
            const [a, b] = [light(style.color), light(style.backgroundColor)].sort((a, b) => b - a)
            return (a + .05) / (b + .05)
        })"""
    )
    editor.page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")
    assert min(contrast) >= 4.5  # WCAG 2.1, 1.4.3


def test_the_pages_own_undo_takes_back_a_step_and_leaves_a_living_editor(editor: Editor) -> None:
    for name in ("happy", "sad"):
        editor.face(name).click()
    editor.page.evaluate("document.activeElement.blur()")
    editor.page.keyboard.press(UNDO)
    expect(editor.root.locator(".fx-words")).to_have_text("happy 1.00", timeout=30_000)
    reopen(editor)
    editor.face("angry").click()
    assert editor.values()["expression"] == "angry"


def test_a_node_of_an_older_file_keeps_its_size_and_opens_its_editor_when_asked(editor: Editor) -> None:
    editor.page.evaluate(
        """async () => {
            const file = app.graph.serialize()
            Object.assign(file.nodes[0], { size: [340, 320], properties: {} })
            await app.loadGraphData(file)
        }"""
    )
    editor.page.wait_for_function(f"{RENEW} && document.querySelectorAll('.fx-editor').length === 1")
    assert editor.page.evaluate("[node.size[0], node.properties.faceexpr_editor]") == [340, False]
    expect(editor.root.locator(".fx-body")).to_have_count(0)
    editor.button("▸ Set it on a face").click()
    reopen(editor)
    editor.face("fearful").click()
    assert editor.values()["expression"] == "fearful"
    editor.button("▾ Set it on a face").click()
    expect(editor.root.locator(".fx-body")).to_be_hidden()
    editor.button("▸ Set it on a face").click()
    expect(editor.root.locator(".fx-body")).to_be_visible()  # and stays open for the tests that follow


@pytest.mark.parametrize("shown", ["nodes 2.0"], indirect=True)
def test_a_node_in_a_subgraph_keeps_its_editor_off_the_node_of_the_same_number_outside(editor: Editor) -> None:
    page = editor.page
    page.evaluate("file => app.loadGraphData(file)", json.loads((WORKFLOWS / "faceexpr_mini_expression.json").read_text()))
    page.wait_for_function(f"(globalThis.node = app.graph.getNodeById(4)) && {EDITOR}?.root.isConnected", timeout=60_000)
    page.evaluate(ADD_BLUEPRINT, json.loads((REPOSITORY / "subgraphs" / "FaceExpr person with an expression.json").read_text()))
    page.evaluate(SETTLE)
    page.evaluate("globalThis.inner = app.graph.nodes.find(node => node.subgraph).subgraph.getNodeById(4)")
    outside = "node.widgets.find(widget => widget.name === 'expression').value"
    within = outside.replace("node.", "inner.", 1)
    assert page.evaluate("[node.id, node.type]") == page.evaluate("[inner.id, inner.type]")
    before = page.evaluate(within)
    editor.face("angry").click()
    assert page.evaluate(f"[{outside}, {within}]") == ["angry", before]
    page.evaluate("app.canvas.setGraph(inner.graph)")
    editor.button("▸ Set it on a face").click()
    page.wait_for_function(f"{EDITOR.replace('node.', 'inner.')}?.root.isConnected")
    editor.face("fearful").click()
    assert page.evaluate(f"[{outside}, {within}]") == ["angry", "fearful"]
    page.evaluate("app.canvas.setGraph(app.graph)")
    page.wait_for_function(f"{EDITOR}.root.isConnected")


@pytest.mark.parametrize("shown", ["canvas"], indirect=True)  # with Nodes 2.0 ComfyUI's page holds every removed node, of any pack
def test_the_editor_of_a_node_that_was_removed_is_let_go(editor: Editor) -> None:
    before = living_heads(editor.page)
    for _ in range(4):
        editor.page.evaluate("globalThis.other = LiteGraph.createNode(node.type); other.pos = [900, 50]; app.graph.add(other)")
        editor.page.wait_for_function(f"{EDITOR.replace('node.', 'other.')}?.root.isConnected")
        editor.page.evaluate("app.graph.remove(other); delete globalThis.other")
        editor.page.wait_for_function("document.querySelectorAll('.fx-head').length === 1")
    assert living_heads(editor.page) <= before + 1  # the page itself may hold the last
