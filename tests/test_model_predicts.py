"""What a MODEL predicts is what its sampling says, whoever set it; Train FaceExpr LoRA learns by it, or refuses."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch
from comfy_process import ComfyError, ComfyProcess, copy_subject
from test_train_node import graph

from faceexpr_core.lora.files import read_lora

EPSILON = {"prediction": "epsilon", "zero_snr": False}
VELOCITY = {"prediction": "v_prediction", "zero_snr": False}
ZERO = {"prediction": "v_prediction", "zero_snr": True}


@pytest.fixture(scope="module")
def comfyui(comfy_modules) -> Iterator[SimpleNamespace]:
    host, read = pack.host(), pack.node("host.predictions")
    advanced = importlib.import_module("comfy_extras.nodes_model_advanced")
    errors = importlib.import_module("faceexpr_pack.faceexpr_core.errors")
    with torch.inference_mode():
        model, _, _ = host.load_mini()
        yield SimpleNamespace(
            model=model,
            read=lambda one: read.prediction_of(one, "Train"),
            told=read.told_prediction,
            set=lambda one, sampling, zsnr=False: advanced.ModelSamplingDiscrete().patch(one, sampling, zsnr)[0],
            edm=lambda one, kind: advanced.ModelSamplingContinuousEDM().patch(one, kind, 120.0, 0.002)[0],
            error=errors.FaceExprError,
        )


def test_a_model_is_read_by_the_sampling_on_it(comfyui) -> None:
    assert comfyui.read(comfyui.model) == EPSILON
    assert comfyui.read(comfyui.set(comfyui.model, "v_prediction")) == VELOCITY
    zero = comfyui.set(comfyui.model, "v_prediction", True)
    assert comfyui.read(zero) == ZERO
    assert comfyui.read(comfyui.set(zero, "eps")) == EPSILON  # the last word counts
    assert comfyui.read(comfyui.model) == EPSILON  # and the MODEL that came in has stayed as it was


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda one: one.set(one.model, "lcm"), "LCM"),
        (lambda one: one.set(one.model, "x0"), "X0"),
        (lambda one: one.set(one.model, "img_to_img"), "IMG_TO_IMG"),
        (lambda one: one.set(one.model, "eps", True), "EPS.* with zero SNR"),
        (lambda one: one.edm(one.model, "v_prediction"), "V_PREDICTION"),
        (lambda one: one.edm(one.model, "edm_playground_v2.5"), "EDM"),
    ],
    ids=["lcm", "x0", "img_to_img", "eps zsnr", "edm v", "edm"],
)
def test_a_sampling_for_which_there_is_no_loss_is_refused_by_name(comfyui, made: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(comfyui.error, match=f"Train got a MODEL that is sampled as .*{said}"):
        comfyui.read(made(comfyui))


def test_what_the_user_says_has_the_last_word(comfyui) -> None:
    for says, expected in (("v_prediction, zero SNR", ZERO), ("v_prediction", VELOCITY), ("epsilon", EPSILON)):
        assert comfyui.read(comfyui.told(comfyui.set(comfyui.model, "v_prediction", True), says)) == expected
    assert comfyui.told(comfyui.model, "as the MODEL says") is comfyui.model


@pytest.mark.long
def test_in_a_graph_the_node_or_the_widget_makes_the_training_one_of_velocity(comfy: ComfyProcess) -> None:
    folder = copy_subject(comfy.input_dir)
    asked: dict[str, Any] = {"steps": 1, "rank": 2, "more": "convolutions=off"}

    def trained(name: str, sampling: str = "", **more: Any) -> tuple[list[float], str]:
        made = graph(folder, lora_name=name, **asked, **more)
        if sampling:
            given = {"model": ["mini", 0], "sampling": sampling, "zsnr": sampling == "v_prediction"}
            made["sampling"] = {"class_type": "ModelSamplingDiscrete", "inputs": given}
            made["train"]["inputs"]["model"] = ["sampling", 0]
        comfy.run(made)
        metadata = read_lora(comfy.lora_dir / f"{name}.safetensors")[1]
        assert json.loads(metadata["faceexpr.settings"])["zero_snr"] == (metadata["modelspec.prediction_type"] == "v")
        return json.loads(metadata["faceexpr.losses"]), metadata["modelspec.prediction_type"]

    plain, by_node = trained("plain"), trained("by_node", "v_prediction")
    by_widget = trained("by_widget", model_predicts="v_prediction, zero SNR")
    assert plain[1] == "epsilon" and by_node[1] == by_widget[1] == "v"
    assert by_node[0] == pytest.approx(by_widget[0], rel=1e-5) and by_node[0] != pytest.approx(plain[0], rel=1e-2)
    with pytest.raises(ComfyError, match=r"is sampled as .*LCM"):
        trained("refused", "lcm")
    assert not Path(comfy.lora_dir / "refused.safetensors").exists()
