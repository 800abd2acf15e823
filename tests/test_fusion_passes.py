"""Fusion in runs of several samplers (refiner steps), with tiled VAEs and with GLIGEN, in real ComfyUI."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch
from distances import relative
from fusion_graphs import Graph, gligen, random_gligen

PERSON = "a photo of a young man, black hair, blue background"
STEPS, SPLIT, CFG, SEED = 8, 4, 4.0, 7


@pytest.fixture(scope="module")
def mini(comfy_modules):
    names = ("extract_expression_features", "apply_attention_focused_fusion", "sampler")
    extract, apply, sampler = map(pack.node, names)
    core = "faceexpr_pack.faceexpr_core"
    side = importlib.import_module(f"{core}.mini").RESOLUTION // 8
    with torch.inference_mode():
        given = pack.mini_asked_to_smile(PERSON)
        model, start = given["model"], {"samples": torch.zeros(1, 4, side, side)}
        run = (given["positive"], given["neutral"], given["negative"], start, SEED, STEPS, CFG, "euler", "normal", 1.0, "happy")
        yield SimpleNamespace(
            **given,
            start=start,
            bank=extract.ExtractExpressionFeatures.execute(model, *run).args[0],
            apply=apply.ApplyAttentionFocusedFusion.execute,
            draw=sampler.Sampler.execute,
            moved_by=pack.node("fusion_inputs").moved_by,
            nodes=comfy_modules.nodes,
            gligen=random_gligen(model, given["clip"]),
            injection=importlib.import_module(f"{core}.fusion.injection"),
            settings=importlib.import_module(f"{core}.fusion.settings"),
            redraw=pack.node("host.redraw"),
            faces=importlib.import_module(f"{core}.fusion.donor_faces"),
        )


def fused(mini, **options) -> Any:
    return mini.apply(mini.model, mini.bank, 1.0, **options).args[0]


def first_steps(mini, model: Any) -> dict:
    """Base steps, which leave their noise."""
    given = ("enable", SEED, STEPS, CFG, "euler", "normal", mini.neutral, mini.negative, mini.start, 0, SPLIT, "enable")
    return mini.nodes.KSamplerAdvanced().sample(model, *given)[0]


def last_steps(mini, model: Any, left: dict, start: int = SPLIT) -> torch.Tensor:
    """Refiner steps, which go on from there."""
    given = ("disable", SEED, STEPS, CFG, "euler", "normal", mini.neutral, mini.negative, left, start, 10000, "disable")
    return mini.nodes.KSamplerAdvanced().sample(model, *given)[0]["samples"]


def counted(model: Any) -> tuple[Any, list[list[int]]]:
    """The MODEL, and a list that grows with what each of its evaluations holds."""
    calls: list[list[int]] = []

    def count(apply_model, args: dict) -> torch.Tensor:
        calls.append(list(args["cond_or_uncond"]))
        return apply_model(args["input"], args["timestep"], **args["c"])

    clone = model.clone()
    clone.set_model_unet_function_wrapper(count)
    return clone, calls


# Refiner steps


@pytest.mark.long
def test_fusion_acts_in_the_steps_of_the_model_that_has_it(mini) -> None:
    side = 8 * mini.start["samples"].shape[-1]
    mask = torch.ones(1, side, side)
    with_fusion = fused(mini, mask=mask)
    plain_start, fused_start = first_steps(mini, mini.model), first_steps(mini, with_fusion)
    neither, first, second, both = (
        last_steps(mini, model, left)
        for left, model in (
            (plain_start, mini.model),
            (fused_start, mini.model),
            (plain_start, with_fusion),
            (fused_start, with_fusion),
        )
    )
    sample = mini.nodes.KSampler().sample
    arguments = (SEED, STEPS, CFG, "euler", "normal", mini.neutral, mini.negative, mini.start, 1.0)
    whole, plain = (sample(model, *arguments)[0]["samples"] for model in (with_fusion, mini.model))
    assert relative(both, whole) < 1e-4 > relative(neither, plain)
    assert min(relative(first, neither), relative(second, neither)) > 1e-3
    assert relative(both, neither) > max(relative(first, neither), relative(second, neither))


@pytest.mark.long
def test_a_window_that_lies_in_the_other_part_changes_nothing_and_that_is_told(mini, caplog) -> None:
    """Before, the step nearest to it was fused, as in a whole schedule too short for the window."""
    high, low = fused(mini, window_low=0.8, window_high=0.95), fused(mini, window_low=0.0, window_high=0.2)
    left = first_steps(mini, mini.model)
    assert torch.equal(last_steps(mini, high, left), last_steps(mini, mini.model, left))
    assert caplog.text.count("no step of this part of the schedule") == 1
    assert torch.equal(first_steps(mini, low)["samples"], left["samples"])
    assert caplog.text.count("no step of this part of the schedule") == 2
    assert relative(first_steps(mini, high)["samples"], left["samples"]) > 1e-4
    assert relative(last_steps(mini, low, left), last_steps(mini, mini.model, left)) > 1e-4


def parts_given(mini: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a context fusion is given at its places from now on: which rows, and where in their pictures."""
    parts: list[Any] = []
    add = mini.injection.Injection.add_context

    def watch(self, place, x, grid, call, given, *rest):
        parts.extend(given)
        return add(self, place, x, grid, call, given, *rest)

    monkeypatch.setattr(mini.injection.Injection, "add_context", watch)
    return parts


def test_in_refiner_steps_the_face_is_seen_before_the_first_change(mini, monkeypatch) -> None:
    """Before, it was looked for in what the base steps left, which is mostly noise, and the first steps were changed everywhere."""
    parts = parts_given(mini, monkeypatch)
    left = first_steps(mini, mini.model)
    model, calls = counted(fused(mini, vae=mini.vae))
    drawn = last_steps(mini, model, left)
    assert len(calls) == STEPS - SPLIT + 1
    pixels = (mini.vae.decode(drawn)[0].clamp(0, 1) * 255).round().byte().numpy()
    moved = mini.moved_by(mini.bank)
    finished = mini.faces.location_of(mini.faces.faces_in(pixels)[0], *pixels.shape[:2], moved).mask >= 0.5
    masks = [where.mask for part in parts for where in part.where]
    assert masks and all(mask is not None for mask in masks)
    assert all(float((finished & (mask >= 0.5)).sum() / (finished | (mask >= 0.5)).sum()) > 0.6 for mask in masks)
    model, calls = counted(fused(mini, vae=mini.vae, window_low=0.8, window_high=0.95))
    last_steps(mini, model, left)
    assert len(calls) == STEPS - SPLIT  # no change, no look


def test_a_change_of_a_picture_is_no_part_of_a_schedule(mini) -> None:
    """It makes its noise itself: its one step, which lies outside the window, is fused as in any other whole schedule."""
    redraw, settings = mini.redraw, mini.settings
    bank = replace(mini.bank, mask=None)
    how = redraw.redrawing(mini.model, mini.negative, 1.0, 1, "normal", 1.0, "Change")
    low = replace(settings.site_settings(settings.default_site(False)), window=(0.0, 0.2))
    given = torch.randn(mini.start["samples"].shape, generator=torch.Generator().manual_seed(3))
    everywhere = torch.ones(8 * given.shape[-2], 8 * given.shape[-1])
    kept, changed = (
        redraw.redraw_latent(how, redraw.Change(given, everywhere, mini.neutral, asked, None)) for asked in (None, (bank, low))
    )
    assert relative(changed, kept) > 1e-3


# A VAE in tiles


@pytest.mark.long
def test_the_face_is_seen_where_comfyui_has_no_room_but_for_tiles(mini, monkeypatch, caplog) -> None:
    """As on a small card: out of memory in the whole picture, then ComfyUI's own tiles (here of half a side, the picture being small)."""
    memory = importlib.import_module("comfy.model_management")
    half = mini.start["samples"].shape[-1] // 2
    whole = mini.vae.first_stage_model.decode

    def decode(latent: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        if latent.shape[-2] * latent.shape[-1] > half**2:
            raise memory.OOM_EXCEPTION("the pretended card is full")
        return whole(latent, *rest, **more)

    parts = parts_given(mini, monkeypatch)
    sample = mini.nodes.KSampler().sample
    arguments = (SEED, STEPS, CFG, "euler", "normal", mini.neutral, mini.negative, mini.start, 1.0)
    plain = sample(mini.model, *arguments)[0]["samples"]
    in_one = sample(fused(mini, vae=mini.vae), *arguments)[0]["samples"]
    expected = parts[-1].where[0].mask >= 0.5
    parts.clear()
    monkeypatch.setattr(mini.vae.first_stage_model, "decode", decode)
    monkeypatch.setattr(mini.vae, "decode_tiled_", partial(mini.vae.decode_tiled_, tile_x=half, tile_y=half, overlap=half // 4))
    in_tiles = sample(fused(mini, vae=mini.vae), *arguments)[0]["samples"]
    assert "retrying with tiled VAE decoding" in caplog.text
    given = parts[-1].where[0].mask >= 0.5
    assert float((given & expected).sum() / (given | expected).sum()) > 0.7
    assert relative(in_tiles, in_one) < 0.5 * relative(in_one, plain)


@pytest.mark.long
def test_tiled_nodes_around_a_fused_run(mini) -> None:
    """VAE Encode (Tiled) before and VAE Decode (Tiled) behind it: the change stays where the mask lies."""
    side = 8 * mini.start["samples"].shape[-1]
    left = torch.zeros(1, side, side)
    left[..., : side // 2] = 1
    picture = mini.nodes.VAEDecodeTiled().decode(mini.vae, mini.start, 64, 16)[0]
    start = mini.nodes.VAEEncodeTiled().encode(mini.vae, picture, 64, 16)[0]
    arguments = (SEED, STEPS, CFG, "euler", "normal", mini.neutral, mini.negative, start, 0.7)
    before, after = (
        mini.nodes.VAEDecodeTiled().decode(mini.vae, mini.nodes.KSampler().sample(model, *arguments)[0], 64, 16)[0]
        for model in (mini.model, fused(mini, mask=left))
    )
    moved = (after - before).abs().mean((0, 1, 3))
    quarters = [float(part.mean()) for part in moved.chunk(4)]
    assert quarters[1] > 5 * quarters[3] > 0


# GLIGEN


@pytest.mark.parametrize("base", [True, False])
def test_the_neutral_text_is_drawn_with_the_boxes_of_the_positive_one(mini, base: bool) -> None:
    graph = gligen(mini, Graph(mini.model, mini.positive, mini.negative))
    with_boxes: set[int] = set()

    def watch(apply_model, args: dict) -> torch.Tensor:
        if "middle_patch" in args["c"]["transformer_options"].get("patches", {}):
            with_boxes.update(args["cond_or_uncond"])
        return apply_model(args["input"], args["timestep"], **args["c"])

    model = mini.model.clone()
    model.set_model_unet_function_wrapper(watch)
    options: dict[str, Any] = {"base_model": mini.model} if base else {"features": mini.bank}
    given, without = (
        mini.draw(model, SEED, 3, CFG, "euler", "normal", text, mini.negative, mini.start, 1.0, neutral=mini.neutral, **options).args[0]
        for text in (graph.positive, mini.positive)
    )
    assert 0 in with_boxes
    assert relative(given["samples"], without["samples"]) > 1e-2
