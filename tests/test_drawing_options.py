"""Every option of the commands that draw reaches the picture, and a picture without metadata says nothing. All draw with one Mini."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from random_lora import write_lora
from sources import CHANGED, DRAWN, digital_source

from faceexpr_core import mini
from faceexpr_core.commands.cli import main
from faceexpr_core.faces import change as faces
from faceexpr_core.faces.images import read_rgb
from faceexpr_core.fusion.recorder import load_bank
from faceexpr_core.provenance import XMP_KEY

pytestmark = pytest.mark.usefixtures("loaded_once")
SIDE = 64
SMALL = ("--width", str(SIDE), "--height", str(SIDE), "--steps", "1")
OTHER = "a photo of an old woman"
Picture = NDArray[np.int16]
Words = tuple[str, ...]


def drawn(folder: Path, verb: str, *more: str) -> list[Path]:
    """The pictures of a command whose folder is new."""
    assert main([verb, "--model", "mini", "--device", "cpu", "--output_dir", str(folder), *more]) == 0
    return sorted(folder.glob("*.png"))


def pixels(path: Path) -> Picture:
    return np.asarray(Image.open(path).convert("RGB")).astype(np.int16)


def each(folder: Path, verb: str, common: Words, cases: dict[str, Words]) -> dict[str, Picture]:
    """A picture of each case, with what is `common` to all before its own options."""
    found = {}
    for number, (name, more) in enumerate(cases.items()):
        (path,) = drawn(folder / str(number), verb, *common, *more)
        found[name] = pixels(path)
    return found


def same(pictures: dict[str, Picture]) -> list[tuple[str, str]]:
    """Which of them are equal."""
    return [(one, other) for one, other in combinations(pictures, 2) if np.array_equal(pictures[one], pictures[other])]


def apart(one: Picture, other: Picture) -> float:
    return float(np.abs(one - other).mean())


def test_each_option_of_generate_draws_another_picture(tmp_path: Path) -> None:
    sad = ("--second_expression", "sad")
    cases: dict[str, Words] = {
        "plain": (),
        "negative": ("--negative", OTHER),
        "intensity": ("--intensity", "0.3"),
        "second expression": sad,
        "its weight": (*sad, "--second_weight", "1.2"),
        "action units": ("--action_units", "AU4"),
        "scale": ("--expression_scale", "2"),
        "prompt": ("--prompt", OTHER),
        "guidance": ("--cfg", "3"),
    }
    found = each(tmp_path, "generate", (*SMALL, "--expression", "happy"), cases)
    assert same(found) == []
    assert apart(found["second expression"], found["plain"]) < apart(found["its weight"], found["plain"])
    both = drawn(tmp_path / "two", "generate", *SMALL, "--expression", "happy", "--count", "2")
    assert len(both) == 2
    first, second = map(pixels, both)
    assert apart(first, found["plain"]) < 0.1 and apart(second, found["plain"]) > 10


@pytest.mark.long
def test_each_option_of_a_fusion_draws_another_picture(tmp_path: Path) -> None:
    common = (*SMALL, "--expression", "happy", "--fusion_strength", "2", "--fusion_window", "0", "1")
    cases: dict[str, Words] = {
        "plain": (),
        "strength": ("--fusion_strength", "1"),
        "layers": ("--fusion_layers", "encoder"),
        "text": ("--fusion_text", "expression"),
        "scale": ("--expression_scale", "2"),
        "donor's prompt": ("--donor_prompt", OTHER),
        "intensity": ("--intensity", "0.3"),
        "second expression": ("--second_expression", "sad"),
        "action units": ("--action_units", "AU4"),
        "site": ("--fusion_site", "cross_attention"),
        "mode": ("--fusion_site", "cross_attention", "--fusion_mode", "adain"),
    }
    found = each(tmp_path, "generate", common, cases)
    assert same(found) == []
    spoken = each(tmp_path / "spoken", "generate", common, {"scale": (*cases["scale"], *cases["text"])})
    assert np.array_equal(spoken["scale"], found["scale"])  # a text at rest has nothing to scale
    assert apart(found["mode"], found["site"]) > 1 < apart(found["donor's prompt"], found["plain"])
    two = each(tmp_path / "two", "generate", (*common, "--steps", "2"), {"whole": (), "none of it": ("--fusion_window", "0.97", "0.98")})
    assert same(two) == []


@pytest.mark.long
def test_each_option_of_extract_keeps_other_features(tmp_path: Path) -> None:
    sad = ("--second_expression", "sad")
    cases: dict[str, Words] = {
        "plain": (),
        "prompt": ("--prompt", OTHER),
        "negative": ("--negative", OTHER),
        "intensity": ("--intensity", "0.3"),
        "second expression": sad,
        "its weight": (*sad, "--second_weight", "1.2"),
        "action units": ("--action_units", "AU4"),
        "guidance": ("--cfg", "3"),
        "seed": ("--seed", "1"),
        "layers": ("--layers", "encoder"),
        "window": ("--window", "0.5", "0.8"),
        "levels": ("--levels", "1"),
    }
    size = ("--width", str(SIDE), "--height", str(SIDE), "--sigmas", "4", "1")
    found = {}
    for number, (name, more) in enumerate(cases.items()):
        (picture,) = drawn(tmp_path / str(number), "extract", *size, "--expression", "happy", "--site", "cross_attention", *more)
        bank = load_bank(picture.with_suffix(".safetensors"))
        found[name] = {key: value.numpy().tobytes() for key, value in bank.tokens.items()}
    assert [pair for pair in combinations(found, 2) if found[pair[0]] == found[pair[1]]] == []


@pytest.fixture(scope="module")
def her(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secret folder") / "her.png"
    Image.fromarray(read_rgb(mini.donor_path() / "another_person_neutral.jpg")).resize((200, 200)).save(path)
    return path


@pytest.fixture
def small_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces are drawn over at half Mini's size."""
    cut = faces.cut_face
    monkeypatch.setattr(faces, "cut_face", lambda picture, face, _: cut(picture, face, SIDE))


@pytest.mark.long
def test_each_option_of_change_draws_another_face(small_faces: None, her: Path, tmp_path: Path) -> None:
    lora = ("--lora", str(write_lora(tmp_path / "person.safetensors", spread=6.0)))
    sad = ("--second_expression", "sad")
    cases: dict[str, Words] = {
        "plain": (),
        "prompt": ("--prompt", OTHER),
        "intensity": ("--intensity", "0.3"),
        "second expression": sad,
        "its weight": (*sad, "--second_weight", "1.2"),
        "action units": ("--action_units", "AU4"),
        "shown": ("--shown", "happy"),
        "strength": ("--strength", "2"),
        "steps": ("--steps", "2"),
        "guidance": ("--cfg", "2"),
        "denoise": ("--denoise", "0.5"),
        "negative": ("--negative", OTHER),
        "person": lora,
        "half a person": (*lora, "--lora_strength", "0.5"),
    }
    common = ("--picture", str(her), "--expression", "surprised", "--steps", "1", "--strength", "4", "--cfg", "3")
    found = each(tmp_path / "made", "change", common, cases)
    given = pixels(her)
    assert same(found) == []
    weaker = [apart(found[name], given) for name in ("intensity", "strength")]
    assert max(weaker) < apart(found["plain"], given)


def settings(path: Path) -> dict[str, object]:
    return json.loads(Image.open(path).info["faceexpr"])


def test_a_picture_without_metadata_says_nothing_and_one_with_it_not_where_it_lay(small_faces: None, her: Path, tmp_path: Path) -> None:
    changing = ("--picture", str(her), "--expression", "surprised", "--steps", "1", "--strength", "4")
    commands: dict[str, tuple[Words, str]] = {"change": (changing, CHANGED), "extract": ((*SMALL, "--expression", "happy"), DRAWN)}
    for verb, (words, source) in commands.items():
        (said,) = drawn(tmp_path / verb, verb, *words)
        (silent,) = drawn(tmp_path / f"{verb} in silence", verb, *words, "--no_metadata")
        told = Image.open(said).info
        assert Image.open(silent).info == {} and {"faceexpr", XMP_KEY} <= told.keys()
        assert digital_source(said) == source
        assert np.array_equal(pixels(silent), pixels(said))
        assert not any(str(folder) in str(text) for text in told.values() for folder in (tmp_path, her.parent, her.parent.name))
    assert settings(tmp_path / "change" / "her_surprised_00001.png")["picture"] == "her.png"
