"""Attention-Focused Fusion in ComfyUI beside other patches: each is right alone, and neither undoes the other."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import pack
import pytest
import torch
from distances import relative
from fusion_graphs import PACKS, SAME_HOOK, Graph, deep_shrink, person_lora, random_controlnet, stock

PERSON = "a photo of a young man, black hair, blue background"
SITES = ("skip", "cross_attention", "cross_attention_difference")
STEPS, CFG, SEED = 3, 4.0, 7
SHAPE = (2, 4, 8, 16)  # 64 x 128 pixels
WORDS_APART = 0.5
"""Above the cosine between what the differences of two expressions' words do."""


@pytest.fixture(scope="module")
def mini(comfy_modules):
    """ComfyUI's Mini, conditionings, nodes, and what the other packs need."""
    names = ("expression_text_encode", "extract_expression_features", "apply_attention_focused_fusion", "sampler")
    modules: dict[str, Any] = {name: pack.node(name) for name in names} | {"host": pack.host(), "fusion_patches": pack.node("host.fusion")}
    with torch.inference_mode():
        model, clip, _ = modules["host"].load_mini()
        encode = modules["expression_text_encode"].ExpressionTextEncode.execute
        positive, neutral = encode(clip, PERSON, "happy", 1.0, "none", 0.5, "").args
        yield SimpleNamespace(
            **modules,
            model=model,
            clip=clip,
            positive=positive,
            neutral=neutral,
            surprised=encode(clip, PERSON, "surprised", 1.0, "none", 0.5, "").args[0],
            negative=modules["host"].encode_conditioning(clip, "blurry"),
            extract=modules["extract_expression_features"].ExtractExpressionFeatures.execute,
            apply=modules["apply_attention_focused_fusion"].ApplyAttentionFocusedFusion.execute,
            nodes=comfy_modules.nodes,
            error=comfy_modules.core.errors.FaceExprError,
            lora=person_lora(comfy_modules.home),
            controlnet=random_controlnet(model),
        )


def features(mini, site: str, *, positive=None, model=None, shape=SHAPE, sampler="euler", scheduler="normal", steps=STEPS, **options):
    latent = {"samples": torch.zeros(1, *shape[1:])}
    texts = positive or mini.positive, mini.neutral, mini.negative
    run = (latent, SEED, steps, CFG, sampler, scheduler, 1.0)
    return mini.extract(model or mini.model, *texts, *run, "happy", site=site, tokens="all", **options).args[0]


@pytest.fixture(scope="module")
def banks(mini):
    return {site: features(mini, site) for site in SITES}


@pytest.fixture(scope="module")
def surprise(mini):
    return {site: features(mini, site, positive=mini.surprised) for site in ("cross_attention", "cross_attention_difference")}


@pytest.fixture(scope="module")
def sigma(banks) -> float:
    return next(sigma for sigma in banks["cross_attention"].sigmas if 0.3 < sigma < 2.5)


def plain_graph(mini, model=None) -> Graph:
    return Graph(model or mini.model, mini.neutral, mini.negative)


def fused(mini, graph: Graph, bank, strength: float = 1.0, **options) -> Graph:
    return graph._replace(model=mini.apply(graph.model, bank, strength, **options).args[0])


def look(graph: Graph, sigma: float, *, cfg: float = CFG, shape=SHAPE, seed: int = 1, calls: list | None = None) -> SimpleNamespace:
    """One evaluation at one sigma: the conditional, the unconditional and the guided estimate of the picture."""
    samplers = importlib.import_module("comfy.samplers")
    seen = SimpleNamespace()

    def keep(args: dict) -> torch.Tensor:
        seen.cond, seen.uncond, seen.guided = (args[name].clone() for name in ("cond_denoised", "uncond_denoised", "denoised"))
        return args["denoised"]

    def count(apply_model, args: dict) -> torch.Tensor:
        if calls is not None:
            calls.append(list(args["cond_or_uncond"]))
        return apply_model(args["input"], args["timestep"], **args["c"])

    model = graph.model.clone()
    model.set_model_sampler_post_cfg_function(keep)
    model.set_model_unet_function_wrapper(count)
    guider = samplers.CFGGuider(model)
    guider.set_conds(graph.positive, graph.negative)
    guider.set_cfg(cfg)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    guider.sample(noise, torch.zeros(shape), samplers.sampler_object("euler"), torch.tensor([sigma, 0.0]), disable_pbar=True, seed=SEED)
    return seen


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0))


@pytest.fixture(scope="module")
def alone(mini, banks, sigma):
    """Without fusion and pack, with fusion and no pack, and with a pack and no fusion."""
    before = look(plain_graph(mini), sigma)
    with_fusion = {site: look(fused(mini, plain_graph(mini), banks[site]), sigma) for site in SITES}
    with_pack = {name: look(pack(mini, plain_graph(mini)), sigma) for name, (pack, _) in PACKS.items()}
    return SimpleNamespace(before=before, fused=with_fusion, pack=with_pack)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", PACKS)
def test_beside_another_pack_the_fusion_does_what_it_does_alone(mini, banks, sigma, alone, name: str, site: str) -> None:
    (pack, bound), bank, of_pack = PACKS[name], banks[site], alone.pack[name]
    assert relative(of_pack.guided, alone.before.guided) > 1e-3
    after = look(fused(mini, pack(mini, plain_graph(mini)), bank), sigma)
    assert torch.equal(after.uncond, of_pack.uncond)
    together, by_itself = after.cond - of_pack.cond, alone.fused[site].cond - alone.before.cond
    assert cosine(together, by_itself) > (max(bound, WORDS_APART) if site == "cross_attention_difference" and bound > 0 else bound)
    assert relative(after.cond, of_pack.cond) > 1e-4
    if (name, site) not in SAME_HOOK:
        assert torch.equal(look(pack(mini, fused(mini, plain_graph(mini), bank)), sigma).guided, after.guided)
    same = replace(bank, tokens={key: bank.tokens[key.replace(":e", ":n")] for key in bank.tokens})
    assert torch.equal(look(fused(mini, pack(mini, plain_graph(mini)), same), sigma).guided, of_pack.guided)
    if site == SITES[0]:
        assert torch.equal(look(fused(mini, pack(mini, plain_graph(mini)), bank, 0.0), sigma).guided, of_pack.guided)


def test_another_expression_is_no_such_change(mini, banks, surprise, sigma, alone) -> None:
    """So that the bounds of the test above mean something."""
    for site, bound in (("cross_attention", 0.2), ("cross_attention_difference", WORDS_APART)):
        of_other = look(fused(mini, plain_graph(mini), surprise[site]), sigma).cond - alone.before.cond
        assert cosine(of_other, alone.fused[site].cond - alone.before.cond) < bound


def test_under_deep_shrink_the_fusion_goes_where_the_words_would(mini, banks, sigma, alone) -> None:
    """It leaves Mini half its grids, and draws something else: what the fusion should do there, the text says."""
    shrunk = deep_shrink(mini, plain_graph(mini))
    before = alone.pack["Deep Shrink"].cond
    happy, surprised = (look(shrunk._replace(positive=text), sigma).cond - before for text in (mini.positive, mini.surprised))
    whole = features(mini, "cross_attention_difference", layers="all")
    for bank, bound in ((banks["cross_attention"], 0.25), (whole, 0.9)):
        moved = look(fused(mini, shrunk, bank), sigma).cond - before
        assert cosine(moved, happy) > max(bound, cosine(moved, surprised))
    with pytest.raises(mini.error, match="Deep Shrink"):
        features(mini, "cross_attention", model=deep_shrink(mini, plain_graph(mini), end=0.5).model)


def test_a_skip_connection_that_another_patch_used_up_is_left_alone(mini, banks) -> None:
    """SUPIR, in newer ComfyUI, merges the skip connection itself and hands on none."""
    model = mini.apply(mini.model, banks["skip"], 1.0).args[0]
    (patch,) = model.model_options["transformer_options"]["patches"]["output_block_patch"]
    h = torch.zeros(1, 4, 8, 8)
    after, skip = patch(h, None, {"block": ("output", 0)})
    assert after is h
    assert skip is None


def test_two_fusions_with_a_mask_each(mini, banks, surprise, sigma, alone) -> None:
    """One person smiles, the other is surprised."""
    shape, wide = (1, 4, 16, 32), {site: (banks[site], surprise[site]) for site in surprise}
    left = torch.zeros(1, 128, 256)
    left[:, :, :64] = 1
    graph = plain_graph(mini)
    before = look(graph, sigma, shape=shape).cond
    for smile, wonder in wide.values():
        graphs = fused(mini, graph, smile, mask=left), fused(mini, graph, wonder, mask=left.flip(2))
        one, two = (look(each, sigma, shape=shape).cond - before for each in graphs)
        both = look(fused(mini, graphs[0], wonder, mask=left.flip(2)), sigma, shape=shape).cond - before
        for part, own, other in ((slice(0, 8), one, two), (slice(24, 32), two, one)):
            assert cosine(both[..., part], own[..., part]) > 0.6
            assert cosine(both[..., part], own[..., part]) > cosine(both[..., part], other[..., part]) + 0.2
        assert cosine(both, one + two) > 0.95


@pytest.mark.parametrize("site", SITES)
def test_a_mask_lies_over_the_picture_where_a_conditioning_has_an_area(mini, banks, sigma, site: str) -> None:
    """ComfyUI computes an area as a picture of its own: the mask must be cut out with it."""
    left = torch.zeros(1, 64, 128)
    left[:, :, :64] = 1
    area = mini.nodes.ConditioningSetArea().append
    halves = [*area(mini.neutral, 64, 64, 0, 0, 1.0)[0], *area(mini.neutral, 64, 64, 64, 0, 1.0)[0]]
    graph = plain_graph(mini)._replace(positive=halves)
    before = look(graph, sigma).cond
    for mask, inside, outside in ((left, slice(0, 8), slice(8, 16)), (1 - left, slice(8, 16), slice(0, 8))):
        after = look(fused(mini, graph, banks[site], mask=mask), sigma).cond
        assert torch.equal(after[..., outside], before[..., outside])
        assert relative(after[..., inside], before[..., inside]) > 1e-4


@pytest.mark.parametrize("site", SITES)
def test_conditional_and_unconditional_rows_in_two_calls(mini, banks, sigma, alone, site: str) -> None:
    hidden, extra = mini.neutral[0]
    apart = plain_graph(mini)._replace(
        positive=[[hidden.repeat(1, 5, 1), extra]]
    )  # the same to cross-attention, but too long to share a call
    calls: list[list[int]] = []
    before, after = look(apart, sigma), look(fused(mini, apart, banks[site]), sigma, calls=calls)
    assert sorted(calls) == [[0], [1]]
    assert torch.equal(after.uncond, before.uncond)
    assert relative(after.cond, alone.fused[site].cond) < 1e-4
    assert relative(after.cond, before.cond) > 1e-3


@pytest.mark.parametrize("site", SITES)
def test_guidance_of_one_and_of_ten(mini, banks, sigma, alone, site: str) -> None:
    """At cfg 1 there is no unconditional row; above cfg 5 the strength falls as the guidance rises."""
    graph = fused(mini, plain_graph(mini), banks[site])
    calls: list[list[int]] = []
    one = look(graph, sigma, cfg=1.0, calls=calls)
    assert calls == [[0]]
    assert relative(one.guided, alone.fused[site].cond) < 1e-4
    ten = look(graph, sigma, cfg=10.0).cond - alone.before.cond
    if site == "cross_attention_difference":
        assert relative(2 * ten, alone.fused[site].cond - alone.before.cond) < 0.5
    assert relative(alone.before.cond + ten, alone.before.cond) < relative(alone.fused[site].cond, alone.before.cond)


@pytest.mark.parametrize("site", SITES)
def test_each_picture_of_a_batch_has_a_mask_of_its_own(mini, banks, sigma, alone, site: str) -> None:
    """By default `skip` is fused at places of 4 x 8 tokens and fewer: what a mask leaves alone changes a little all the same."""
    none, every = torch.zeros(1, 64, 128), torch.ones(1, 64, 128)
    second = look(fused(mini, plain_graph(mini), banks[site], mask=torch.cat([none, every])), sigma)
    assert torch.equal(second.cond[0], alone.before.cond[0])
    assert torch.equal(second.uncond, alone.before.uncond)
    assert relative(second.cond[1], alone.fused[site].cond[1]) < 1e-5
    both = look(fused(mini, plain_graph(mini), banks[site], mask=torch.cat([every, every])), sigma)
    assert relative(both.cond, alone.fused[site].cond) < 1e-5


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.long
def test_half_precision(mini, banks, sigma, alone, dtype: str) -> None:
    """ComfyUI's own switch. The fusion rounds no worse than the model does without it."""
    model = stock("nodes_model_advanced", "ModelComputeDtype")().patch(mini.model, dtype)[0]
    before = look(plain_graph(mini, model), sigma)
    rounding = relative(before.cond, alone.before.cond)
    assert 1e-5 < rounding < 0.05
    for site in SITES:
        after = look(fused(mini, plain_graph(mini, model), banks[site]), sigma)
        assert torch.equal(after.uncond, before.uncond)
        assert relative(after.cond, alone.fused[site].cond) < 2 * rounding
        assert not torch.equal(after.cond, before.cond)
    bank, whole = features(mini, "cross_attention", model=model), banks["cross_attention"]
    for key, value in whole.tokens.items():
        assert relative(bank.tokens[key].float(), value.float()) < 0.2


@pytest.mark.parametrize("shape", [(1, 4, 16, 16), (1, 4, 10, 6)])
def test_features_of_another_size(mini, sigma, alone, shape: tuple[int, ...]) -> None:
    bank = features(mini, "cross_attention", shape=shape)
    moved = look(fused(mini, plain_graph(mini), bank), sigma).cond - alone.before.cond
    assert cosine(moved, alone.fused["cross_attention"].cond - alone.before.cond) > 0.25


def counted(monkeypatch, owner, name: str) -> list[int]:
    """A list that grows with each call of a function, which does what it did."""
    calls: list[int] = []
    function = getattr(owner, name)

    def counting(*given):
        calls.append(1)
        return function(*given)

    monkeypatch.setattr(owner, name, counting)
    return calls


class Steps(NamedTuple):
    """A run of a sampler: for each evaluation its sigma, the latents that went in, and how often features had been fused before it."""

    sigmas: list[float]
    latents: list[torch.Tensor]
    fusions: list[int]
    drawn: torch.Tensor


def draw(mini, graph: Graph, sampler: str, scheduler: str, steps: int, fusions: list[int]) -> Steps:
    seen = Steps([], [], [], torch.zeros(0))

    def watch(apply_model, args: dict) -> torch.Tensor:
        seen.sigmas.append(float(args["timestep"][0]))
        seen.latents.append(args["input"].clone())
        seen.fusions.append(len(fusions))
        return apply_model(args["input"], args["timestep"], **args["c"])

    model, latent = graph.model.clone(), {"samples": torch.zeros(1, *SHAPE[1:])}
    model.set_model_unet_function_wrapper(watch)
    sample = mini.nodes.KSampler().sample
    drawn = sample(model, SEED, steps, 1.5, sampler, scheduler, graph.positive, graph.negative, latent)[0]["samples"]
    return seen._replace(drawn=drawn)


@pytest.mark.parametrize(
    ("sampler", "scheduler", "window"),
    [
        ("euler", "karras", (0.3, 0.7)),
        ("heun", "simple", (0.3, 0.7)),
        ("dpmpp_2m_sde", "karras", (0.2, 0.7)),
        ("uni_pc", "simple", (0.3, 0.7)),
        ("lcm", "simple", (0.3, 0.7)),
        ("lcm", "simple", (0.5, 0.52)),
    ],
)
def test_samplers_fuse_in_the_window_and_not_a_bit_before(mini, monkeypatch, caplog, sampler: str, scheduler: str, window) -> None:
    low, high = window
    steps = 4 if sampler == "lcm" else 5
    limits = {"window_low": low, "window_high": high}
    bank = features(mini, "cross_attention", sampler=sampler, scheduler=scheduler, steps=steps, **limits)
    fusion, settings = (importlib.import_module(f"faceexpr_pack.faceexpr_core.fusion.{name}") for name in ("operator", "settings"))
    fusions, lookups = counted(monkeypatch, fusion, "fuse"), counted(monkeypatch, type(bank), "donor")

    graph = plain_graph(mini)
    before = draw(mini, graph, sampler, scheduler, steps, fusions)
    after = draw(mini, fused(mini, graph, bank, **limits), sampler, scheduler, steps, fusions)
    assert after.sigmas == before.sigmas
    inside = [any(abs(sigma / known - 1) < 1e-4 for known in bank.sigmas) for sigma in after.sigmas]
    in_window = [settings.window_weight(sigma, *settings.window_range(window)) > 0 for sigma in after.sigmas]
    nearest = not any(in_window)
    assert nearest == (low == 0.5) == ("no step of this schedule lies well inside the window" in caplog.text)
    assert nearest or inside == in_window
    first = inside.index(True)
    assert 0 < first < len(inside) - 1
    for number, (given, known) in enumerate(zip(after.latents, before.latents, strict=True)):
        assert torch.equal(given, known) == (number <= first)
    places = len(bank.places())
    assert after.fusions == [places * sum(inside[:number]) for number in range(len(inside))]
    assert len(lookups) == places * len(bank.sigmas)  # however often a sampler looks at a noise level


def test_over_http_with_three_packs_in_either_order(comfy) -> None:
    from safetensors.torch import load_file

    common = {"seed": 3, "steps": 4, "cfg": 4.0, "sampler_name": "dpmpp_2m_sde", "scheduler": "karras", "denoise": 1.0}
    encode = {
        **{"clip": ["1", 1], "prompt": PERSON, "expression": "happy", "intensity": 1.0},
        **{"second_expression": "none", "second_weight": 0.5, "action_units": ""},
    }
    texts = {"positive": ["2", 0], "neutral": ["2", 1], "negative": ["2", 1], "latent_image": ["3", 0]}
    shrink = {
        **{"block_number": 3, "downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 0.2, "downscale_after_skip": True},
        **{"downscale_method": "bicubic", "upscale_method": "bicubic"},
    }
    kinds: dict[str, dict[str, object]] = {
        "FreeU_V2": {"b1": 1.1, "b2": 1.1, "s1": 0.95, "s2": 0.9},
        "PerturbedAttentionGuidance": {"scale": 1.0},
        "PatchModelAddDownscale": shrink,
    }

    def packs(model: list, name: str) -> dict:
        chain: dict[str, dict] = {}
        for number, (kind, inputs) in enumerate(kinds.items()):
            chain[f"{name}{number}"] = {"class_type": kind, "inputs": {"model": model, **inputs}}
            model = [f"{name}{number}", 0]
        return chain

    def apply(model: list, strength: float = 1.0) -> dict:
        return {"class_type": "FaceExprApplyAttentionFocusedFusion", "inputs": {"model": model, "features": ["4", 0], "strength": strength}}

    ends = {"plain": ["a2", 0], "zero": ["zero", 0], "after": ["after", 0], "before": ["b2", 0]}
    graph = {
        "1": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "2": {"class_type": "FaceExprExpressionTextEncode", "inputs": encode},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 96, "batch_size": 2}},
        "4": {"class_type": "FaceExprExtractExpressionFeatures", "inputs": {"model": ["1", 0], **texts, **common, "expression": "happy"}},
        **packs(["1", 0], "a"),
        "zero": apply(["a2", 0], 0.0),
        "after": apply(["a2", 0]),
        "first": apply(["1", 0]),
        **packs(["first", 0], "b"),
    }
    for name, model in ends.items():
        sampled = {"model": model, **common, "positive": ["2", 1], "negative": ["2", 1], "latent_image": ["3", 0]}
        graph[f"{name}s"] = {"class_type": "KSampler", "inputs": sampled}
        graph[f"{name}l"] = {"class_type": "SaveLatent", "inputs": {"samples": [f"{name}s", 0], "filename_prefix": f"compositions/{name}"}}
    comfy.run(graph)
    drawn = {name: load_file(next((comfy.output_dir / "compositions").glob(f"{name}_*.latent")))["latent_tensor"] for name in ends}
    assert torch.equal(drawn["zero"], drawn["plain"])
    assert torch.equal(drawn["before"], drawn["after"])
    for picture in (0, 1):
        assert 1e-3 < relative(drawn["after"][picture], drawn["plain"][picture]) < 1
