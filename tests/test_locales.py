"""The nodes' words in every language: complete, nothing left over, saying the same numbers, and served by a real ComfyUI."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_process import REPOSITORY, ComfyProcess
from locales_en import LOCALES, node_words, plain

DOCS = REPOSITORY / "web" / "docs"
LANGUAGES = {"zh": r"[一-鿿]", "ja": r"[぀-ヿ一-鿿]", "ko": r"[가-힣]"}
NUMBER, CODE, HEADING, PICTURE, ROW = r"\d+(?:\.\d+)?", r"`[^`]+`", r"(?m)^#+ ", r"!\[[^]]*\]\(([^)]+)\)", r"(?m)^\|(?!-)"
NAMES = {"alpha", "cfg", "CLIP", "EMA", "Latent", "min-SNR gamma", "VAE"}
"""What stays as it is in other languages, as ComfyUI's own translations have it."""


def words_of(language: str) -> dict[str, Any]:
    return dict(json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8")))


def flat(words: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """`FaceExprSampler.inputs.seed.tooltip` and its text."""
    for key, value in words.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        else:
            yield path + key, value


def differences(english: Any, other: Any) -> str:
    """What has to be done to make `other` complete; empty if it is."""
    wanted, there = dict(flat(english)), dict(flat(other))
    missing = [f"missing: {key} ({wanted[key]})" for key in wanted if key not in there]
    return "\n".join([*missing, *(f"left over: {key}" for key in there if key not in wanted)])


@pytest.fixture(scope="module")
def english(comfy: ComfyProcess) -> dict[str, Any]:
    return node_words(comfy.object_info())


def test_the_english_words_are_the_nodes_own(english: dict[str, Any]) -> None:
    assert differences(english, words_of("en")) == "", "run `make locales`"
    changed = [key for (key, new), (_, old) in zip(flat(english), flat(words_of("en")), strict=True) if new != old]
    assert changed == [], "run `make locales`, and say the same in the other languages"


def test_an_input_is_called_as_its_node_shows_it(english: dict[str, Any]) -> None:
    """What a language says stands in place of the node's own name of an input."""
    assert english["FaceExprExtractExpressionFeatures"]["inputs"]["photo_neutral"]["name"] == "if no neutral photo"
    assert english["FaceExprExtractExpressionFeatures"]["inputs"]["photo"]["name"] == "photo"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_and_output_has_its_words(language: str, english: dict[str, Any]) -> None:
    told = differences(english, words_of(language))
    assert told == "", f"locales/{language}/nodeDefs.json\n{told}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_words_are_left_in_english_and_all_say_the_same_numbers(language: str) -> None:
    english = dict(flat(words_of("en")))
    for key, message in flat(words_of(language)):
        text = plain(message)
        assert bool(text) == bool(english[key]), key
        assert not text or text in NAMES or re.search(LANGUAGES[language], text), f"{language}: {key} is in English: {text}"
        same = Counter(re.findall(NUMBER, text)) == Counter(re.findall(NUMBER, plain(english[key])))
        assert same, f"{language}: {key} says other numbers than English:\n{text}\n{plain(english[key])}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_help_pages_have_the_same_parts_code_and_numbers_as_the_english_ones(language: str, english: dict[str, Any]) -> None:
    folders = {path.parent.name for path in DOCS.glob(f"*/{language}.md")}
    assert folders == set(english), f"web/docs/<node>/{language}.md: missing or left over {sorted(folders ^ set(english))}"
    for node in english:
        page, own = ((DOCS / name).read_text(encoding="utf-8") for name in (f"{node}.md", f"{node}/{language}.md"))
        for what in (HEADING, PICTURE, ROW, CODE, NUMBER):
            one, other = Counter(re.findall(what, page)), Counter(re.findall(what, own))
            told = f"of {what} are missing {dict(one - other)}, too many {dict(other - one)}"
            assert one == other, f"web/docs/{node}/{language}.md: {told}"
        assert re.match(rf"# {re.escape(plain(words_of(language)[node]['display_name']))}\n", own), f"{node}/{language}.md: its title"


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_help_pages_name_every_input_and_output_as_the_node_does(language: str, english: dict[str, Any]) -> None:
    unnamed = []
    for node, words in words_of(language).items():
        page = (DOCS / (f"{node}.md" if language == "en" else f"{node}/{language}.md")).read_text(encoding="utf-8")
        slots = {**words.get("inputs", {}), **words["outputs"]}
        unnamed += [f"{node}: {slot['name']}" for slot in slots.values() if plain(slot["name"]) not in page]
    assert unnamed == []


def test_comfyui_serves_the_words_and_the_help_pages(comfy: ComfyProcess) -> None:
    served = json.loads(comfy.get("/i18n"))
    for language in ("en", *LANGUAGES):
        ours = words_of(language)
        assert {name: served[language]["nodeDefs"][name] for name in ours} == ours
    for language in LANGUAGES:
        page = comfy.get(f"/extensions/faceexpr/docs/FaceExprSampler/{language}.md").decode()
        assert page == (DOCS / "FaceExprSampler" / f"{language}.md").read_text(encoding="utf-8")


def test_an_incomplete_language_is_told_by_what_is_missing() -> None:
    english = {"Node": {"display_name": "Node", "inputs": {"seed": {"name": "seed", "tooltip": "The seed."}}}}
    other = {"Node": {"display_name": "X", "inputs": {"seed": {"name": "X"}, "old": {"name": "X"}}}}
    assert differences(english, other) == "missing: Node.inputs.seed.tooltip (The seed.)\nleft over: Node.inputs.old.name"


def test_braces_are_written_as_the_page_reads_them() -> None:
    assert plain("a {'{'}b{'}'} {'@'}") == "a {b} @"
    with pytest.raises(ValueError, match="as it is"):
        plain("where {expression} stands")
