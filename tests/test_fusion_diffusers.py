"""Attention-Focused Fusion on diffusers' U-Net: what must not change to the bit, and what must change, at every site."""

from __future__ import annotations

import copy
import dataclasses
import math
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from faceexpr_core import mini
from faceexpr_core.diffusers_host import donors as diffusers_donors
from faceexpr_core.diffusers_host import encoding, pipeline, sampling
from faceexpr_core.diffusers_host.fusion import Fusion, Rows, apply_fusion, places_of, record, transformer_blocks
from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.faces.images import read_rgb
from faceexpr_core.fusion import donors
from faceexpr_core.fusion.bank import FeatureBank
from faceexpr_core.fusion.donor_faces import crop_photos, locate, moved_in
from faceexpr_core.fusion.formulas import adain
from faceexpr_core.fusion.grids import resize
from faceexpr_core.fusion.recorder import Recorder, load_bank, save_bank
from faceexpr_core.fusion.run import Run
from faceexpr_core.fusion.settings import (
    SITES,
    WORDS_STRENGTH,
    FusionSettings,
    default_site,
    paper_settings,
    site_settings,
    window_range,
)
from faceexpr_core.text import ExpressionPrompt, build_prompts, expression_terms

PERSON = "a photo of a young man, black hair, blue background"
SEED, CFG, SIDE = 5, 4.0, 64
SIGMAS = (14.6, 4.0, 2.0, 0.5, 0.0)
INSIDE = 2.0
RUN = Run(SEED, cfg=CFG, width=SIDE, height=SIDE, sigmas=SIGMAS)


@cache
def _prompt(pipe, expression: str) -> ExpressionPrompt:
    return build_prompts(PERSON, expression_terms(expression), partial(encoding.count_tokens, pipe))


@cache
def _bank(pipe, site: str, expression: str = "surprised") -> FeatureBank:
    return diffusers_donors.draw_donors(pipe, _prompt(pipe, expression), settings_of(site), RUN, keep="all").bank


def settings_of(site: str, **changes) -> FusionSettings:
    base = site_settings(site)
    return dataclasses.replace(base, **{"layers": base.layers if site == "skip" else "all", **changes})


def equal_twins(bank: FeatureBank) -> FeatureBank:
    """The bank with the neutral features in the place of the expression's."""
    tokens = {key: bank.tokens[key.replace(":e", ":n")] if ":e" in key else value for key, value in bank.tokens.items()}
    return dataclasses.replace(bank, tokens=tokens)


@cache
def _plain(pipe, width: int = SIDE, height: int = SIDE) -> torch.Tensor:
    return draw(pipe, width=width, height=height)


def draw(pipe, *fusions: Fusion, **options) -> torch.Tensor:
    """A picture of the neutral prompt with fusions."""
    run = dataclasses.replace(RUN, **{name: options.pop(name) for name in vars(RUN).keys() & options.keys()})
    return sampling.generate(pipe, _prompt(pipe, "neutral"), run, fusion=list(fusions), **options)


def moved(given: torch.Tensor, expected: torch.Tensor) -> float:
    return float((given.float() - expected.float()).abs().mean())


def latents(rows: int = 2, height: int = 8, width: int = 8) -> torch.Tensor:
    one = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(3)) * math.sqrt(1 + INSIDE**2)
    return one.repeat(rows, 1, 1, 1)


def evaluate(pipe, x: torch.Tensor, sigma: float = INSIDE, expression: str = "neutral") -> torch.Tensor:
    """One call of the U-Net: an unconditional row, then conditional ones."""
    texts = [
        encoding.encode_prompts(pipe, [""]),
        *[encoding.encode_prompts(pipe, [_prompt(pipe, expression).expressions[0]])] * (len(x) - 1),
    ]
    hidden, pooled = (torch.cat(parts) for parts in zip(*texts, strict=True))
    return sampling.predict_epsilon(pipe, x, sigma, hidden, pooled)


def rows_at(sigma: float, count: int = 1, cfg: float = 5.0, schedule: tuple[float, ...] = ()) -> Rows:
    return Rows(tuple(range(1, count + 1)), tuple(range(count)), cfg, schedule, sigma)


def outputs_of(pipe, x: torch.Tensor, sigma: float = INSIDE) -> dict[str, torch.Tensor]:
    """What every layer of the U-Net gives in one call."""
    seen: dict[str, torch.Tensor] = {}
    handles = []
    for name, module in pipe.unet.named_modules():

        def hook(_module, _inputs, output, name=name) -> None:
            first = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
            if isinstance(first, torch.Tensor) and len(first) == len(x):
                seen[name] = first.clone()

        handles.append(module.register_forward_hook(hook))
    try:
        evaluate(pipe, x, sigma)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def features_of(pipe, sites: str, x: torch.Tensor, *fusions, sigma: float = INSIDE, cfg: float = 5.0) -> dict[str, torch.Tensor]:
    """Features at each place of a site, or of several ("skip+cross_attention"), in one call with fusions (bank, settings, more)."""
    seen: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:
        for bank, settings, *more in fusions:
            fusion = Fusion(bank, settings, **(more[0] if more else {}))
            stack.enter_context(apply_fusion(pipe.unet, fusion, rows_at(sigma, len(x) - 1, cfg)))
        for site in sites.split("+"):
            stack.enter_context(
                record(pipe.unet, site, places_of(pipe.unet, site), lambda place, tensor, grid: seen.update({place: tensor.clone()}))
            )
        evaluate(pipe, x, sigma)
    return seen


# Places


def test_places_are_named_as_comfyui_numbers_its_blocks() -> None:
    from diffusers import UNet2DConditionModel

    sdxl = UNet2DConditionModel.load_config(pipeline.SDXL_CONFIGS / "unet")
    small = {"block_out_channels": [32, 32, 32], "attention_head_dim": [2, 2, 2], "transformer_layers_per_block": [1, 2, 3]}
    unet = UNet2DConditionModel.from_config({**sdxl, **small, "cross_attention_dim": 32})
    assert places_of(unet, "skip") == tuple(f"input.{number}" for number in range(9))
    places = places_of(unet, "cross_attention")
    depth = {"input.4": 2, "input.5": 2, "input.7": 3, "input.8": 3, "middle.0": 3}
    depth |= {f"output.{number}": 3 for number in range(3)} | {f"output.{number}": 2 for number in range(3, 6)}
    assert places == tuple(f"{name}.{layer}" for name, layers in depth.items() for layer in range(layers))
    blocks = transformer_blocks(unet)
    assert blocks["input.8.1"] is unet.down_blocks[2].attentions[1].transformer_blocks[1]
    assert blocks["output.2.2"] is unet.up_blocks[0].attentions[2].transformer_blocks[2]
    assert blocks["output.3.1"] is unet.up_blocks[1].attentions[0].transformer_blocks[1]


def test_skips_are_recorded_where_the_decoder_takes_them(pipe) -> None:
    given = features_of(pipe, "skip", latents())
    modules = outputs_of(pipe, latents())
    down = pipe.unet.down_blocks
    names = ["conv_in"]
    for level, block in enumerate(down):
        kind = "attentions" if hasattr(block, "attentions") else "resnets"
        names += [f"down_blocks.{level}.{kind}.{layer}" for layer in range(len(block.resnets))]
        names += [f"down_blocks.{level}.downsamplers.0"] * (block.downsamplers is not None)
    assert len(names) == len(given) == 9
    assert all(torch.equal(given[f"input.{number}"], modules[name]) for number, name in enumerate(names))


# What must not change


@pytest.mark.parametrize("site", SITES)
def test_strength_zero_and_equal_twins_change_no_bit(pipe, site: str) -> None:
    bank = _bank(pipe, site)
    assert torch.equal(draw(pipe, Fusion(bank, settings_of(site, strength=0.0))), _plain(pipe))
    assert torch.equal(draw(pipe, Fusion(equal_twins(bank), settings_of(site))), _plain(pipe))


@pytest.mark.parametrize("site", SITES)
def test_unconditional_rows_keep_every_bit_at_every_layer_and_conditional_ones_change(pipe, site: str) -> None:
    expected = outputs_of(pipe, latents(3))
    with apply_fusion(pipe.unet, Fusion(_bank(pipe, site), settings_of(site)), rows_at(INSIDE, 2)):
        given = outputs_of(pipe, latents(3))
    assert given.keys() == expected.keys()
    assert len(given) > 100
    assert all(torch.equal(given[name][0], expected[name][0]) for name in given)
    assert not torch.equal(given[""][1], expected[""][1])
    assert torch.allclose(given[""][1], given[""][2], atol=1e-4)
    assert all(torch.equal(after, expected[name]) for name, after in outputs_of(pipe, latents(3)).items())


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("sigma", [4.0, 0.5])
def test_outside_the_window_nothing_changes(pipe, site: str, sigma: float) -> None:
    bank = _bank(pipe, site)
    assert sigma in bank.sigmas or not bank.sigmas  # there is something to fuse
    expected = evaluate(pipe, latents(), sigma)
    with apply_fusion(pipe.unet, Fusion(bank, settings_of(site, window=(0.3, 0.7))), rows_at(sigma)):
        assert torch.equal(evaluate(pipe, latents(), sigma), expected)


def test_outside_the_window_the_very_object_goes_on(pipe) -> None:
    attention = transformer_blocks(pipe.unet)["middle.0.0"].attn2
    before, after = [], []
    first = attention.register_forward_hook(lambda _module, _inputs, output: before.append(output))
    with apply_fusion(
        pipe.unet, Fusion(_bank(pipe, "cross_attention"), settings_of("cross_attention", window=(0.3, 0.7))), (rows := rows_at(4.0))
    ):
        last = attention.register_forward_hook(lambda _module, _inputs, output: after.append(output))
        evaluate(pipe, latents(), 4.0)
        rows.sigma = INSIDE
        evaluate(pipe, latents(), INSIDE)
        last.remove()
    first.remove()
    assert after[0] is before[0]
    assert after[1] is not before[1]


def test_in_the_epsilon_mode_the_neutral_row_stays_as_it_is(pipe) -> None:
    seen: list[torch.Tensor] = []
    handle = pipe.unet.register_forward_hook(lambda _module, _inputs, output: seen.append(output.sample.clone()))
    try:
        bank, settings = _bank(pipe, "cross_attention"), settings_of("cross_attention", window=(0.0, 1.0))
        for fusions in ([], [Fusion(bank, settings)]):
            draw(pipe, *fusions, expression_scale=1.5, sigmas=(bank.sigmas[0], 0.0))
    finally:
        handle.remove()
    assert torch.equal(seen[0][:2], seen[1][:2])
    assert not torch.equal(seen[0][2], seen[1][2])


# What must change


@pytest.mark.parametrize("site", SITES)
def test_each_site_changes_the_picture_more_with_more_strength(pipe, site: str) -> None:
    bank = _bank(pipe, site)
    weak, strong = (moved(draw(pipe, Fusion(bank, settings_of(site, strength=strength))), _plain(pipe)) for strength in (0.3, 2.0))
    assert 0 < weak < strong


def test_a_bank_with_settings_is_fused_where_its_mask_lies(pipe) -> None:
    settings = settings_of("cross_attention")
    mask = torch.zeros(SIDE, SIDE)
    mask[:, : SIDE // 2] = 1
    bank = _bank(pipe, "cross_attention")
    bank = dataclasses.replace(bank, mask=mask, notes={**bank.notes, "regions": "brows,mouth"})
    given = sampling.generate(pipe, _prompt(pipe, "neutral"), RUN, fusion=(bank, settings))
    assert torch.equal(given, draw(pipe, Fusion(bank, settings, mask)))
    assert not torch.equal(given, draw(pipe, Fusion(bank, settings)))
    words = _prompt(pipe, "neutral").neutral
    (own,) = sampling.fusions_of(bank, settings, RUN, 1, words)
    assert own.mask is mask and own.moved is None
    seed, size = dataclasses.replace(RUN, seed=99), dataclasses.replace(RUN, height=2 * SIDE)
    for elsewhere in ((seed, 1, words), (RUN, 2, words), (size, 1, words), (RUN, 1, "a dog")):
        (one,) = sampling.fusions_of(bank, settings, *elsewhere)
        assert one.mask is None and one.moved == moved_in(bank.notes) == ("brows", "mouth")
    (words_alone,) = sampling.fusions_of(dataclasses.replace(bank, mask=None), settings, RUN, 1, words)
    assert words_alone.moved  # nothing says where the face is


def test_at_strength_0_no_face_is_looked_for(pipe, monkeypatch) -> None:
    """That would be a decode."""
    looks: list[int] = []
    monkeypatch.setattr(sampling, "_decoded", lambda *_: looks.append(1))
    off = settings_of("cross_attention", strength=0.0)
    run = dataclasses.replace(RUN, seed=99)
    given = sampling.generate(pipe, _prompt(pipe, "neutral"), run, fusion=(_bank(pipe, "cross_attention"), off))
    assert torch.equal(given, sampling.generate(pipe, _prompt(pipe, "neutral"), run)) and not looks


@pytest.mark.parametrize("site", ["cross_attention", "cross_attention_difference"])
def test_a_mask_holds_the_change_to_its_tokens(pipe, site: str) -> None:
    bank, settings = _bank(pipe, site), settings_of(site)
    left = torch.zeros(64, 64)
    left[:, :32] = 1
    plain = features_of(pipe, "cross_attention", latents())["input.4.0"]
    given = features_of(pipe, "cross_attention", latents(), (bank, settings, {"mask": left}))["input.4.0"]
    changed = (given - plain)[1].abs().sum(-1).unflatten(0, (4, 4)) > 0
    assert changed[:, :2].any()
    assert not changed[:, 2:].any()


def test_two_fusions_act_together(pipe) -> None:
    """At the first attention, before any skip is taken, as that of the attention alone; at the deepest skip nearly as both, added."""
    one, other = (_bank(pipe, "cross_attention"), settings_of("cross_attention")), (_bank(pipe, "skip"), settings_of("skip", strength=2.0))
    ways = {"plain": (), "first": (one,), "second": (other,), "both": (one, other), "turned": (other, one)}
    found = {name: features_of(pipe, "skip+cross_attention", latents(), *fusions) for name, fusions in ways.items()}
    attended, skips = ({name: places[place][1] for name, places in found.items()} for place in ("input.4.0", "input.8"))
    assert torch.equal(attended["both"], attended["first"]) and torch.equal(attended["second"], attended["plain"])
    by_first, by_second, by_both = (skips[name] - skips["plain"] for name in ("first", "second", "both"))
    assert min(by_first.norm(), by_second.norm()) > 0.1 * by_both.norm()
    assert (by_both - by_first - by_second).norm() < 0.05 * by_both.norm()
    assert torch.equal(skips["turned"], skips["both"])


def test_two_faces_with_a_mask_each_get_their_own_expression(pipe) -> None:
    left = torch.zeros(64, 64)
    left[:, :32] = 1
    settings = settings_of("cross_attention")
    surprised, happy = (_bank(pipe, "cross_attention", expression) for expression in ("surprised", "happy"))
    one, other = (surprised, settings, {"mask": left}), (happy, settings, {"mask": 1 - left})
    plain, first, second, both = (
        features_of(pipe, "cross_attention", latents(), *fusions)["input.4.0"][1].unflatten(0, (4, 4))
        for fusions in ((), (one,), (other,), (one, other))
    )
    assert torch.equal(both[:, :2], first[:, :2])
    change, expected = ((given - plain)[:, 2:].flatten() for given in (both, second))
    assert torch.cosine_similarity(change, expected, dim=0) > 0.5  # the second matches tokens that the first has changed
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("site", "width", "height"), [(site, 64 + 32 * (number % 2), 96 - 8 * number) for number, site in enumerate(SITES)]
)
def test_a_donor_of_another_size_serves(pipe, site: str, width: int, height: int) -> None:
    """It changes the picture about as much as one of its own size, and position by position it carries the donor's map, resized."""
    bank = _bank(pipe, site)
    given, own = (draw(pipe, Fusion(bank, settings_of(site)), width=wide, height=high) for wide, high in ((width, height), (SIDE, SIDE)))
    assert given.shape == (1, height, width, 3)
    assert 1 / 3 < moved(given, _plain(pipe, width, height)) / moved(own, _plain(pipe)) < 3
    if site == "cross_attention_difference":  # words have no positions
        return
    place = "input.4.0" if site == "cross_attention" else "input.8"  # before which nothing is changed
    x = latents(2, height // 8, width // 8)
    settings = settings_of(site, matching=False, cap=100.0)
    change = features_of(pipe, site, x, (bank, settings))[place][1] - features_of(pipe, site, x)[place][1]
    donor = bank.donor(place, INSIDE)
    assert donor is not None and donor.neutral is not None
    rows, columns = (-(-height // 16), -(-width // 16)) if site == "cross_attention" else change.shape[-2:]
    assert donor.grid != (rows, columns)
    expected = resize((donor.expression - donor.neutral).float().mT.unflatten(2, donor.grid), (rows, columns))[0]
    tokens = change.mT if site == "cross_attention" else change
    assert torch.cosine_similarity(tokens.flatten(), expected.flatten(), dim=0) > 0.999


def test_donors_are_drawn_at_sizes_that_are_not_square(pipe) -> None:
    run = dataclasses.replace(RUN, width=72, height=104)
    made = diffusers_donors.draw_donors(pipe, _prompt(pipe, "surprised"), settings_of("cross_attention"), run, keep="all")
    assert (made.bank.grids["input.4.0"], made.bank.grids["middle.0.0"]) == ((7, 5), (4, 3))
    assert made.twins.expression.shape == (104, 72, 3)
    given = draw(pipe, Fusion(made.bank, settings_of("cross_attention")), width=72, height=104)
    assert moved(given, _plain(pipe, 72, 104)) > 0


@pytest.mark.parametrize("site", SITES)
def test_saved_and_loaded_features_give_the_same_picture(pipe, site: str, tmp_path: Path) -> None:
    bank = _bank(pipe, site)
    loaded = load_bank(save_bank(bank, tmp_path / "features.safetensors"))
    assert torch.equal(draw(pipe, Fusion(loaded, settings_of(site))), draw(pipe, Fusion(bank, settings_of(site))))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.long
def test_half_precision_gives_nearly_the_same_features_and_change(pipe, dtype: torch.dtype) -> None:
    half = pipeline.load_pipeline("mini", dtype)
    settings = settings_of("cross_attention")
    run = dataclasses.replace(RUN, sigmas=(4.0, 1.0, 0.0))
    bank, exact = (diffusers_donors.draw_donors(one, _prompt(pipe, "surprised"), settings, run, keep="all").bank for one in (half, pipe))
    assert all((bank.tokens[key].float() - value.float()).norm() < 0.1 * value.float().norm() for key, value in exact.tokens.items())
    plain = draw(half, sigmas=run.sigmas)
    for each in (bank, exact):
        assert moved(draw(half, Fusion(each, settings), sigmas=run.sigmas), plain) > 0
    seen = features_of(half, "cross_attention", latents(), (exact, settings), sigma=4.0)
    assert {features.dtype for features in seen.values()} == {dtype}


def test_the_published_recipe_runs_and_refuses_a_donor_of_another_size(pipe) -> None:
    settings = paper_settings()
    bank = diffusers_donors.draw_donors(pipe, _prompt(pipe, "surprised"), settings, RUN, keep="all").bank
    assert bank.places() == ("input.8", "input.7", "input.5", "input.4")
    low, high = window_range((0.3, 0.7))
    assert all(low < sigma < high for sigma in bank.sigmas)
    assert moved(draw(pipe, Fusion(bank, settings)), _plain(pipe)) > 0
    with pytest.raises(FaceExprError):
        draw(pipe, Fusion(bank, settings), width=96)


def test_without_a_neutral_twin_the_expressions_own_features_are_carried_in_the_targets_style(pipe) -> None:
    bank, place = _bank(pipe, "cross_attention"), "input.4.0"  # before which nothing is changed
    tokens = {key: value for key, value in bank.tokens.items() if not key.endswith(":n")}
    single = dataclasses.replace(bank, mode="single", tokens=tokens)
    settings = settings_of("cross_attention", matching=False, cap=100.0)
    plain, given, twin, told = (
        features_of(pipe, "cross_attention", latents(), *fusions)[place][1:]
        for fusions in ((), ((single, settings),), ((bank, settings),), ((bank, dataclasses.replace(settings, mode="adain")),))
    )
    change, donor = given - plain, bank.donor(place, INSIDE)
    assert donor is not None
    expected = adain(donor.expression, plain, torch.ones(plain.shape[1])) - plain
    assert torch.cosine_similarity(change.flatten(), expected.flatten(), dim=0) > 0.9999
    assert torch.equal(told, given)
    assert torch.cosine_similarity(change.flatten(), (twin - plain).flatten(), dim=0) < 0.9


# Against what it means


def test_the_difference_of_contexts_is_what_the_other_words_would_attend_to(pipe) -> None:
    bank = _bank(pipe, "cross_attention_difference")
    words = _prompt(pipe, "surprised")
    hidden = torch.cat([encoding.encode_prompts(pipe, [text])[0] for text in (words.neutral, words.neutral, words.expressions[0])])
    pooled = encoding.encode_prompts(pipe, [words.neutral])[1].repeat(3, 1)
    seen: list[torch.Tensor] = []
    whole = settings_of("cross_attention_difference", cap=100.0, strength=1 / WORDS_STRENGTH)
    with apply_fusion(pipe.unet, Fusion(bank, whole), Rows((1,), sigma=INSIDE)):
        attention = transformer_blocks(pipe.unet)["input.4.0"].attn2
        handle = attention.register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
        sampling.predict_epsilon(pipe, latents(3), INSIDE, hidden, pooled)
        handle.remove()
    neutral, fused, expression = seen[0]
    assert (expression - neutral).norm() > 0
    assert (fused - expression).norm() < 0.02 * (expression - neutral).norm()


def divided(steps: int):
    """Mini with each transformer block divided into steps, which draws nearly the same with as many times the places."""
    pipe = pipeline.load_pipeline("mini")
    for block in transformer_blocks(pipe.unet).values():
        for layer in (block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2]):
            with torch.no_grad():
                layer.weight.div_(steps)
                layer.bias.div_(steps)
    for module in pipe.unet.modules():
        if hasattr(module, "transformer_blocks"):
            module.transformer_blocks = torch.nn.ModuleList(copy.deepcopy(module.transformer_blocks[0]) for _ in range(steps))
    return pipe


@pytest.mark.long
def test_strength_means_the_same_for_few_places_and_for_many(pipe) -> None:
    """How far fusion moves the model, as a multiple of how far the words do: SDXL's transformers have up to ten blocks, Mini's one."""
    side = mini.RESOLUTION
    run, sigma, moves = dataclasses.replace(RUN, width=side, height=side, sigmas=(14.6, 2.0, 0.8, 0.0)), 0.8, {}
    face = read_rgb(sorted(mini.subject_path().glob("*.png"))[0])
    x = encoding.encode_images(pipe, torch.from_numpy(np.array(Image.fromarray(face).resize((side, side), Image.Resampling.LANCZOS)))[None])
    x = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    for steps in (1, 4):
        one = pipe if steps == 1 else divided(steps)
        settings, ratios = site_settings("cross_attention"), []
        for expression in ("happy", "surprised"):
            bank = diffusers_donors.draw_donors(one, _prompt(pipe, expression), settings, run, keep="all").bank
            assert len(bank.places()) == 7 * steps
            texts = encoding.embed_expression(one, _prompt(pipe, expression))
            neutral, words = (sampling.predict_epsilon(one, x, sigma, *text) for text in texts)
            with apply_fusion(one.unet, Fusion(bank, settings), Rows((0,), (0,), CFG, run.sigmas, sigma)):
                fused = sampling.predict_epsilon(one, x, sigma, *texts[0])
            ratios.append(float((fused - neutral).norm() / (words - neutral).norm()))
        moves[steps] = sum(ratios) / len(ratios)
    assert abs(moves[4] / moves[1] - 1) < 0.12


def test_a_photos_expression_is_as_strong_among_more_tokens(pipe, model_folder: Path) -> None:
    """Before, confidence fell with the number of tokens."""
    files = sorted(mini.subject_path().glob("*.png"))
    pictures = [np.array(Image.fromarray(read_rgb(file)).resize((256, 256), Image.Resampling.LANCZOS)) for file in files[:2]]
    settings, sigma, shares = site_settings("cross_attention"), 0.8, []
    with FaceDetector([model_folder]) as detector:
        for side in (160, 256):  # Mini draws faces at both
            run = dataclasses.replace(RUN, sigmas=(14.6, sigma, 0.0), width=side, height=side)
            crops = crop_photos(pictures[0], pictures[1], side, detector)
            bank = diffusers_donors.draw_donors(pipe, _prompt(pipe, "surprised"), settings, run, crops, keep="all").bank
            x = encoding.encode_images(pipe, torch.from_numpy(np.array(crops.neutral))[None])
            noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
            x = (x + sigma * noise).repeat(2, 1, 1, 1)
            plain, given = (features_of(pipe, "cross_attention", x, *fusions, sigma=sigma) for fusions in ((), ((bank, settings),)))
            moves = []
            for place in ("output.3.0", "output.5.0"):
                donor = bank.donor(place, sigma)
                assert donor is not None and donor.neutral is not None
                own = (donor.expression.float() - donor.neutral.float()).norm() / donor.neutral.float().norm()
                moves.append(float((given[place][1] - plain[place][1]).norm() / plain[place][1].norm() / own))
            shares.append(sum(moves))
    assert 0.8 < shares[1] / shares[0] < 1.25


def test_strong_guidance_weakens_the_change_in_proportion(pipe) -> None:
    bank, settings = _bank(pipe, "cross_attention"), settings_of("cross_attention", cap=100.0)
    plain = features_of(pipe, "cross_attention", latents())["input.4.0"][1]
    at_five, at_ten = (features_of(pipe, "cross_attention", latents(), (bank, settings), cfg=cfg)["input.4.0"][1] for cfg in (5.0, 10.0))
    assert (at_five - plain).norm() > 0
    assert torch.allclose(2 * (at_ten - plain), at_five - plain, atol=1e-4)


def test_a_schedule_without_a_sigma_in_the_window_uses_the_nearest_and_says_so(pipe) -> None:
    sigmas = (14.6, 8.0, 0.2, 0.0)
    settings = settings_of("cross_attention", window=(0.3, 0.7))
    run = dataclasses.replace(RUN, sigmas=sigmas)
    bank = diffusers_donors.draw_donors(pipe, _prompt(pipe, "surprised"), settings, run, keep="all").bank
    assert len(bank.sigmas) == 1
    told: list[str] = []
    given = draw(pipe, Fusion(bank, settings), sigmas=sigmas, on_note=told.append)
    assert moved(given, draw(pipe, sigmas=sigmas)) > 0
    assert any("nearest" in note for note in told)


def test_features_of_other_noise_levels_change_nothing_and_say_so(pipe) -> None:
    told: list[str] = []
    sigmas = (3.3, 1.7, 0.0)
    given = draw(pipe, Fusion(_bank(pipe, "cross_attention"), settings_of("cross_attention")), sigmas=sigmas, on_note=told.append)
    assert torch.equal(given, draw(pipe, sigmas=sigmas))
    assert any("nothing for sigma" in note for note in told)


def test_features_are_refused_at_another_site_and_in_another_model(pipe) -> None:
    bank = _bank(pipe, "cross_attention")
    with pytest.raises(FaceExprError, match="recorded at cross_attention"):
        draw(pipe, Fusion(bank, settings_of("skip")))
    deeper = {key.replace("middle.0.0", "middle.0.7"): value for key, value in bank.tokens.items()}
    grids = {key.replace("middle.0.0", "middle.0.7"): value for key, value in bank.grids.items()}
    with pytest.raises(FaceExprError, match=r"no place middle\.0\.7"):
        draw(pipe, Fusion(dataclasses.replace(bank, tokens=deeper, grids=grids), settings_of("cross_attention")))


# Donors of one's own


def test_each_picture_of_a_batch_gets_a_donor_of_its_own_noise(pipe) -> None:
    settings = settings_of("cross_attention")
    fusions, reports = diffusers_donors.own_donors(pipe, _prompt(pipe, "surprised"), settings, RUN, 2)
    assert [one.picture for one in fusions] == [0, 1]
    assert len(reports) == 2
    both, plain = draw(pipe, *fusions, count=2), draw(pipe, count=2)
    assert min(moved(both[0], plain[0]), moved(both[1], plain[1])) > 0
    second = draw(pipe, fusions[1], count=2)
    assert torch.equal(second[0], plain[0])
    assert moved(second[1], both[1]) <= 1


@pytest.mark.long
def test_a_quick_look_finds_the_face_where_the_finished_twin_has_it(pipe, model_folder: Path) -> None:
    """On 16 pictures and three masks each the overlap is 0.97 in the mean and 0.87 at the least."""
    words, overlaps = _prompt(pipe, "surprised"), []
    levels = sampling.normal_schedule(pipe, 20).tolist()
    host = diffusers_donors.PipelineHost(pipe, words, Recorder("cross_attention_difference"), Run())
    with FaceDetector([model_folder]) as detector, torch.no_grad():
        for seed in (0, 1):
            start = sampling.first_latents(Run(seed, width=mini.RESOLUTION, height=mini.RESOLUTION), 1, levels[0])
            looks = (donors.neutral_look(host, start, levels, steps) for steps in (20, donors.LOOK_STEPS))
            masks = [locate(host.decode(look), ("mouth", "eyes"), detector=detector).mask for look in looks]
            finished, rough = (mask >= 0.5 for mask in masks if mask is not None)
            overlaps.append(float((finished & rough).sum() / (finished | rough).sum()))
    assert min(overlaps) > 0.8


def test_words_at_the_default_site_cost_no_row_and_their_mask_is_seen_in_the_pictures_own_steps(pipe) -> None:
    rows: list[int] = []
    run = dataclasses.replace(RUN, sigmas=(), steps=8, width=mini.RESOLUTION, height=mini.RESOLUTION)
    handle = pipe.unet.register_forward_pre_hook(lambda _, arguments: rows.append(len(arguments[0])))
    try:
        settings = site_settings(default_site(photo=False))
        (one,), reports = diffusers_donors.own_donors(pipe, _prompt(pipe, "surprised"), settings, run, 2, moved=("mouth",))
    finally:
        handle.remove()
    assert (rows, reports, one.bank.sigmas, one.bank.mask, one.picture, one.moved) == ([], [], (), None, None, ("mouth",))
    size: dict = {"width": run.width, "height": run.height, "count": 2, "steps": 8, "sigmas": ()}
    plain, held, free = (draw(pipe, *fusions, **size) for fusions in ((), (one,), (dataclasses.replace(one, moved=None),)))
    for picture in (0, 1):
        held_brows, free_brows = (moved(given[picture, 24:96], plain[picture, 24:96]) for given in (held, free))
        held_mouth, free_mouth = (moved(given[picture, 120:], plain[picture, 120:]) for given in (held, free))
        assert held_brows < 0.4 * free_brows
        assert held_mouth > 0.7 * free_mouth


def test_donors_are_the_base_models_and_the_lora_is_back_afterwards() -> None:
    from peft import LoraConfig

    pipe = pipeline.load_pipeline("mini")
    base = diffusers_donors.draw_donors(pipe, _prompt(pipe, "surprised"), settings_of("cross_attention"), RUN).bank
    torch.manual_seed(0)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_k", "to_v"], init_lora_weights="gaussian"))
    with torch.no_grad():
        for name, weight in pipe.unet.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 1)
    personal = draw(pipe)
    given = diffusers_donors.draw_donors(pipe, _prompt(pipe, "surprised"), settings_of("cross_attention"), RUN).bank
    # not to the bit: weights that need no gradient are multiplied in another order
    assert all(torch.allclose(given.tokens[key].float(), value.float(), atol=0.01) for key, value in base.tokens.items())
    assert torch.equal(draw(pipe), personal)
    pipe.unet.disable_adapters()
    assert moved(draw(pipe), personal) > 0
