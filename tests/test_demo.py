"""What `make demo` asks of ComfyUI, and its sheet; the run itself is the demo."""

from __future__ import annotations

import json
from typing import Any

import demo
import demo_sheet
import numpy as np


def samplers() -> dict[str, dict[str, dict[str, Any]]]:
    """Inputs of the sampler of each picture: arm -> expression -> inputs."""
    graph = demo.drawing_graph(json.loads(demo.QUICK_START.read_text()), "photos")
    names = (demo.NEUTRAL, *demo.EXPRESSIONS)
    return {arm: {name: graph[graph[f"decode {arm} {name}"]["inputs"]["samples"][0]]["inputs"] for name in names} for arm in demo.ARMS}


def test_arms_differ_in_the_lora_and_in_fusion_alone() -> None:
    drawn = samplers()
    graph = demo.drawing_graph(json.loads(demo.QUICK_START.read_text()), "photos")
    assert drawn["fusion"][demo.NEUTRAL] == drawn["with_lora"][demo.NEUTRAL]
    for name in demo.EXPRESSIONS:
        without, learned, fused = (drawn[arm][name] for arm in ("without_lora", "with_lora", "fusion"))
        assert graph[without["model"][0]]["class_type"] == "FaceExprLoadMini"
        assert graph[learned["model"][0]]["class_type"] == "FaceExprTrainLoRA"
        assert {**without, "model": learned["model"]} == learned
        added = {key: value for key, value in fused.items() if key not in learned}
        assert {**learned, **added} == fused
        assert added == {"base_model": without["model"], "neutral": [learned["positive"][0], 1], "vae": [without["model"][0], 2]}
        assert fused["fusion_text"] == "neutral" and fused["fusion_strength"] == 1.0
        assert graph[learned["positive"][0]]["inputs"]["expression"] == name


def test_sheet_has_the_photos_and_a_row_an_arm() -> None:
    names = demo.EXPRESSIONS[:2]
    shades = {arm: 60 * (row + 1) for row, arm in enumerate(demo.ARMS)}
    pictures = {arm: {name: np.full((128, 128, 3), shade, np.uint8) for name in names} for arm, shade in shades.items()}
    cells = [{"arm": arm, "asked": name, "measured": None, "right": False, "identity": None} for arm in demo.ARMS for name in names]
    sheet = np.asarray(
        demo_sheet.draw_sheet([np.zeros((128, 128, 3), np.uint8)], pictures, {"cells": cells}, names, demo.ARMS).convert("L")
    )
    middle = demo_sheet.MARGIN + demo_sheet.CELL + demo_sheet.GAP + demo_sheet.CELL // 2
    column = sheet[:, middle]
    tops = [int(np.flatnonzero(column == shade)[0]) for shade in shades.values()]
    assert [int((column == shade).sum()) for shade in shades.values()] == [demo_sheet.CELL] * 3
    assert tops == sorted(tops)
    assert np.diff(tops).tolist() == [demo_sheet.HEADING + demo_sheet.CELL + demo_sheet.LABELS] * 2
