"""What `make demo` asks of ComfyUI, and its sheet; the run itself is the demo."""

from __future__ import annotations

from typing import Any

import demo_graph
import demo_sheet
import numpy as np
import pytest

from faceexpr_core import mini
from faceexpr_core.text import MAX_WEIGHT

Inputs = dict[str, Any]


@pytest.fixture(scope="module")
def graph() -> dict[str, Inputs]:
    return demo_graph.drawing_graph("photos")


def sampler(graph: dict[str, Inputs], row: str, name: str) -> Inputs:
    """Inputs of the sampler of a picture."""
    inputs: Inputs = graph[graph[graph[f"{row} {name}"]["inputs"]["images"][0]]["inputs"]["samples"][0]]["inputs"]
    return inputs


def test_every_wire_of_the_graph_comes_from_a_node_of_it(graph: dict[str, Inputs]) -> None:
    wires = {value[0] for node in graph.values() for value in node["inputs"].values() if isinstance(value, list)}
    assert wires <= graph.keys()
    assert sum(node["class_type"] in ("FaceExprLoadMini", "FaceExprTrainLoRA") for node in graph.values()) == 2


def test_arms_differ_in_the_lora_and_in_fusion_alone(graph: dict[str, Inputs]) -> None:
    drawn = {arm: {name: sampler(graph, arm, name) for name in demo_graph.ROWS[arm]} for arm in demo_graph.ARMS}
    assert drawn["fusion"][demo_graph.NEUTRAL] == drawn["with_lora"][demo_graph.NEUTRAL]
    for name in demo_graph.EXPRESSIONS:
        without, learned, fused = (drawn[arm][name] for arm in ("without_lora", "with_lora", "fusion"))
        assert graph[without["model"][0]]["class_type"] == "FaceExprLoadMini"
        assert graph[learned["model"][0]]["class_type"] == "FaceExprTrainLoRA"
        assert {**without, "model": learned["model"]} == learned
        added = {key: value for key, value in fused.items() if key not in learned}
        assert {**learned, **added} == fused
        assert added == {"base_model": without["model"], "neutral": [learned["positive"][0], 1], "vae": [without["model"][0], 2]}
        assert fused["fusion_text"] == "neutral" and fused["fusion_strength"] == 1.0
        assert graph[learned["positive"][0]]["inputs"]["expression"] == name


def test_strips_ask_for_strengths_blends_and_single_units(graph: dict[str, Inputs]) -> None:
    asked = {row: [graph[sampler(graph, row, name)["positive"][0]]["inputs"] for name in names] for row, names in demo_graph.ROWS.items()}
    strengths = [one["intensity"] for one in asked["strength"]]
    assert strengths == sorted(set(strengths)) and strengths[0] == 0 and strengths[-1] == MAX_WEIGHT
    assert {one["expression"] for one in asked["strength"]} == {demo_graph.STRONGER}
    assert all(one["intensity"] + one["second_weight"] == pytest.approx(1) for one in asked["blend"])
    assert asked["blend"][0]["second_weight"] == 0 and asked["blend"][-1]["intensity"] == 0
    assert [one["action_units"] for one in asked["units"]] == list(demo_graph.UNITS)
    assert {one["expression"] for one in asked["units"]} == {"none"}
    unfused = [(row, name) for row in demo_graph.WORDS for name in demo_graph.ROWS[row] if "base_model" not in sampler(graph, row, name)]
    assert unfused == [("strength", "0")]  # nothing is asked, so there is nothing to fuse


def test_the_stranger_gives_an_expression_to_the_person(graph: dict[str, Inputs]) -> None:
    drawn, resting = sampler(graph, demo_graph.STRANGER, "person"), sampler(graph, "with_lora", demo_graph.NEUTRAL)
    fuse = graph[drawn["model"][0]]
    assert fuse["class_type"] == "FaceExprApplyAttentionFocusedFusion" and fuse["inputs"]["model"] == resting["model"]
    assert {**drawn, "model": resting["model"]} == resting
    extract = graph[fuse["inputs"]["features"][0]]["inputs"]
    taken = [graph[extract[name][0]]["inputs"] for name in ("photo", "neutral_photo")]
    assert [one["batch_index"] for one in taken] == [0, 1]
    assert {graph[one["image"][0]]["inputs"]["folder"] for one in taken} == {"example: another person"}
    assert [file.name for file in sorted(mini.donor_path().glob("*.jpg"))] == ["another_person_happy.jpg", "another_person_neutral.jpg"]
    same = ("seed", "steps", "cfg", "sampler_name", "scheduler", "latent_image")
    assert {key: extract[key] for key in same} == {key: drawn[key] for key in same}


def test_sheet_has_a_row_for_each_way_and_what_was_measured_under_it() -> None:
    shades = {row: 20 * (number + 1) for number, row in enumerate(demo_graph.ROWS)}
    pictures = {
        row: {name: np.full((128, 128, 3), shades[row], np.uint8) for name in names} for row, names in demo_graph.ROWS.items()
    }
    unknown = {"measured": None, "right": False, "identity": None}
    report = {
        "cells": [{"arm": arm, "asked": name, **unknown} for arm in demo_graph.ARMS for name in demo_graph.EXPRESSIONS],
        "strength": {"measured": [0.0] * len(demo_graph.STRENGTHS)},
        "blend": [{"asked": name, **unknown} for name in demo_graph.ROWS["blend"]],
        "units": [{"asked": name, "moved": ["12"]} for name in demo_graph.UNITS],
        demo_graph.STRANGER: unknown,
    }
    photo = np.zeros((128, 128, 3), np.uint8)
    sheet = np.asarray(demo_sheet.draw_sheet([photo] * 6, [photo, photo], pictures, report).convert("L"))
    row_height = demo_sheet.HEADING + demo_sheet.CELL + demo_sheet.LABELS
    lefts = [demo_sheet.MARGIN + column * (demo_sheet.CELL + demo_sheet.GAP) for column in range(demo_sheet.COLUMNS)]
    for number, (row, shade) in enumerate(shades.items(), start=1):
        top = demo_sheet.MARGIN + number * row_height + demo_sheet.HEADING
        seen = [bool((sheet[top : top + demo_sheet.CELL, left : left + demo_sheet.CELL] == shade).all()) for left in lefts]
        assert sum(seen) == (1 if row == demo_graph.STRANGER else demo_sheet.COLUMNS), row
        assert seen[-1] or row == demo_graph.STRANGER
        labels = sheet[top + demo_sheet.CELL : top + demo_sheet.CELL + demo_sheet.LABELS, lefts[0] : lefts[0] + demo_sheet.CELL]
        assert labels.min() < 150 < labels.max()
