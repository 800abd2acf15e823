"""LoRA hooks beside a fusion that looks for the face: the network is patched for a text from its first layer to its last."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch
from fusion_graphs import person_lora, stock

PERSON = "a photo of a young man, black hair, blue background"
LAYERS = ("to_k", "to_v")


@pytest.fixture(scope="module")
def mini(comfy_modules) -> SimpleNamespace:
    create, name = stock("nodes_hooks", "CreateHookLora"), person_lora(comfy_modules.home)
    with torch.inference_mode():
        given = pack.mini_asked_to_smile(PERSON)
        people = [create().create_hook(name, strength, 0.0)[0] for strength in (1.0, -1.0)]
        model, vae = given["model"], given["vae"]
        latent = {"samples": torch.zeros(1, 4, 16, 16)}
        bank = pack.node("extract_expression_features").ExtractExpressionFeatures.execute(
            model, given["positive"], given["neutral"], given["negative"], latent, 7, 4, 4.0, "euler", "normal", 1.0, "happy", vae
        )
        return SimpleNamespace(**given, people=people, latent=latent, bank=bank.args[0], nodes=comfy_modules.nodes)


def of(mini: SimpleNamespace, text: Any, person: int, left: float = 0.0, width: float = 1.0) -> Any:
    """A text with the LoRA of a person, for a part of the picture's width, as in the template of two people."""
    (hooked,) = stock("nodes_hooks", "SetModelHooksOnCond")().attach_hook(text, mini.people[person])
    return hooked if width == 1 else mini.nodes.ConditioningSetAreaPercentage().append(hooked, width, 1.0, left, 0.0, 1.0)[0]


def one_person(mini: SimpleNamespace, text: Any) -> Any:
    return of(mini, text, 0)


def two_people(mini: SimpleNamespace, text: Any) -> Any:
    return [*of(mini, text, 0, 0.0, 0.5), *of(mini, text, 1, 0.5, 0.5)]


class Watch:
    """What a run finds in the network's layers: for each evaluation the sums of their weights, in the order in which they are asked."""

    def __init__(self, mini: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.evaluations, self.looks, self.looks_within, self._running = list[list[float]](), 0, 0, False
        unet, decode = mini.model.model.diffusion_model, mini.vae.decode
        self._handles = [unet.register_forward_pre_hook(self._begin), unet.register_forward_hook(self._end)]
        self._handles += [module.register_forward_pre_hook(self._note) for name, module in unet.named_modules() if name.endswith(LAYERS)]

        def look(latent: torch.Tensor) -> torch.Tensor:
            self.looks, self.looks_within = self.looks + 1, self.looks_within + self._running
            return decode(latent)

        monkeypatch.setattr(mini.vae, "decode", look)

    def _begin(self, *given: Any) -> None:
        self.evaluations.append([])
        self._running = True

    def _note(self, module: Any, *given: Any) -> None:
        if self._running:  # and not when texts are read for their keys and values
            self.evaluations[-1].append(float(module.weight.double().sum()))

    def _end(self, *given: Any) -> None:
        self._running = False

    def end(self) -> None:
        for handle in self._handles:
            handle.remove()


def test_the_base_model_knows_nothing_of_a_text_s_person(mini, caplog) -> None:
    """Its keys and values were read with the person's LoRA, at the strength of its first keyframe."""
    extraction = pack.node("extraction")
    settings = importlib.import_module("faceexpr_pack.faceexpr_core.fusion.settings").words_settings(1.0)
    with torch.inference_mode():
        plain, hooked = (
            extraction.kept_contexts(mini.model, texts[0][0], texts[1][0], settings)
            for texts in ((mini.positive, mini.neutral), (one_person(mini, mini.positive), one_person(mini, mini.neutral)))
        )
        assert hooked is plain
        extraction._kept.clear()
        anew = extraction.kept_contexts(mini.model, one_person(mini, mini.positive)[0], one_person(mini, mini.neutral)[0], settings)
        assert all(torch.equal(anew.tokens[key], value) for key, value in plain.tokens.items())


@pytest.mark.parametrize("site", ["cross_attention_difference", "cross_attention"])
def test_features_are_the_models_own_and_that_hooks_are_left_out_is_told(mini, caplog, site: str) -> None:
    extract = pack.node("extract_expression_features").ExtractExpressionFeatures.execute
    rest, told = (mini.negative, mini.latent, 7, 2, 4.0, "euler", "normal", 1.0, "happy"), "hooks on the texts"
    with torch.inference_mode():
        plain = extract(mini.model, mini.positive, mini.neutral, *rest, site=site).args[0]
        assert told not in caplog.text
        hooked = extract(mini.model, one_person(mini, mini.positive), one_person(mini, mini.neutral), *rest, site=site).args[0]
    assert told in caplog.text
    assert hooked.tokens.keys() == plain.tokens.keys()
    assert all(torch.equal(hooked.tokens[key], value) for key, value in plain.tokens.items())


@pytest.mark.parametrize("fusion", ["base_model", "features"])
@pytest.mark.parametrize("texts", [one_person, two_people])
def test_each_evaluation_has_the_hooks_of_its_text_in_every_layer(mini, monkeypatch, texts: Any, fusion: str) -> None:
    inputs = {"base_model": mini.model} if fusion == "base_model" else {"features": mini.bank}
    positive, neutral = texts(mini, mini.positive), texts(mini, mini.neutral)
    seen = list[Watch]()
    for vae in (None, mini.vae):
        with monkeypatch.context() as patched, torch.inference_mode():
            watch = Watch(mini, patched)
            draw = pack.node("sampler").Sampler.execute
            run = (mini.model, 3, 4, 4.0, "euler", "normal", positive, mini.negative, mini.latent, 1.0, neutral)
            draw(*run, vae=vae, **inputs)
            watch.end()
            seen.append(watch)
    blind, looking = seen
    assert len({tuple(weights) for weights in blind.evaluations}) == (2 if texts is one_person else 3)
    assert looking.evaluations == blind.evaluations
    assert (blind.looks, looking.looks_within) == (0, 0) and looking.looks > 0
