"""A MODEL that is sampled as a flow or by EDM: refused where its levels do not serve, and drawn by its own elsewhere."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch

from faceexpr_core import mini as files
from faceexpr_core.faces.images import read_rgb

PERSON = "a photo of a young man, black hair, blue background"
SIDE = files.RESOLUTION // 8
WORDS = {"prompt": "a photo of a person", "expression": "happy", "intensity": 1.0, "second_expression": "none", "second_weight": 0.5}


@pytest.fixture(scope="module")
def mini(comfy_modules: SimpleNamespace) -> Iterator[SimpleNamespace]:
    advanced = importlib.import_module("comfy_extras.nodes_model_advanced")
    with torch.inference_mode():
        given = pack.mini_asked_to_smile(PERSON)
        model = given["model"]
        yield SimpleNamespace(
            **given,
            sampled={
                "flow": advanced.ModelSamplingSD3().patch(model, 3.0)[0],
                "aura": advanced.ModelSamplingAuraFlow().patch_aura(model, 1.7)[0],
                **{kind: advanced.ModelSamplingDiscrete().patch(model, kind, False)[0] for kind in ("eps", "v_prediction", "lcm", "x0")},
                "zero": advanced.ModelSamplingDiscrete().patch(model, "v_prediction", True)[0],
                "edm": advanced.ModelSamplingContinuousEDM().patch(model, "edm_playground_v2.5", 120.0, 0.002)[0],
            },
            photo=torch.from_numpy(read_rgb(files.donor_path() / "another_person_happy.jpg")).float()[None] / 255,
            predictions=pack.node("host.predictions"),
            change=pack.node("change_expression").ChangeExpression.execute,
            extract=pack.node("extract_expression_features").ExtractExpressionFeatures.execute,
            apply=pack.node("apply_attention_focused_fusion").ApplyAttentionFocusedFusion.execute,
            draw=pack.node("sampler").Sampler.execute,
            injection=importlib.import_module("faceexpr_pack.faceexpr_core.fusion.injection"),
            settings=importlib.import_module("faceexpr_pack.faceexpr_core.fusion.settings"),
            error=comfy_modules.core.errors.FaceExprError,
        )


def sampling(mini: SimpleNamespace, kind: str) -> Any:
    return mini.sampled[kind].get_model_object("model_sampling")


@pytest.mark.parametrize("kind", ["eps", "v_prediction", "lcm", "x0", "zero"])
def test_where_noise_is_added_its_level_is_sigma_itself(mini: SimpleNamespace, kind: str) -> None:
    one = sampling(mini, kind)
    levels = [0.0, *torch.linspace(float(one.sigma_min), float(one.sigma_max), 7).tolist()]
    assert [mini.predictions.noise_level(one, sigma) for sigma in levels] == levels
    mini.predictions.require_added_noise(mini.sampled[kind], "Change Expression")


def test_where_the_picture_varies_by_half_there_is_twice_the_noise(mini: SimpleNamespace) -> None:
    """Playground v2.5: its window lay off by two."""
    one = sampling(mini, "edm")
    assert [mini.predictions.noise_level(one, sigma) for sigma in (0.0, 0.5, 3.0)] == [0.0, 1.0, 6.0]
    mini.predictions.require_added_noise(mini.sampled["edm"], "Change Expression")


@pytest.mark.parametrize("kind", ["flow", "aura"])
def test_a_flows_level_is_that_of_the_noise_beside_what_is_left_of_the_picture(mini: SimpleNamespace, kind: str) -> None:
    one = sampling(mini, kind)
    assert mini.predictions.noise_level(one, 0.0) == 0
    assert mini.predictions.noise_level(one, 0.25) == pytest.approx(1 / 3)
    assert mini.predictions.noise_level(one, 0.8) == pytest.approx(4)
    assert mini.predictions.noise_level(one, 1.0) > float(mini.model.get_model_object("model_sampling").sigma_max)


@pytest.mark.parametrize("kind", ["flow", "aura"])
@pytest.mark.parametrize("draws", ["model", "person_model"])
def test_a_face_is_not_drawn_over_by_a_flow(mini: SimpleNamespace, kind: str, draws: str) -> None:
    given = {"model": mini.model, "clip": mini.clip, "vae": mini.vae, **WORDS, "strength": 1.5, "face": 0, "shown": "neutral", "steps": 1}
    with pytest.raises(mini.error, match=r"Change Expression got a MODEL that is sampled as a flow \(.*CONST\).* Take ModelSamplingSD3"):
        mini.change(mini.photo, **{**given, draws: mini.sampled[kind]})


def test_a_face_is_drawn_over_by_edm(mini: SimpleNamespace) -> None:
    given = {"clip": mini.clip, "vae": mini.vae, **WORDS, "strength": 1.5, "face": 0, "shown": "neutral", "steps": 1}
    drawn = mini.change(mini.photo, model=mini.sampled["edm"], **given).args[0]
    assert torch.isfinite(drawn).all() and not torch.equal(drawn, mini.photo)


def test_a_flow_may_say_what_the_expression_is(mini: SimpleNamespace) -> None:
    given = {"clip": mini.clip, "vae": mini.vae, **WORDS, "strength": 1.5, "face": 0, "shown": "neutral", "steps": 1}
    by_flow, plain = (
        mini.change(mini.photo, model=model, person_model=mini.model, **given).args[0] for model in (mini.sampled["flow"], mini.model)
    )
    assert torch.equal(by_flow, plain)  # its texts are the same


@pytest.mark.parametrize(
    ("of", "refused"), [("photo", True), ("skip", True), ("cross_attention", True), ("cross_attention_difference", False)]
)
@pytest.mark.parametrize(
    ("kind", "why"), [("flow", "sampled as a flow"), ("edm", r"sampled as .*EDM.* with sigma_data 0.5, whose noise levels are others")]
)
def test_features_of_noise_levels_are_not_taken_of_a_flow(mini: SimpleNamespace, of: str, refused: bool, kind: str, why: str) -> None:
    start = {"samples": torch.zeros(1, 4, SIDE, SIDE)}
    run = (mini.positive, mini.neutral, mini.negative, start, 7, 2, 4.0, "euler", "normal", 1.0, "happy")
    given = {"photo": mini.photo, "vae": mini.vae} if of == "photo" else {"site": of}
    if not refused:
        assert mini.extract(mini.sampled[kind], *run, **given).args[0].places()
        return
    with pytest.raises(mini.error, match=f"Extract Expression Features got a MODEL that is {why}"):
        mini.extract(mini.sampled[kind], *run, **given)


@pytest.mark.parametrize("kind", ["flow", "edm"])
def test_the_window_of_a_fusion_lies_where_a_flow_has_as_much_noise(
    mini: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Before, the numbers of a flow's levels, 0 to 1, all lay inside of a window that reaches to a sigma of 5."""
    asked: dict[float, float] = {}
    weigh = mini.injection.Injection.weight

    def watch(self: Any, place: str, call: Any) -> float:
        asked[call.sigma] = max(asked.get(call.sigma, 0.0), weigh(self, place, call))
        return float(asked[call.sigma])

    monkeypatch.setattr(mini.injection.Injection, "weight", watch)
    start = {"samples": torch.zeros(1, 4, SIDE, SIDE)}
    run = (mini.positive, mini.neutral, mini.negative, start, 7, 2, 4.0, "euler", "normal", 1.0, "happy")
    bank = mini.extract(mini.model, *run).args[0]
    flow = mini.apply(mini.sampled[kind], bank, 1.0, window_low=0.3, window_high=0.7).args[0]
    drawn = mini.draw(flow, 7, 12, 4.0, "euler", "normal", mini.neutral, mini.negative, start, 1.0).args[0]["samples"]
    assert torch.isfinite(drawn).all()
    low, high = mini.settings.window_range((0.3, 0.7))
    acting = {sigma for sigma, weight in asked.items() if weight > 0}
    assert acting == {sigma for sigma in asked if low < sigma < high}
    assert max(asked) == pytest.approx({"flow": max(asked), "edm": 240.0}[kind], rel=1e-3)  # of EDM twice its own sigma
    assert 0 < len(acting) < len(asked) == 12
