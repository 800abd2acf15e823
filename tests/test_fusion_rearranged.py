"""Fusion where another pack, or ComfyUI, hands the network other rows than the sampler's: tiles, regions of the attention, copies of
entries, another network in the MODEL's stead; in real ComfyUI."""

from __future__ import annotations

import copy
import importlib
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch
from distances import relative
from fusion_graphs import Graph, attention_couple

PERSON = "a photo of a young man, black hair, blue background"
SIGMA, CFG, SEED = 1.7, 4.0, 7
SHAPE = (2, 4, 8, 16)  # 64 x 128 pixels


@pytest.fixture(scope="module")
def mini(comfy_modules):
    extract, apply, sampler = map(pack.node, ("extract_expression_features", "apply_attention_focused_fusion", "sampler"))
    with torch.inference_mode():
        given = pack.mini_asked_to_smile(PERSON)
        start = {"samples": torch.zeros(1, *SHAPE[1:])}
        run = (given["positive"], given["neutral"], given["negative"], start, SEED, 3, CFG, "euler", "normal", 1.0, "happy")
        yield SimpleNamespace(
            **given,
            bank=extract.ExtractExpressionFeatures.execute(given["model"], *run).args[0],
            run=run,
            extract=extract.ExtractExpressionFeatures.execute,
            apply=apply.ApplyAttentionFocusedFusion.execute,
            draw=sampler.Sampler.execute,
            attach=pack.node("host.fusion").attach_fusion,
            texts=pack.node("host.texts"),
            extraction=pack.node("extraction"),
            settings=importlib.import_module("faceexpr_pack.faceexpr_core.fusion.settings"),
            nodes=comfy_modules.nodes,
        )


def fused(mini, model: Any = None, **options: Any) -> Any:
    return mini.apply(model or mini.model, mini.bank, 1.0, **options).args[0]


def step(graph: Graph, shape: tuple[int, ...] = SHAPE) -> SimpleNamespace:
    """One step at SIGMA: the conditional and the unconditional estimate."""
    samplers, seen = importlib.import_module("comfy.samplers"), SimpleNamespace()

    def keep(args: dict) -> torch.Tensor:
        seen.cond, seen.uncond = args["cond_denoised"].clone(), args["uncond_denoised"].clone()
        return args["denoised"]

    model = graph.model.clone()
    model.set_model_sampler_post_cfg_function(keep)
    guider = samplers.CFGGuider(model)
    guider.set_conds(graph.positive, graph.negative)
    guider.set_cfg(CFG)
    noise, levels = torch.randn(shape, generator=torch.Generator().manual_seed(1)), torch.tensor([SIGMA, 0.0])
    guider.sample(noise, torch.zeros(shape), samplers.sampler_object("euler"), levels, disable_pbar=True, seed=SEED)
    return seen


def half(left: bool = True) -> torch.Tensor:
    mask = torch.zeros(1, 64, 128)
    mask[..., :64] = 1
    return mask if left else 1 - mask


# Tiles


def tiled(model: Any, at_once: bool) -> Any:
    """As packs for large pictures do: the network sees tiles, several in one call or one after the other, and is told nothing of it."""

    def in_tiles(apply_model: Any, args: dict) -> torch.Tensor:
        left, right = args["input"].chunk(2, -1)
        given, time = args["c"], args["timestep"]
        if not at_once:
            return torch.cat([apply_model(tile, time, **given) for tile in (left, right)], -1)
        twice = {key: torch.cat([part, part]) if isinstance(part, torch.Tensor) else part for key, part in given.items()}
        return torch.cat(apply_model(torch.cat([left, right]), torch.cat([time, time]), **twice).chunk(2), -1)

    clone = model.clone()
    clone.set_model_unet_function_wrapper(in_tiles)
    return clone


@pytest.mark.parametrize("at_once", [True, False])
def test_in_tiles_nothing_is_changed_where_rows_or_mask_are_not_known_and_that_is_told(mini, caplog, at_once: bool) -> None:
    """Before, tiles in one call had the negative prompt's rows fused, and a mask of the picture was laid over each tile."""
    graph = Graph(mini.model, mini.neutral, mini.negative)
    before = step(graph._replace(model=tiled(mini.model, at_once)))
    masked = step(graph._replace(model=tiled(fused(mini, mask=half()), at_once)))
    assert torch.equal(masked.uncond, before.uncond)
    assert torch.equal(masked.cond, before.cond)
    assert "tiles" in caplog.text
    everywhere = step(graph._replace(model=tiled(fused(mini), at_once)))
    assert torch.equal(everywhere.uncond, before.uncond)
    assert (relative(everywhere.cond, before.cond) > 1e-3) != at_once


# Regions of the attention


@pytest.mark.parametrize("regions", [1, 2, 3])
def test_where_texts_of_regions_share_the_attention_the_expression_acts_under_its_mask_whatever_comes_first(mini, regions: int) -> None:
    """Before, fusion ahead of it was given more rows than it knew: some were left out, or the queries of others taken, or it failed."""
    graph = Graph(mini.model, mini.neutral, mini.negative)
    coupled = attention_couple(mini, graph, regions)
    before = step(coupled)
    for mask, inside, outside in ((half(), slice(0, 8), slice(8, 16)), (half(False), slice(8, 16), slice(0, 8))):
        first = step(attention_couple(mini, graph._replace(model=fused(mini, mask=mask)), regions))
        last = step(coupled._replace(model=fused(mini, coupled.model, mask=mask)))
        assert torch.equal(first.cond, last.cond)
        assert torch.equal(first.uncond, before.uncond)
        moved = first.cond - before.cond
        assert all(picture[..., inside].norm() > picture[..., outside].norm() for picture in moved)
    everywhere = step(graph._replace(model=fused(mini)))
    same = attention_couple(mini, graph._replace(model=fused(mini)), regions, graph.positive)
    assert relative(step(same).cond, everywhere.cond) < 1e-4


def test_the_words_of_a_text_with_regions_are_its_own(mini) -> None:
    """Keys and values for the texts of regions come in the same call."""
    model = attention_couple(mini, Graph(mini.model, mini.neutral, mini.negative), 2).model
    bank = mini.extract(model, *mini.run).args[0]
    assert all(torch.equal(bank.tokens[key], value) for key, value in mini.bank.tokens.items())
    recorded = (mini.extract(given, *mini.run, site="cross_attention", tokens="all").args[0] for given in (mini.model, model))
    plain, coupled = (bank.tokens for bank in recorded)
    assert plain.keys() == coupled.keys() and any(relative(coupled[key].float(), plain[key].float()) > 1e-3 for key in plain)


# Copies of entries


def test_where_the_negative_prompt_has_an_area_the_copy_of_the_expressions_text_there_is_fused_too(mini) -> None:
    """ComfyUI evaluates the text once more for that area, under the negative entry's name."""
    area = mini.nodes.ConditioningSetArea().append(mini.negative, 64, 64, 0, 0, 1.0)[0]
    settings = mini.settings.site_settings(mini.bank.site)
    seen: list[torch.Tensor] = []

    def watch(apply_model: Any, args: dict) -> torch.Tensor:
        given, numbers = apply_model(args["input"], args["timestep"], **args["c"]), args["cond_or_uncond"]
        seen.extend(part.clone() for number, part in zip(numbers, given.chunk(len(numbers)), strict=True) if number == 0)
        return given

    def texts(tag: int | None) -> list[torch.Tensor]:
        model = mini.model.clone() if tag is None else mini.attach(mini.model, mini.bank, settings, tag=tag)
        model.set_model_unet_function_wrapper(watch)
        seen.clear()
        step(Graph(model, mini.texts.tagged(mini.neutral, [mini.texts.Pair(0, 0)]), [*mini.negative, *area]))
        return list(seen)

    plain, own, other = texts(None), texts(0), texts(1)
    assert sorted(part.shape[-1] for part in plain) == [8, 16]
    assert all(relative(given, before) > 1e-3 for given, before in zip(own, plain, strict=True))
    assert all(torch.equal(given, before) for given, before in zip(other, plain, strict=True))


def test_features_are_of_the_whole_picture_where_the_negative_prompt_has_an_area(mini) -> None:
    area = mini.nodes.ConditioningSetArea().append(mini.negative, 64, 64, 0, 0, 1.0)[0]
    positive, neutral, _, *rest = mini.run
    bank = mini.extract(mini.model, positive, neutral, [*mini.negative, *area], *rest, site="cross_attention", tokens="all").args[0]
    place = bank.places()[0]
    height, width = bank.grids[place]
    assert width == 2 * height


# Another network


def test_words_are_read_by_the_network_that_was_put_in_the_models_stead(mini) -> None:
    """Before, what was kept of the texts was that of the MODEL's own network."""
    other = copy.deepcopy(mini.model.model.diffusion_model)
    with torch.inference_mode():
        for block in pack.node("host.run").attention_blocks(other).values():
            block.attn2.to_v.weight.mul_(0.5)
    replaced = mini.model.clone()
    replaced.add_object_patch("diffusion_model", other)
    settings = mini.settings.site_settings(mini.bank.site)
    own, given = (mini.extraction.kept_contexts(model, mini.positive[0], mini.neutral[0], settings) for model in (mini.model, replaced))
    values = [key for key in own.tokens if key.endswith(":v")]
    assert values and all(torch.allclose(given.tokens[key], own.tokens[key] * 0.5, atol=1e-6) for key in values)
    assert mini.extraction.kept_contexts(replaced.clone(), mini.positive[0], mini.neutral[0], settings) is given


def compiled(model: Any) -> Any:
    """As newer ComfyUI's TorchCompileModel does it: torch keeps a graph whatever `transformer_options` hold."""
    set_wrapper = importlib.import_module("comfy_api.torch_helpers").set_torch_compile_wrapper
    kept = {"guard_filter_fn": lambda guards: ["transformer_options" not in guard.name for guard in guards]}
    set_wrapper(model, backend="eager", options=kept)
    return model


@pytest.mark.long
def test_a_compiled_network_is_fused_as_the_plain_one(mini, caplog: pytest.LogCaptureFixture) -> None:
    graph = Graph(mini.model, mini.neutral, mini.negative)
    before = step(graph)
    for model in (fused(mini, mask=half()), fused(mini)):
        expected = step(graph._replace(model=model))
        caplog.clear()
        with caplog.at_level("INFO"):
            given = step(graph._replace(model=compiled(model)))
        assert "the MODEL is compiled; what is fused or recorded is drawn uncompiled" in caplog.text
        assert relative(given.uncond, before.uncond) < 1e-5
        assert relative(given.cond, expected.cond) < 1e-5 < 1e-3 < relative(expected.cond, before.cond)


@pytest.mark.long
def test_a_compiled_network_that_was_drawn_without_fusion_is_fused_all_the_same(mini) -> None:
    """It drew the picture without fusion again, to the bit and without a word."""

    def draw(model: Any, strength: float) -> torch.Tensor:
        start, run = {"samples": torch.zeros(1, 4, 8, 8)}, (SEED, 3, CFG, "euler", "normal")
        with torch.inference_mode():  # as ComfyUI runs its nodes
            if not strength:
                return mini.nodes.common_ksampler(model, *run, mini.neutral, mini.negative, start)[0]["samples"]  # type: ignore[no-any-return]
            more = {"neutral": mini.neutral, "base_model": mini.model, "fusion_strength": strength}
            return mini.draw(model, *run, mini.positive, mini.negative, start, 1.0, **more).args[0]["samples"]  # type: ignore[no-any-return]

    plain, expected, model = draw(mini.model, 0), draw(mini.model, 1.5), compiled(mini.model.clone())
    assert relative(draw(model, 0), plain) < 1e-5
    assert relative(draw(model, 1.5), expected) < 1e-5 < 1e-3 < relative(expected, plain)
