"""What the expression editor's files say is what Python says, and the bundle is as new as its sources."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from comfy_process import REPOSITORY

from faceexpr_core.expressions import ACTION_UNITS, REGIONS
from lab.recipe.bake_head import vocabulary

WEB, PAGE = REPOSITORY / "web", REPOSITORY / "page"
MOST_BYTES = 1_500_000


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    data = (WEB / "head" / "head.bin").read_bytes()
    found = {}
    for entry in json.loads((WEB / "head" / "head.json").read_text())["arrays"]:
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(data, entry["type"], count, entry["offset"])
        found[entry["name"]] = values.reshape(entry["shape"]) * entry["scale"]
    return found


def test_the_pages_vocabulary_is_pythons() -> None:
    assert json.loads((WEB / "head" / "vocabulary.json").read_text()) == json.loads(json.dumps(vocabulary()))


def test_every_action_unit_lies_in_a_region() -> None:
    assert frozenset[int]().union(*REGIONS.values()) >= set(ACTION_UNITS)


def test_the_head_has_every_blendshape_of_the_vocabulary_and_each_moves_it(arrays: dict[str, Any]) -> None:
    shapes = {shape for entry in vocabulary()["action_units"].values() for shape in entry["blendshapes"]}
    assert shapes == {name.removesuffix(".moves") for name in arrays if name.endswith(".moves")}
    vertices = len(arrays["position"])
    assert arrays["triangles"].max() < vertices
    for shape in shapes:
        moved, moves = arrays[f"{shape}.vertices"], arrays[f"{shape}.moves"]
        assert len(moved) == len(moves) and moved.max() < vertices
        assert 0.002 < np.linalg.norm(moves, axis=1).max() < 0.08, shape  # metres


def test_left_and_right_are_the_persons_own(arrays: dict[str, Any]) -> None:
    for name in (name for name in arrays if name.endswith("Left.moves")):
        left, right = (arrays["position"][arrays[f"{shape}.vertices"].astype(int), 0] for shape in (name[:-6], name[:-10] + "Right"))
        weights = [np.linalg.norm(arrays[f"{shape}.moves"], axis=1) for shape in (name[:-6], name[:-10] + "Right")]
        assert np.average(left, weights=weights[0]) > 0 > np.average(right, weights=weights[1]), name


def test_what_the_page_loads_is_small() -> None:
    sizes = [path.stat().st_size for folder in ("head", "js") for path in (WEB / folder).iterdir()]
    assert sum(sizes) <= MOST_BYTES


def test_the_bundle_is_made_from_the_sources_that_are_here_and_nobody_wrote_in_it() -> None:
    sources = hashlib.sha256()
    for path in [PAGE / "build.js", PAGE / "package-lock.json", *sorted((PAGE / "src").iterdir(), key=lambda path: path.name)]:
        sources.update(path.read_bytes())
    first, second, third, body = (WEB / "js" / "expression_editor.js").read_text(encoding="utf-8").split("\n", 3)
    assert first.startswith("// Made by `make page`")
    assert second == f"// sources: {sources.hexdigest()}", "run `make page`"
    assert third == f"// what follows: {hashlib.sha256(body.encode()).hexdigest()}", "change page/src, and run `make page`"


def test_nothing_is_fetched_from_elsewhere() -> None:
    assert "resolved" not in (PAGE / "package-lock.json").read_text()
    lines = (WEB / "js" / "expression_editor.js").read_text().splitlines()
    assert [line for line in lines if "://" in line and not line.lstrip().startswith(("//", "*"))] == []
