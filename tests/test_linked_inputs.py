"""Inputs that come by a link: ComfyUI validates and fingerprints a node before it knows their values, and hands lists to nodes that ask."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch

CHECKS = ("validate_inputs", "fingerprint_inputs")


@pytest.fixture(scope="module")
def nodes(comfy_modules: SimpleNamespace) -> list[Any]:
    given: list[Any] = asyncio.run(importlib.import_module("faceexpr_pack.nodes").FaceExprExtension().get_node_list())
    return given


def test_what_is_not_known_yet_is_neither_refused_nor_read(nodes: list[Any]) -> None:
    checked = []
    for node in nodes:
        unknown = (None,) if node.define_schema().is_input_list else None
        for check in CHECKS:
            if any(check in vars(one) for one in node.__mro__ if one.__module__.startswith("faceexpr_pack")):
                names = [name for name, one in inspect.signature(getattr(node, check)).parameters.items() if one.kind != one.VAR_KEYWORD]
                told = getattr(node, check)(**dict.fromkeys(names, unknown))
                assert check != "validate_inputs" or told is True, (node, told)
                checked.append((node.__name__, check))
    assert {("Score", "validate_inputs"), ("LoadSubjectImages", "fingerprint_inputs"), ("LoadFeatures", "validate_inputs")} <= {*checked}


def test_a_file_that_was_fetched_makes_the_nodes_run_again_that_made_do_without(
    comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models = pack.node("host.folders").models
    photos = pack.node("load_subject_images").LoadSubjectImages
    extract = pack.node("extract_expression_features").ExtractExpressionFeatures
    told = {}
    for name, folder in (("there", None), ("missing", tmp_path)):
        if folder is not None:
            monkeypatch.setattr(models, "search_path", lambda folders: [tmp_path])
        told[name] = photos.fingerprint_inputs(folder=["none"]), extract.fingerprint_inputs(cfg=1.0)
    assert all(one != other for one, other in zip(told["there"], told["missing"], strict=True))
    assert "sface is missing" in told["missing"][0] and told["there"][1] == ""


def test_what_is_written_into_pictures_does_not_say_where_files_lie(comfy_modules: SimpleNamespace) -> None:
    folder = Path(comfy_modules.folder_paths.get_input_directory()) / "anna"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"1")
    photos, features = pack.node("load_subject_images").LoadSubjectImages, pack.node("load_features").LoadFeatures
    before = photos.fingerprint_inputs(folder=["anna"])
    (folder / "a.txt").write_text("ohwx woman")
    assert photos.fingerprint_inputs(folder=["anna"]) != before
    assert str(comfy_modules.home) not in f"{before} {features.fingerprint_inputs('smiles')}"


def test_score_judges_each_picture_by_its_own_of_a_list_or_says_that_they_do_not_fit(comfy_modules: SimpleNamespace) -> None:
    score = pack.node("score")
    batches = [torch.zeros(2, 8, 8, 3), torch.zeros(1, 8, 8, 3)]
    assert score._each("intensity", [0.5], batches) == [0.5] * 3
    assert score._each("intensity", [0.5, 1.0], batches) == [0.5, 0.5, 1.0]
    assert score._each("intensity", [0.5, 1.0, 1.5], batches) == [0.5, 1.0, 1.5]
    with pytest.raises(comfy_modules.core.errors.FaceExprError, match="4 values of 'intensity' came with 3 pictures"):
        score._each("intensity", [0.1, 0.2, 0.3, 0.4], batches)
    with pytest.raises(comfy_modules.core.errors.FaceExprError, match="2 different values of 'best_k'"):
        score._one("best_k", [1, 2])
    assert score.Score.validate_inputs(action_units=["AU1", "AU999"]) is not True
