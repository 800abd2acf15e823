"""Fusion in graphs as portrait makers build them, in real ComfyUI: combined texts, ControlNet, inpainting, batches, photos."""

from __future__ import annotations

import copy
import importlib
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pack
import pytest
import torch
from distances import relative
from fusion_graphs import Graph, controlnet, person_lora, random_controlnet
from skimage.data import astronaut

from faceexpr_core.mini import RESOLUTION

PERSON = "a photo of a young man, black hair, blue background"
STEPS, CFG, SEED = 4, 4.0, 7
PORTRAIT = (1, 4, RESOLUTION // 8, RESOLUTION // 8)


@pytest.fixture(scope="module")
def mini(comfy_modules):
    names = ("extraction", "extract_expression_features", "apply_attention_focused_fusion", "sampler")
    extraction, extract, apply, sampler = map(pack.node, names)
    host, core = pack.host(), "faceexpr_pack.faceexpr_core"
    with torch.inference_mode():
        given = pack.mini_asked_to_smile(PERSON)
        yield SimpleNamespace(
            **given,
            other=host.encode_conditioning(given["clip"], "a green background"),
            extraction=extraction,
            extract=extract.ExtractExpressionFeatures.execute,
            apply=apply.ApplyAttentionFocusedFusion.execute,
            draw=sampler.Sampler.execute,
            refine=pack.node("refine"),
            texts=pack.node("host.texts"),
            nodes=comfy_modules.nodes,
            error=comfy_modules.core.errors.FaceExprError,
            injection=importlib.import_module(f"{core}.fusion.injection"),
            look=importlib.import_module(f"{core}.fusion.look"),
            faces=importlib.import_module(f"{core}.fusion.donor_faces"),
            lora=person_lora(comfy_modules.home),
            controlnet=random_controlnet(given["model"]),
        )


def latent(shape: tuple[int, ...] = (1, 4, 8, 16), **extra) -> dict:
    return {"samples": torch.zeros(shape), **extra}


def drawn(
    mini, positive=None, neutral=None, *, negative=None, model=None, start=None, denoise: float = 1.0, steps: int = STEPS, **options
) -> torch.Tensor:
    texts = positive or mini.positive, negative or mini.negative
    arguments = (SEED, steps, CFG, "euler", "normal", *texts, start or latent(), denoise)
    return mini.draw(model or mini.model, *arguments, neutral=neutral or mini.neutral, **options).args[0]["samples"]


def extracted(mini, positive=None, neutral=None, *, start=None, steps: int = STEPS, **options):
    run = (start or latent(), SEED, steps, CFG, "euler", "normal", 1.0, "happy")
    return mini.extract(mini.model, positive or mini.positive, neutral or mini.neutral, mini.negative, *run, **options).args[0]


def combined(mini, one, other):
    return mini.nodes.ConditioningCombine().combine(one, other)[0]


def same_tokens(one, other) -> bool:
    return one.tokens.keys() == other.tokens.keys() and all(torch.equal(one.tokens[key], other.tokens[key]) for key in one.tokens)


def test_an_empty_mask_is_told_with_its_picture(mini, caplog) -> None:
    """Load Image gives one for a picture without alpha."""
    bank, empty = extracted(mini), torch.zeros(1, 64, 64)
    for masks, told in (
        (empty, "the mask is empty, so that nothing is fused there"),
        (torch.cat([empty + 1, empty, empty]), "the mask of picture 2, 3 of the batch is empty"),
        (empty + 0.1, ""),
    ):
        caplog.clear()
        model = mini.apply(mini.model, bank, 1.0, mask=masks).args[0]
        assert told in caplog.text if told else not caplog.messages
        assert bool(model.model_options["transformer_options"].get("patches")) == (masks is not empty)


# Texts


@pytest.mark.parametrize("site", ["default", "cross_attention"])
def test_features_of_combined_texts_are_those_of_the_one_with_the_expression_in_either_order(mini, site: str) -> None:
    alone = extracted(mini, site=site)
    for pair in ((mini.positive, mini.other), (mini.other, mini.positive)):
        given = extracted(mini, combined(mini, *pair), site=site)
        if site == "default":
            assert same_tokens(given, alone)
            continue
        nearest = max(given.sigmas)  # later ones follow another picture
        keys = [key for key in alone.tokens if key.endswith(("@0:e", "@0:n"))]
        assert nearest == max(alone.sigmas) and keys
        assert all(relative(given.tokens[key].float(), alone.tokens[key].float()) < 0.2 for key in keys)


def test_combined_texts_draw_the_expression_in_either_order(mini) -> None:
    options = {"base_model": mini.model}
    plain = drawn(mini, combined(mini, mini.neutral, mini.other))
    first, second = (drawn(mini, combined(mini, *pair), **options) for pair in ((mini.positive, mini.other), (mini.other, mini.positive)))
    assert relative(first, plain) > 1e-2
    assert relative(second, first) < 1e-4
    both = combined(mini, mini.neutral, mini.other)
    assert relative(drawn(mini, combined(mini, mini.positive, mini.other), both, **options), first) < 1e-4


def test_texts_are_paired_by_what_they_say(mini) -> None:
    def pairs(expression: list, neutral: list) -> list[tuple[int, int]]:
        sides = ([entry for text in side for entry in text] for side in (expression, neutral))
        return [tuple(pair) for pair in mini.texts.pair_texts(*sides)]

    happy, rest, other, blurry = mini.positive, mini.neutral, mini.other, mini.negative
    assert pairs([happy], [rest]) == [(0, 0)]
    assert pairs([other, happy], [rest]) == [(1, 0)]
    assert pairs([other, happy], [rest, other]) == [(1, 0)]
    assert pairs([happy, other], [rest, blurry]) == [(0, 0), (1, 1)]
    assert pairs([happy, other, blurry], [rest]) == [(0, 0)]
    assert pairs([rest], [rest]) == [(0, 0)]
    assert pairs([rest, other], [rest]) == [(0, 0)]  # the other one was drawn as the neutral text
    assert pairs([rest], [other, rest]) == [(0, 1)]


def test_texts_without_a_counterpart_are_told(mini, caplog) -> None:
    def told(expression: list, neutral: list, **options: Any) -> list[str]:
        caplog.clear()
        drawn(mini, *([entry for text in side for entry in text] for side in (expression, neutral)), **options)
        return [re.split("[:,] ", line)[1] for line in caplog.messages if line.startswith("FaceExpr Sampler: ")]

    happy, rest, other, blurry = mini.positive, mini.neutral, mini.other, mini.negative
    words = {"base_model": mini.model}
    assert told([other, happy], [rest, other], **words) == []
    assert told([other, happy], [rest, other], fusion_text="positive", **words) == []
    assert told([happy, other], [rest], **words) == ["text 2 of positive has no counterpart in neutral"]
    assert told([happy], [blurry, rest], **words) == ["text 1 of neutral has no counterpart in positive"]
    assert told([happy, happy], [rest], features=extracted(mini)) == ["text 2 of positive has no counterpart in neutral"]
    assert told([happy, happy], [rest], **words, fusion_strength=0.0) == []


def test_of_texts_that_say_the_same_nothing_is_fused_and_that_is_told(mini, monkeypatch, caplog) -> None:
    """Nor is anything read of them, or decoded to see the face."""
    asked: list[Any] = []
    monkeypatch.setattr(mini.extraction, "_contexts", lambda *given: asked.append(given))
    monkeypatch.setattr(mini.vae, "decode", lambda *given: asked.append(given))
    given = drawn(mini, mini.neutral, base_model=mini.model, vae=mini.vae)
    assert torch.equal(given, drawn(mini, mini.neutral)) and not asked
    assert "nothing is fused: no text of positive says something else than its own in neutral" in caplog.text
    monkeypatch.undo()
    bank = extracted(mini, mini.neutral)
    assert bank.says_nothing and not extracted(mini).says_nothing
    assert not mini.apply(mini.model, bank, 1.0).args[0].model_options["transformer_options"].get("patches")
    assert torch.equal(drawn(mini, mini.neutral, features=bank), drawn(mini, mini.neutral))
    assert caplog.text.count("the features change nothing") == 3  # extracted, applied, given to the sampler


def test_two_texts_with_an_expression_each_are_too_many_for_one_node(mini) -> None:
    two = combined(mini, mini.positive, mini.other), combined(mini, mini.neutral, mini.negative)
    with pytest.raises(mini.error, match="differ in 2"):
        extracted(mini, *two)


@pytest.mark.parametrize("fusion", ["base_model", "features"])
def test_the_neutral_text_is_drawn_with_the_controlnet_of_the_positive_one(mini, fusion: str) -> None:
    graph = controlnet(mini, Graph(mini.model, mini.positive, mini.negative))
    controlled: set[int] = set()

    def watch(apply_model, args: dict) -> torch.Tensor:
        if args["c"].get("control") is not None:
            controlled.update(args["cond_or_uncond"])
        return apply_model(args["input"], args["timestep"], **args["c"])

    model = mini.model.clone()
    model.set_model_unet_function_wrapper(watch)
    options: dict[str, Any] = {"base_model": mini.model} if fusion == "base_model" else {"features": extracted(mini)}
    drawn(mini, graph.positive, negative=graph.negative, model=model, **options)
    assert controlled == {0, 1}


def test_what_belongs_to_places_and_times_stays_while_the_neutral_text_is_drawn(mini) -> None:
    area = mini.nodes.ConditioningSetArea().append(mini.positive, 64, 64, 0, 0, 0.7)[0]
    ranged = mini.nodes.ConditioningSetTimestepRange().set_range(area, 0.1, 0.9)[0]
    both = combined(mini, ranged, mini.other)
    rest = mini.texts.at_rest(both, mini.neutral, mini.texts.pair_texts(both, mini.neutral))
    assert torch.equal(rest[0][0], mini.neutral[0][0])
    assert torch.equal(rest[0][1]["pooled_output"], mini.neutral[0][1]["pooled_output"])
    assert (rest[0][1]["area"], rest[0][1]["strength"], rest[0][1]["start_percent"]) == ((8, 8, 0, 0), 0.7, 0.1)
    assert rest[1][0] is mini.other[0][0]
    faces = torch.zeros(1, 16, 96)  # InstantID gives its ControlNet a text of its own
    instant = [[hidden, {**extra, "cross_attn_controlnet": faces}] for hidden, extra in mini.positive]
    assert mini.texts.at_rest(instant, mini.neutral, [mini.texts.Pair(0, 0)])[0][1]["cross_attn_controlnet"] is faces
    seen = {"clip_vision_output": object(), "strength": 1.0, "noise_augmentation": 0.0}
    revision = [[hidden, {**extra, "unclip_conditioning": [seen], "width": 512}] for hidden, extra in mini.positive]
    (kept,) = mini.texts.at_rest(revision, mini.neutral, [mini.texts.Pair(0, 0)])
    assert kept[1]["unclip_conditioning"] == [seen] and kept[1]["width"] == 512  # SDXL Revision's pictures, and sizes
    assert torch.equal(kept[1]["pooled_output"], mini.neutral[0][1]["pooled_output"])
    own = mini.nodes.ConditioningSetArea().append(mini.neutral, 32, 64, 0, 0, 1.0)[0]
    assert mini.texts.at_rest(ranged, own, [mini.texts.Pair(0, 0)])[0][1]["area"] == (8, 4, 0, 0)


def test_a_text_with_a_time_range_gives_keys_and_values_or_says_why_not(mini) -> None:
    late = mini.nodes.ConditioningSetTimestepRange().set_range(mini.positive, 0.4, 1.0)[0]
    assert same_tokens(extracted(mini, late), extracted(mini))
    never = mini.nodes.ConditioningSetTimestepRange().set_range(mini.positive, 0.97, 1.0)[0]
    with pytest.raises(mini.error, match="time range"):
        extracted(mini, never, site="cross_attention", window_low=0.3)
    levels = extracted(mini, steps=8, site="cross_attention").sigmas
    said = extracted(mini, late, steps=8, site="cross_attention").sigmas
    assert 0 < len(said) < len(levels)


def test_an_expression_scale_without_a_neutral_text_is_refused(mini) -> None:
    arguments = (mini.model, SEED, 2, CFG, "euler", "normal", mini.positive, mini.negative, latent(), 1.0)
    with pytest.raises(mini.error, match=r"expression_scale 1\.5 but no neutral"):
        mini.draw(*arguments, expression_scale=1.5)


# Photos


def photo() -> torch.Tensor:
    return torch.from_numpy(astronaut().astype(np.float32))[None] / 255


def test_a_photos_features_take_nothing_of_the_pictures_places(mini) -> None:
    graph = controlnet(mini, Graph(mini.model, mini.positive, mini.negative))
    area = mini.nodes.ConditioningSetArea().append(graph.positive, 64, 32, 0, 0, 1.0)[0]
    ranged = mini.nodes.ConditioningSetTimestepRange().set_range(area, 0.0, 0.3)[0]
    options = {"photo": photo(), "vae": mini.vae, "photo_neutral": "none", "start": latent((1, 4, 12, 12))}
    plain = extracted(mini, **options)
    assert same_tokens(extracted(mini, ranged, **options), plain)


def test_several_photos_are_refused(mini) -> None:
    start = latent((1, 4, 12, 12))
    with pytest.raises(mini.error, match="photo holds 2 pictures"):
        extracted(mini, photo=photo().repeat(2, 1, 1, 1), vae=mini.vae, start=start)
    with pytest.raises(mini.error, match="neutral_photo holds 3 pictures"):
        extracted(mini, photo=photo(), neutral_photo=photo().repeat(3, 1, 1, 1), vae=mini.vae, start=start)
    with pytest.raises(mini.error, match="without a photo"):
        extracted(mini, neutral_photo=photo(), vae=mini.vae, start=start)


# Where


def watched(mini, monkeypatch) -> list[Any]:
    """Grows with the parts of each change of keys and values."""
    parts: list[Any] = []
    add = mini.injection.Injection.add_context

    def watch(self, place, x, grid, call, given, *rest):
        parts.append((call.sigma, given))
        return add(self, place, x, grid, call, given, *rest)

    monkeypatch.setattr(mini.injection.Injection, "add_context", watch)
    return parts


def test_the_face_is_seen_in_the_picture_that_is_drawn_and_not_in_the_base_models(mini, monkeypatch) -> None:
    """The base model draws somebody else; with the look of before, the overlap with the person's own face was 0.78, at the least 0.56."""
    parts = watched(mini, monkeypatch)
    base, _ = mini.nodes.LoraLoader().load_lora(mini.model, mini.clip, mini.lora, 2.0, 0.0)
    given = drawn(mini, start=latent((2, *PORTRAIT[1:])), steps=10, base_model=base, vae=mini.vae, fusion_strength=0.2)
    (part,) = parts[-1][1]
    assert len(part.where) == 2
    for picture, where in zip(mini.vae.decode(given), part.where, strict=True):
        pixels = (picture.clamp(0, 1) * 255).round().byte().numpy()
        face = mini.faces.faces_in(pixels)[0]
        finished, seen = mini.faces.location_of(face, *pixels.shape[:2], ()).mask >= 0.5, where.mask >= 0.5
        assert float((finished & seen).sum() / (finished | seen).sum()) > 0.85
    assert len({id(where.mask) for _, (part,) in parts for where in part.where}) == 4  # looked twice at either


# Small faces


def small_face(mini) -> dict:
    portrait = mini.vae.decode(drawn(mini, start=latent(PORTRAIT), steps=6))
    return {"samples": mini.vae.encode(torch.cat([portrait, torch.full_like(portrait, 0.5)], 2))}


def test_small_faces_outside_a_noise_mask_are_left_alone(mini) -> None:
    start = small_face(mini)
    none, left, right = (torch.zeros(1, RESOLUTION, 2 * RESOLUTION) for _ in range(3))
    left[..., :RESOLUTION], right[..., RESOLUTION:] = 1, 1
    for mask, changes in ((none, False), (right, False), (left, True)):
        given = drawn(mini, start={**start, "noise_mask": mask}, denoise=0.0, vae=mini.vae, refine_below=1.0)
        assert torch.equal(given, start["samples"]) != changes
    rows = round(0.6 * PORTRAIT[-2])
    half = torch.zeros(1, RESOLUTION, 2 * RESOLUTION)
    half[:, : 8 * rows] = 1
    given = drawn(mini, start={**start, "noise_mask": half}, denoise=0.0, vae=mini.vae, refine_below=1.0)
    moved = (given - start["samples"]).abs().amax((0, 1))
    assert moved[:rows].max() > 0
    assert moved[rows:].max() == 0


def test_what_small_faces_are_to_be_fused_with_is_asked_for_though_the_picture_is_not_drawn(mini) -> None:
    """As in the template, with a base model connected to it: nothing was fused, in silence."""
    start = beside_each_other(mini, 110)
    arguments = (SEED, STEPS, CFG, "euler", "normal", mini.positive, mini.negative, start, 0.0)
    with pytest.raises(Exception, match=r"got a base_model but no neutral conditioning\. Connect the second output"):
        mini.draw(mini.model, *arguments, base_model=mini.model, vae=mini.vae, refine_below=1.0)
    untouched = mini.draw(mini.model, *arguments, base_model=mini.model, vae=mini.vae).args[0]["samples"]
    assert torch.equal(untouched, start["samples"])


def test_a_small_face_is_drawn_at_the_size_that_the_model_was_made_for(mini, monkeypatch) -> None:
    sizes = drawn_sizes(mini, monkeypatch)
    start = beside_each_other(mini, 110)
    drawn(mini, start=start, denoise=0.0, vae=mini.vae, refine_below=1.0)
    assert sizes == [PORTRAIT[2:]]


def test_a_face_that_is_larger_than_it_would_be_drawn_stays_as_it_is_and_that_is_told(mini, monkeypatch, caplog) -> None:
    """Before, it was made smaller, drawn, and made larger again, blurred."""
    monkeypatch.setattr(pack.node("refine").small_faces, "SHRUNK", 1.0)
    sizes = drawn_sizes(mini, monkeypatch)
    start = beside_each_other(mini, 110, 300)
    given = drawn(mini, start=start, denoise=0.0, vae=mini.vae, refine_below=1.0)
    assert sizes == [PORTRAIT[2:]]
    moved = (given - start["samples"]).abs().amax((0, 1))
    assert moved[:, :40].max() > 0
    assert moved[:, 56:].max() == 0
    (told,) = (line for line in caplog.messages if "made smaller" in line)
    assert f"at {RESOLUTION} pixels" in told and told.count("pixels") == 2


def drawn_sizes(mini, monkeypatch) -> list[tuple[int, ...]]:
    """The sizes at which faces are drawn again, filled as that happens."""
    refine, sizes = mini.refine.refine_faces, []

    def watch(vae, given, below, side, draw, *rest):
        def drawing(face: dict, spot: Any) -> dict:
            sizes.append(tuple(face["samples"].shape[2:]))
            return draw(face, spot)

        return refine(vae, given, below, side, drawing, *rest)

    monkeypatch.setattr(pack.node("sampler"), "refine_faces", watch)
    return sizes


def beside_each_other(mini, *sides: int) -> dict:
    """A picture of twice Mini's height, with a portrait of each side on grey."""
    portrait = mini.vae.decode(drawn(mini, start=latent(PORTRAIT), steps=6)).movedim(-1, 1)
    page = torch.full((1, 3, 2 * RESOLUTION, 4 * RESOLUTION), 0.5)
    for number, side in enumerate(sides):
        left = 40 + number * 2 * RESOLUTION
        page[:, :, 40 : 40 + side, left : left + side] = torch.nn.functional.interpolate(portrait, (side, side), mode="bilinear")
    return {"samples": mini.vae.encode(page.movedim(1, -1))}


# What it costs


@pytest.mark.parametrize("count", [1, 8])
def test_each_fused_attention_asks_its_layers_once_whatever_the_batch(mini, count: int) -> None:
    unet = mini.model.model.diffusion_model
    calls = {"to_q": 0, "to_out": 0}
    handles = []
    for block in pack.node("host.run").attention_blocks(unet).values():
        for name in calls:

            def note(*given: Any, name: str = name) -> None:
                calls[name] += 1

            handles.append(getattr(block.attn2, name).register_forward_hook(note))
    bank = extracted(mini)
    try:
        for fused in (False, True):
            calls.update(to_q=0, to_out=0)
            model = mini.apply(mini.model, bank, 1.0).args[0] if fused else mini.model
            samplers = importlib.import_module("comfy.samplers")
            guider = samplers.CFGGuider(model)
            guider.set_conds(mini.neutral, mini.negative)
            guider.set_cfg(CFG)
            zeros, sigmas = torch.zeros(count, 4, 8, 8), torch.tensor([1.7, 0.0])
            guider.sample(zeros, zeros, samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=SEED)
            assert calls == {name: 11 + fused * len(bank.places()) for name in calls}
    finally:
        for handle in handles:
            handle.remove()


def test_the_network_that_runs_is_asked_and_not_that_of_the_model_in_the_graph(mini) -> None:
    """As with hooks under ComfyUI's dynamic VRAM, or on several GPUs: a clone whose modules are others."""
    other = copy.deepcopy(mini.model.model.diffusion_model)
    with torch.inference_mode():
        for block in pack.node("host.run").attention_blocks(other).values():
            block.attn2.to_q.weight.mul_(0.5)
            block.attn2.to_out[0].weight.mul_(1.5)

    def on_other(model):
        clone = model.clone()
        clone.add_object_patch("diffusion_model", other)
        return clone

    bank = extracted(mini)
    first, last = on_other(mini.apply(mini.model, bank, 1.0).args[0]), mini.apply(on_other(mini.model), bank, 1.0).args[0]
    arguments = (SEED, STEPS, CFG, "euler", "normal", mini.neutral, mini.negative, latent(), 1.0)
    given, expected, plain = (mini.draw(model, *arguments).args[0]["samples"] for model in (first, last, on_other(mini.model)))
    assert torch.equal(given, expected)
    assert relative(given, plain) > 1e-3
