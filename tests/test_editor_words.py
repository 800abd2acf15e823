"""The expression editor and the nodes in the page's language: every word has its translation, and a real page shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from browser import comfyui_page
from comfy_process import REPOSITORY, ComfyProcess
from editor import add_editor, keep_picture
from playwright.sync_api import Page, expect
from test_locales import LANGUAGES, words_of

from faceexpr_core.expressions import ACTION_UNITS, REGIONS, action_unit, names

pytestmark = pytest.mark.long

SOURCES = REPOSITORY / "page" / "src"
SAID = r"""\bsay\(\s*(['"`])((?:(?!\1).)+)\1"""
TITLE = "LiteGraph.registered_node_types.FaceExprExpressionTextEncode.title"
WIDGETS = {"intensity", "second weight", "expression", "second expression"}  # made from the widgets' names


def book(language: str) -> dict[str, str]:
    return dict(json.loads((SOURCES / f"words.{language}.json").read_text(encoding="utf-8")))


def said() -> set[str]:
    """All words that the editor says, in English."""
    sources = {path.name: path.read_text(encoding="utf-8") for path in SOURCES.glob("*.js")}
    written = {match[1] for text in sources.values() for match in re.findall(SAID, text)}
    handles = set(re.findall(r"\{ name: '([^']+)'", sources["regions.js"]))
    units = {action_unit(str(number)).phrase for number in ACTION_UNITS}
    return written | handles | units | set(REGIONS) | {*names(), "none", "calm"} | WIDGETS


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_the_editor_is_in_the_book(language: str) -> None:
    there = book(language)
    assert said() - set(there) == set(), f"page/src/words.{language}.json lacks these"
    assert set(there) - said() == set(), f"page/src/words.{language}.json has these, which nobody says"
    for english, words in there.items():
        assert re.search(LANGUAGES[language], words), english
        assert sorted(re.findall(r"\{\d\}", english)) == sorted(re.findall(r"\{\d\}", words)), english


@pytest.mark.parametrize("language", LANGUAGES)
def test_help_pages_call_the_editors_panels_as_the_editor_does(language: str) -> None:
    page = (REPOSITORY / "web" / "docs" / "FaceExprExpressionTextEncode" / f"{language}.md").read_text(encoding="utf-8")
    for name in ("Set it on a face", "Feeling", "Muscles", "Mine"):
        assert f"*{book(language)[name]}*" in page, name


@pytest.fixture(params=LANGUAGES)
def spoken(comfy: ComfyProcess, request: pytest.FixtureRequest) -> Iterator[tuple[Page, list[str], str]]:
    """The page opened in a language. One that changes it loads its graph anew at some later time, and a test's node is lost."""
    comfy.post("/settings", {"Comfy.Locale": request.param})
    with comfyui_page(comfy) as (page, errors):
        yield page, errors, request.param
    comfy.post("/settings", {"Comfy.Locale": "en"})


def test_the_page_shows_node_and_editor_in_its_language(spoken: tuple[Page, list[str], str]) -> None:
    page, errors, language = spoken
    words, said = words_of(language)["FaceExprExpressionTextEncode"], book(language)
    page.wait_for_function(f"{TITLE} === {json.dumps(words['display_name'])}", timeout=60_000)
    editor = add_editor(page, "nodes 2.0")
    labels = dict(
        page.evaluate("node.widgets.filter(widget => widget.name in node.constructor.nodeData.inputs).map(one => [one.name, one.label])")
    )
    assert labels == {name: words["inputs"][name]["name"] for name in words["inputs"] if name != "clip"}
    outputs = page.evaluate("node.outputs.map(output => output.localized_name)")
    assert outputs == [output["name"] for output in words["outputs"].values()]
    editor.set(expression="surprised", action_units="R12:0.5")
    smile = said["{0} on the right side"].replace("{0}", said["lip corners pulled up"])
    assert editor.words() == f"{said['surprised']} 1.00, {smile} 0.50"
    expect(editor.root.get_by_role("tab")).to_have_text([said[name] for name in ("Faces", "Feeling", "Muscles", "Mine")])
    editor.face(said["angry"]).click()
    assert editor.values()["expression"] == "angry"  # what is saved and queued stays English
    with editor.linked("second_weight"):
        expect(editor.note()).to_have_text(said["By a link, neither set nor shown here: {0}"].replace("{0}", labels["second_weight"]))
        keep_picture(page, f"editor_{language}")
    assert errors == []
