"""The table of compositions: what else may stand in a graph with Attention-Focused Fusion, in real ComfyUI.

Rows are what stands in the graph; columns: every row of the batch that is not the expression's is equal to the bit, the expression's is
changed, and more where the mask lies than elsewhere; afterwards nothing of the fusion is left. Help pages (web/docs) say the same.
"""

from __future__ import annotations

import gc
import importlib
import weakref
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import pack
import pytest
import torch
from fusion_graphs import (
    GUIDANCE,
    PACKS,
    WEIGHTS,
    Graph,
    gligen,
    negative_zeroed,
    node,
    person_lora,
    random_controlnet,
    random_gligen,
    stock,
)

PERSON = "a photo of a young man, black hair, blue background"
SIGMA, CFG, SEED = 1.7, 4.0, 7
SHAPE = (2, 4, 8, 16)  # 64 x 128 pixels
ALONE = float("inf")
"""Nothing at all is changed elsewhere."""
LEFT, RIGHT = (64, 64, 0, 0), (64, 64, 64, 0)
"""Width, height, x and y in pixels."""


@pytest.fixture(scope="module")
def mini(comfy_modules):
    """ComfyUI's Mini, texts of an expression, another text, features of the words, and what else may stand in a graph."""
    extract, apply = map(pack.node, ("extract_expression_features", "apply_attention_focused_fusion"))
    host, texts = pack.host(), pack.node("host.texts")
    with torch.inference_mode():
        given = pack.mini_asked_to_smile(PERSON)
        model, clip = given["model"], given["clip"]
        run = (
            given["positive"],
            given["neutral"],
            given["negative"],
            {"samples": torch.zeros(1, *SHAPE[1:])},
            SEED,
            3,
            CFG,
            "euler",
            "normal",
            1.0,
            "happy",
        )
        kept = SimpleNamespace(
            **given,
            other=host.encode_conditioning(clip, "a green background"),
            bank=extract.ExtractExpressionFeatures.execute(model, *run).args[0],
            apply=apply.ApplyAttentionFocusedFusion.execute,
            texts=texts,
            nodes=comfy_modules.nodes,
            lora=person_lora(comfy_modules.home),
            controlnet=random_controlnet(model),
            gligen=random_gligen(model, clip),
            error=comfy_modules.core.errors.FaceExprError,
            injection=importlib.import_module("faceexpr_pack.faceexpr_core.fusion.injection"),
        )
        gc.collect()
        gc.freeze()  # each case collects what it made; all that was there before takes a second
        yield kept
        gc.unfreeze()


def area(mini, conditioning, place: tuple[int, int, int, int], strength: float = 1.0):
    return mini.nodes.ConditioningSetArea().append(conditioning, *place, strength)[0]


def areas(mini, graph: Graph) -> Graph:
    return graph._replace(positive=[*area(mini, graph.positive, LEFT), *area(mini, mini.other, RIGHT)])


def area_of_the_negative(mini, graph: Graph) -> Graph:
    """ComfyUI then puts a copy of it, id and all, among the conditional entries."""
    return graph._replace(negative=[*graph.negative, *area(mini, mini.other, LEFT)])


def masked(mini, graph: Graph, bounds: str) -> Graph:
    mask = torch.zeros(1, 64, 128)
    mask[:, :, :64] = 1
    return graph._replace(positive=mini.nodes.ConditioningSetMask().append(graph.positive, mask, bounds, 1.0)[0])


def with_hooks(conditioning, hooks):
    return [[hidden, {**extra, "hooks": hooks}] for hidden, extra in conditioning]


def two_fusions(mini, graph: Graph) -> Graph:
    right = torch.zeros(1, 64, 128)
    right[:, :, 64:] = 1
    return graph._replace(model=mini.apply(graph.model, mini.bank, 1.0, mask=right).args[0])


def guider(module: str, node: str, *given: Any) -> Any:
    """What a node gives to SamplerCustomAdvanced."""
    return stock(module, node).execute(*given).args[0]


def plain_cfg(mini, graph: Graph) -> Any:
    return guider("nodes_custom_sampler", "CFGGuider", graph.model, graph.positive, graph.negative, CFG)


def cfg_one(mini, graph: Graph) -> Any:
    return guider("nodes_custom_sampler", "CFGGuider", graph.model, graph.positive, graph.negative, 1.0)


def dual_cfg(mini, graph: Graph, style: str = "regular") -> Any:
    texts = graph.positive, mini.other, graph.negative
    return guider("nodes_custom_sampler", "DualCFGGuider", graph.model, *texts, CFG, 2.0, style)


def perp_neg(mini, graph: Graph) -> Any:
    return guider("nodes_perpneg", "PerpNegGuider", graph.model, graph.positive, graph.negative, mini.other, CFG, 1.0)


def basic(mini, graph: Graph) -> Any:
    return guider("nodes_custom_sampler", "BasicGuider", graph.model, graph.positive)


def cfg_by_steps(mini, graph: Graph, cfg: Any = (CFG,)) -> Any:
    """As other packs make one (KJNodes' ScheduledCFGGuidance): its cfg is a list, with one for each step."""

    base = importlib.import_module("comfy.samplers").CFGGuider

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        given, self.cfg = self.cfg, CFG
        try:
            return base.predict_noise(self, x, timestep, model_options or {}, seed)
        finally:
            self.cfg = given

    made = type("Guider", (base,), {"predict_noise": predict_noise})(graph.model)
    made.set_conds(graph.positive, graph.negative)
    made.set_cfg(list(cfg) if isinstance(cfg, tuple) else cfg)
    return made


class Case(NamedTuple):
    """`build`: what stands in the graph; `guider`; `conditional`: its number of the expression's conditioning; `held`: by how much more is
    changed where the mask lies; `noise`: whether the sampler adds it."""

    build: Callable[[Any, Graph], Graph] = lambda mini, graph: graph
    guider: Callable[[Any, Graph], Any] = plain_cfg
    conditional: int = 0
    held: float = 1.2
    latent: Callable[[], torch.Tensor] = lambda: torch.zeros(SHAPE)
    mask: torch.Tensor | None = None
    noise: bool = True


def painted() -> torch.Tensor:
    mask = torch.zeros(1, 1, 64, 128)
    mask[..., :96] = 1
    return mask


def inpainted(mini, graph: Graph) -> Graph:
    """For the base model, which has no channels for what the node adds to the texts."""
    given = torch.rand(2, 64, 128, 3, generator=torch.Generator().manual_seed(6))
    encode = mini.nodes.InpaintModelConditioning().encode
    positive, negative, _ = encode(graph.positive, graph.negative, given, mini.vae, painted()[0], True)
    return graph._replace(positive=positive, negative=negative)


TABLE: dict[str, Case] = {
    "nothing else": Case(),
    "areas": Case(areas, held=ALONE),
    "area of the negative": Case(area_of_the_negative),
    "mask on the conditioning": Case(lambda mini, graph: masked(mini, graph, "default")),
    "mask bounds": Case(lambda mini, graph: masked(mini, graph, "mask bounds"), held=ALONE),
    "combine": Case(lambda mini, graph: graph._replace(positive=mini.nodes.ConditioningCombine().combine(graph.positive, mini.other)[0])),
    "concat": Case(lambda mini, graph: graph._replace(positive=mini.nodes.ConditioningConcat().concat(graph.positive, mini.other)[0])),
    "average": Case(
        lambda mini, graph: graph._replace(positive=mini.nodes.ConditioningAverage().addWeighted(graph.positive, mini.other, 0.7)[0])
    ),
    "timestep range": Case(
        lambda mini, graph: graph._replace(positive=mini.nodes.ConditioningSetTimestepRange().set_range(graph.positive, 0.2, 1.0)[0])
    ),
    "noise mask": Case(mask=painted()),
    "image to image": Case(latent=lambda: torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))),
    "LoRA hooks": Case(lambda mini, graph: graph._replace(positive=with_hooks(graph.positive, hook_of(mini)))),
    "LoRA hooks by a schedule": Case(lambda mini, graph: graph._replace(positive=with_hooks(graph.positive, scheduled(hook_of(mini))))),
    "default text": Case(lambda mini, graph: graph._replace(positive=default_combined(mini, graph))),
    "steps left by another sampler": Case(latent=lambda: 10 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)), noise=False),
    "two fusions": Case(two_fusions),
    "cfg 1": Case(guider=cfg_one),
    "DualCFGGuider": Case(guider=dual_cfg, conditional=2),
    "DualCFGGuider, nested": Case(guider=partial(dual_cfg, style="nested"), conditional=2),
    "Perp-Neg": Case(guider=perp_neg),
    "GLIGEN": Case(gligen),
    "BasicGuider": Case(guider=basic),
    "a cfg for each step": Case(guider=cfg_by_steps),
    "negative zeroed out": Case(negative_zeroed),
    "Inpaint Model Conditioning": Case(inpainted, mask=painted()),
    "Differential Diffusion": Case(
        node("nodes_differential_diffusion", "DifferentialDiffusion"), mask=torch.linspace(0, 1, 128).expand(1, 1, 64, 128)
    ),
    **{name: Case(build) for name, (build, _) in PACKS.items()},
    **{name: Case(build) for name, build in {**GUIDANCE, **WEIGHTS}.items()},
}


def hook_of(mini) -> Any:
    return stock("nodes_hooks", "CreateHookLora")().create_hook(mini.lora, 1.0, 0.0)[0]


def scheduled(hooks: Any) -> Any:
    """Off at first, at half strength in the end."""
    keyframe = stock("nodes_hooks", "CreateHookKeyframe")().create_hook_keyframe
    (frames,) = keyframe(0.5, 0.3, keyframe(0.0, 0.0)[0])
    return stock("nodes_hooks", "SetHookKeyframes")().set_hook_keyframes(hooks, frames)[0]


def default_combined(mini, graph: Graph) -> Any:
    """The expression's text where no other one is said."""
    combine = stock("nodes_hooks", "ConditioningSetDefaultAndCombine")().set_default_and_combine
    return combine(area(mini, mini.other, RIGHT), graph.positive)[0]


def evaluated(mini, case: Case, graph: Graph, levels: tuple[float, ...] = (SIGMA, 0.0)) -> dict[int, list[torch.Tensor]]:
    """Steps, one at SIGMA: what the model gives for each of its conditionings' entries, by the number of the conditioning."""
    samplers = importlib.import_module("comfy.samplers")
    seen: dict[int, list[torch.Tensor]] = defaultdict(list)

    def watch(apply_model, args: dict) -> torch.Tensor:
        given = apply_model(args["input"], args["timestep"], **args["c"])
        for number, part in zip(args["cond_or_uncond"], given.chunk(len(args["cond_or_uncond"])), strict=True):
            seen[number].append(part.clone())
        return given

    model = graph.model.clone()
    model.set_model_unet_function_wrapper(watch)
    custom = importlib.import_module("comfy_extras.nodes_custom_sampler")
    noise = custom.Noise_RandomNoise(SEED) if case.noise else custom.Noise_EmptyNoise()
    latent = {"samples": case.latent()} | ({} if case.mask is None else {"noise_mask": case.mask})
    guider = case.guider(mini, graph._replace(model=model))
    custom.SamplerCustomAdvanced.execute(noise, guider, samplers.sampler_object("euler"), torch.tensor(levels), latent)
    return seen


@pytest.mark.parametrize("name", TABLE)
def test_the_expressions_rows_are_changed_where_the_mask_lies_no_other_bit_is_and_nothing_is_kept(mini, monkeypatch, name: str) -> None:
    case, left = TABLE[name], torch.zeros(1, 64, 128)
    left[:, :, :64] = 1
    uploaded: list[weakref.ref] = []

    def noted(tensor: torch.Tensor) -> torch.Tensor:
        uploaded.append(weakref.ref(tensor))
        return tensor

    ready = mini.injection._ready
    monkeypatch.setattr(mini.injection, "upload", lambda tensor, device: noted(tensor.to(device).clone()))
    monkeypatch.setattr(mini.injection, "_ready", lambda part, device: noted(ready(part, device)))
    graph = case.build(mini, Graph(mini.model, mini.neutral, mini.negative))
    fused = graph._replace(model=mini.apply(graph.model, mini.bank, 1.0, mask=left).args[0])
    before, after = evaluated(mini, case, graph), evaluated(mini, case, fused)
    assert before.keys() == after.keys()
    changes = {number: [b - a for a, b in zip(before[number], after[number], strict=True)] for number in before}
    assert not any(change.any() for number in changes if number != case.conditional for change in changes[number])
    own = changes[case.conditional]
    largest = max(own, key=lambda change: float(change.abs().max()))
    assert largest.norm() > 1e-3 * before[case.conditional][0].norm()
    assert all(picture.any() for picture in largest)
    if case.held == ALONE:
        assert not any(change[..., 8:].any() for change in own)
    else:
        assert largest[..., :8].norm() > case.held * largest[..., 8:].norm()
    gc.collect()
    assert uploaded
    assert not [held for held in uploaded if held() is not None]


def cfg_of_each_change(mini, monkeypatch, given: Any) -> list[float]:
    """Three steps with a guider's cfg: by which of it the strength is reduced at each."""
    seen: dict[float, float] = {}
    add = mini.injection.Injection.add_context

    def watch(self, place, x, grid, call, *rest):
        seen[call.sigma] = call.cfg
        return add(self, place, x, grid, call, *rest)

    monkeypatch.setattr(mini.injection.Injection, "add_context", watch)
    model = mini.apply(mini.model, mini.bank, 1.0, window_low=0.0, window_high=1.0, mask=torch.ones(1, 64, 128)).args[0]
    evaluated(mini, Case(guider=partial(cfg_by_steps, cfg=given)), Graph(model, mini.neutral, mini.negative), (3.0, 2.0, 1.0, 0.0))
    assert list(seen) == [3.0, 2.0, 1.0]
    return list(seen.values())


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        (torch.tensor([6.0]), [6.0, 6.0, 6.0]),
        ((8.0, 4.0, 2.0), [8.0, 4.0, 2.0]),
        ((8.0, torch.tensor(4.0)), [8.0, 4.0, 4.0]),  # the last one goes on
    ],
    ids=["one", "a list", "a short list"],
)
def test_of_a_list_of_cfgs_that_of_the_step_counts(mini, monkeypatch, caplog, given: Any, counted: list[float]) -> None:
    assert cfg_of_each_change(mini, monkeypatch, given) == counted
    assert "cfg" not in caplog.text


@pytest.mark.parametrize("given", [torch.tensor([8.0, 2.0]), (), None, "8", (None, None, None)], ids=str)
def test_a_cfg_that_is_no_number_reduces_nothing_and_that_is_told_once(mini, monkeypatch, caplog, given: Any) -> None:
    assert cfg_of_each_change(mini, monkeypatch, given) == [1.0, 1.0, 1.0]
    assert sum("cfg is no number" in line for line in caplog.messages) == 1


def test_the_negative_text_on_a_model_of_its_own_keeps_every_bit(mini) -> None:
    if not hasattr(importlib.import_module("comfy_extras.nodes_custom_sampler"), "DualModelGuider"):
        pytest.skip("newer ComfyUI has DualModelGuider")

    def dual_model(mini, graph: Graph) -> Any:
        return guider("nodes_custom_sampler", "DualModelGuider", graph.model, graph.positive, CFG, graph.model, graph.negative)

    graph = Graph(mini.model, mini.neutral, mini.negative)
    fused = graph._replace(model=mini.apply(mini.model, mini.bank, 1.0).args[0])
    (conditional, negative), (changed, kept) = (evaluated(mini, Case(guider=dual_model), each)[0] for each in (graph, fused))
    assert torch.equal(kept, negative)
    assert (changed - conditional).norm() > 1e-3 * conditional.norm()


def test_a_text_that_is_not_said_at_a_step_is_not_fused_there(mini) -> None:
    late = mini.nodes.ConditioningSetTimestepRange().set_range(mini.neutral, 0.9, 1.0)[0]
    both = [*late, *mini.other]
    graph = Graph(mini.model, both, mini.negative)
    one = mini.texts.tagged(both, [mini.texts.Pair(0, 0)])
    model = pack.node("host.fusion").attach_fusion(mini.model, mini.bank, settings(mini), tag=0)
    before = evaluated(mini, Case(), graph)
    after = evaluated(mini, Case(), graph._replace(model=model, positive=one))
    assert len(before[0]) == len(after[0]) == 1
    assert torch.equal(before[0][0], after[0][0])


def settings(mini) -> Any:
    return importlib.import_module("faceexpr_pack.faceexpr_core.fusion.settings").site_settings(mini.bank.site)
