"""Attention-Focused Fusion in ComfyUI: what must hold exactly, and that each site, both sources and the sampler's own donors work."""

from __future__ import annotations

import copy
import gc
import importlib
import re
import weakref
from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pack
import pytest
import torch
from distances import relative
from rendered import rendered_people
from skimage.data import astronaut

from faceexpr_core.mini import RESOLUTION

PERSON = "a photo of a young man, black hair, blue background"
SITES = ("skip", "cross_attention", "cross_attention_difference")
STEPS, CFG, SEED = 3, 4.0, 7
SMALL = (2, 4, 12, 20)  # 96 x 160 pixels
PORTRAIT = (1, 4, RESOLUTION // 8, RESOLUTION // 8)
"""What a whole face needs."""


@pytest.fixture(scope="module")
def mini(comfy_modules):
    """ComfyUI's Mini, conditionings, the nodes, and features of every site for `SMALL` latents."""
    names = ("extraction", "expression_text_encode", "extract_expression_features")
    more = ("apply_attention_focused_fusion", "save_features", "load_features", "sampler")
    modules: dict[str, Any] = {name: pack.node(name) for name in (*names, *more)} | {
        "host": pack.host(),
        "run": pack.node("host.run"),
        "call": importlib.import_module("faceexpr_pack.faceexpr_core.fusion.injection").Call,
    }
    with torch.inference_mode():
        yield SimpleNamespace(
            **modules,
            **pack.mini_asked_to_smile(PERSON),
            draw=modules["sampler"].Sampler.execute,
            extract=modules["extract_expression_features"].ExtractExpressionFeatures.execute,
            apply=modules["apply_attention_focused_fusion"].ApplyAttentionFocusedFusion.execute,
            nodes=comfy_modules.nodes,
            error=comfy_modules.core.errors.FaceExprError,
            home=comfy_modules.home,
        )


def empty(shape: tuple[int, ...] = SMALL, **extra) -> dict:
    return {"samples": torch.zeros(shape), **extra}


def features(mini, site: str = "default", *, vae=None, latent=None, sampler: str = "euler", steps: int = STEPS, **options):
    run = (latent or empty(), SEED, steps, CFG, sampler, "normal", 1.0)
    return mini.extract(mini.model, mini.positive, mini.neutral, mini.negative, *run, "happy", vae=vae, site=site, **options)


@pytest.fixture(scope="module")
def banks(mini):
    return {site: features(mini, site, tokens="all").args[0] for site in SITES}


def drawn(mini, model=None, latent=None, sampler: str = "euler", cfg: float = CFG, steps: int = STEPS, **options) -> torch.Tensor:
    """Latents of the neutral prompt."""
    arguments = (SEED, steps, cfg, sampler, "normal", mini.neutral, mini.negative, latent or empty(), 1.0)
    return mini.draw(model or mini.model, *arguments, **options).args[0]["samples"]


@pytest.fixture(scope="module")
def plain(mini):
    arguments = (SEED, STEPS, CFG, "euler", "normal", mini.neutral, mini.negative, empty(), 1.0)
    return mini.nodes.KSampler().sample(mini.model, *arguments)[0]["samples"]


@pytest.mark.parametrize("site", SITES)
def test_every_site_changes_the_picture_and_strength_0_is_ksampler_bit_for_bit(mini, banks, plain, site: str) -> None:
    fused = drawn(mini, mini.apply(mini.model, banks[site], 1.0).args[0])
    assert 1e-3 < relative(fused, plain) < 1
    model = mini.apply(mini.model, banks[site], 0.0).args[0]
    assert torch.equal(drawn(mini, model), plain)
    assert torch.equal(drawn(mini, features=banks[site], fusion_strength=0.0), plain)


@pytest.mark.parametrize("site", SITES)
def test_donors_without_a_difference_change_no_bit(mini, banks, plain, site: str) -> None:
    same = {key: banks[site].tokens[key.replace(":e", ":n")] for key in banks[site].tokens}
    assert torch.equal(drawn(mini, mini.apply(mini.model, replace(banks[site], tokens=same), 1.0).args[0]), plain)


@pytest.mark.parametrize("site", SITES)
def test_only_the_conditional_prediction_changes_and_the_unconditional_one_by_no_bit(mini, banks, site: str) -> None:
    sigma = middle(banks["skip"].sigmas)
    (cond, uncond), (fused_cond, fused_uncond) = (
        predictions(mini, model, sigma) for model in (mini.model, mini.apply(mini.model, banks[site], 1.0).args[0])
    )
    assert torch.equal(uncond, fused_uncond)
    assert relative(fused_cond, cond) > 1e-4
    for picture in range(len(cond)):
        assert not torch.equal(fused_cond[picture], cond[picture])


def middle(sigmas: tuple[float, ...]) -> float:
    return next(sigma for sigma in sigmas if 0.3 < sigma < 2.5)


def predictions(mini, model, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(conditional, unconditional) estimates of the picture in one evaluation at one sigma."""
    kept: list[torch.Tensor] = []

    def keep(args: dict) -> torch.Tensor:
        kept.extend((args["cond_denoised"].clone(), args["uncond_denoised"].clone()))
        return args["denoised"]

    watched = model.clone()
    watched.set_model_sampler_post_cfg_function(keep)
    guider_run(mini, watched, sigma)
    cond, uncond = kept
    return cond, uncond


def guider_run(mini, model, sigma: float) -> None:
    """One evaluation at one sigma."""
    samplers = importlib.import_module("comfy.samplers")
    guider = samplers.CFGGuider(model)
    guider.set_conds(mini.neutral, mini.negative)
    guider.set_cfg(CFG)
    noise = torch.randn(SMALL, generator=torch.Generator().manual_seed(1))
    guider.sample(noise, torch.zeros(SMALL), samplers.sampler_object("euler"), torch.tensor([sigma, 0.0]), disable_pbar=True, seed=SEED)


def evaluation(mini, sigma: float, schedule: tuple[float, ...], size: tuple[int, int]) -> dict:
    """What a run of a sampler tells the patches."""
    session = mini.run.Session(None, schedule, None)
    run = mini.run.Run(mini.call(sigma, CFG, schedule, session.kept), {}, size, session)
    return {mini.run.RUN: run, mini.run.UNET: mini.model.model.diffusion_model}


def test_outside_the_window_the_very_object_is_returned(mini, banks) -> None:
    for site in ("skip", "cross_attention"):
        bank = banks[site]
        name = "output_block_patch" if site == "skip" else "attn2_output_patch"
        models = (mini.apply(mini.model, bank, 1.0, window_low=low).args[0] for low in (0.0, 0.3))
        patch, high = (model.model_options["transformer_options"]["patches"][name][-1] for model in models)
        place = bank.places()[0]
        donor = bank.donor(place, bank.sigmas[1])
        channels = donor.expression.shape[2]
        height, width = donor.grid
        x = torch.randn(2, channels, height, width) if site == "skip" else torch.randn(2, height * width, channels)
        kind, number = place.split(".")[:2]
        block = ("output", 8 - int(number)) if site == "skip" else (kind, int(number))
        outside = ((patch, sigma, False) for sigma in (9.0, 1.23 * bank.sigmas[1]))
        assert bank.sigmas[1] < 0.8 < bank.sigmas[0]  # recorded, and below the higher window, which holds another step
        for act, sigma, changed in ((patch, bank.sigmas[1], True), (high, bank.sigmas[1], False), *outside):
            to = {"block": block, "cond_or_uncond": [1, 0], **evaluation(mini, sigma, bank.sigmas, (1, 1))}
            extra = {**to, "block_index": 0, "n_heads": 2, "activations_shape": [2, channels, height, width]}
            given = act(x, x, to)[1] if site == "skip" else act(x, extra)
            assert (given is x) == (not changed)
            assert torch.equal(given[:1], x[:1])


def test_what_apply_is_told_reaches_the_fusion_and_the_picture(mini, banks, monkeypatch: pytest.MonkeyPatch) -> None:
    module, bank = pack.node("apply_attention_focused_fusion"), banks["cross_attention"]
    settings: list[Any] = []
    attach = module.attach_fusion

    def watch(model: Any, bank: Any, given: Any, *rest: Any) -> Any:
        settings.append(given)
        return attach(model, bank, given, *rest)

    monkeypatch.setattr(module, "attach_fusion", watch)
    told = {"mode": "adain", "regions": "lower face", "window_low": 0.1, "window_high": 0.6}
    told |= {"temperature": 0.5, "region_penalty": 7.0, "cap": 0.3, "matching": False}
    mini.apply(mini.model, bank, 1.3, **told)
    (given,) = settings
    assert (given.site, given.strength, given.mode, given.window, given.layers) == (bank.site, 1.3, "adain", (0.1, 0.6), "all")
    assert (given.temperature, given.region_penalty, given.cap, given.matching) == (0.5, 7.0, 0.3, False)
    assert given.regions == ("nose", "mouth", "jaw")
    mini.apply(mini.model, banks["skip"], 1.0)
    assert settings[-1].cap == 1.0  # the site's own
    sigma = middle(bank.sigmas)
    drawn = {"": predictions(mini, mini.apply(mini.model, bank, 1.0).args[0], sigma)[0]}
    for name in ("mode", "temperature", "cap", "matching"):
        drawn[name] = predictions(mini, mini.apply(mini.model, bank, 1.0, **{name: told[name]}).args[0], sigma)[0]
    assert [pair for pair in combinations(drawn, 2) if relative(drawn[pair[0]], drawn[pair[1]]) < 1e-5] == []


def test_two_fusions_add_up_and_their_order_of_clones_does_not_matter(mini, banks, plain) -> None:
    first = mini.apply(mini.model, banks["cross_attention"], 1.0).args[0]
    both = mini.apply(first, banks["skip"], 1.0).args[0]
    other = mini.apply(mini.apply(mini.model, banks["skip"], 1.0).args[0], banks["cross_attention"], 1.0).args[0]
    fused = drawn(mini, both)
    assert torch.equal(fused, drawn(mini, other))
    one, two = drawn(mini, first), drawn(mini, mini.apply(mini.model, banks["skip"], 1.0).args[0])
    assert min(relative(fused, one), relative(fused, two), relative(fused, plain)) > 1e-3


def test_clones_share_the_features(mini, banks) -> None:
    """ComfyUI, until 0.13, copies a MODEL's patches deeply at every clone; features must not be copied with them."""
    model = mini.apply(mini.model, banks["cross_attention_difference"], 1.0).args[0]
    of_clone = model.clone().model_options
    patches = [options["transformer_options"]["patches"] for options in (model.model_options, of_clone, copy.deepcopy(of_clone))]
    for name in ("attn2_patch", "attn2_output_patch"):
        assert patches[1][name][-1].__self__ is patches[0][name][-1].__self__ is patches[2][name][-1].__self__


def test_a_mask_holds_the_change_to_its_place(mini, banks) -> None:
    left = torch.zeros(1, 96, 160)
    left[:, :, :80] = 1
    sigma = middle(banks["cross_attention"].sigmas)
    before = predictions(mini, mini.model, sigma)[0]

    def moved(site: str, mask: torch.Tensor) -> torch.Tensor:
        after = predictions(mini, mini.apply(mini.model, banks[site], 1.0, mask=mask).args[0], sigma)[0]
        return (after - before).abs().mean((0, 1, 2))

    for site in ("cross_attention", "cross_attention_difference"):
        of_left, of_right = moved(site, left), moved(site, 1 - left)
        assert of_left[:10].sum() > of_right[:10].sum()
        assert of_right[10:].sum() > of_left[10:].sum()


@pytest.mark.parametrize("site", ["cross_attention", "cross_attention_difference"])
def test_a_mask_holds_the_change_to_its_tokens(mini, banks, site: str) -> None:
    left = torch.zeros(1, 96, 160)
    left[:, :, :80] = 1
    patches = mini.apply(mini.model, banks[site], 1.0, mask=left).args[0].model_options["transformer_options"]["patches"]
    sigma = banks["cross_attention"].sigmas[0]
    extra = {"block": ("output", 3), "block_index": 0, "n_heads": 2, "cond_or_uncond": [1, 0]}
    extra |= evaluation(mini, sigma, (sigma, 0.0), (160, 96))
    extra["activations_shape"] = [2, 128, 6, 10]
    given = torch.randn(2, 2, 60, 128, generator=torch.Generator().manual_seed(2))
    x, tokens = given.to(mini.model.load_device, mini.model.model.get_dtype())
    for patch in patches.get("attn2_patch", ()):
        patch(tokens, None, None, extra)
    (patch,) = patches["attn2_output_patch"]
    changed = (patch(x, extra) != x).any(-1).unflatten(1, (6, 10))
    assert not changed[0].any()
    assert changed[1, :, :5].any()
    assert not changed[1, :, 5:].any()


def test_saved_and_loaded_features_draw_the_same_picture(mini, banks) -> None:
    bank = banks["cross_attention"]
    paths = [mini.save_features.SaveFeatures.execute(bank, "smiles/wide").args[0] for _ in range(2)]
    assert paths[0] != paths[1]
    assert (mini.home / "models" / "faceexpr_features" / "smiles" / "wide.safetensors").is_file()
    loader = mini.load_features.LoadFeatures
    assert "smiles/wide.safetensors" in loader.define_schema().inputs[0].options
    loaded, report = loader.execute("smiles/wide.safetensors").args
    assert "source: text" in report
    assert torch.equal(drawn(mini, features=loaded), drawn(mini, features=bank))
    assert isinstance(loader.validate_inputs("../secret.safetensors"), str)
    assert isinstance(loader.validate_inputs("missing"), str)
    assert loader.validate_inputs("smiles/wide.safetensors") is True
    with pytest.raises(mini.error, match="leads out"):
        mini.save_features.SaveFeatures.execute(bank, "../../smile")


def test_with_a_vae_the_face_is_found_and_only_its_tokens_are_kept(mini) -> None:
    side, latent = RESOLUTION, empty(PORTRAIT)
    whole, face = (features(mini, "cross_attention", vae=mini.vae, latent=latent, tokens=tokens).args for tokens in ("all", "face"))
    bank, twins, report = face
    assert bank.mask is not None and bank.mask.shape == (side, side)
    assert 0.02 < bank.mask.mean() < 0.6
    assert "the whole face" in report
    assert twins.shape == (1, side, 3 * side, 3)
    assert twins.std() > 0.05
    finest = max(bank.kept)
    assert len(bank.kept[finest]) < finest[0] * finest[1]  # of a portrait nearly all: whatever the face touches
    assert bank.nbytes < whole[0].nbytes and not whole[0].kept
    assert relative(drawn(mini, latent=latent, features=bank), drawn(mini, latent=latent)) > 1e-3


def test_a_photo_gives_features_with_and_without_a_neutral_twin(mini) -> None:
    photo = torch.from_numpy(astronaut().astype(np.float32))[None] / 255
    latent = empty((1, 4, 12, 16))
    before = drawn(mini, latent=latent)
    for neutral, mode in (("drawn", "twin"), ("none", "single")):
        bank, picture, _ = features(mini, "cross_attention", vae=mini.vae, latent=latent, photo=photo, photo_neutral=neutral).args
        assert bank.mode == mode
        assert bank.notes["source"] == "photo"
        assert bank.notes["size"] == "96x96"
        assert picture.shape[1] == 96
        assert relative(drawn(mini, latent=latent, features=bank), before) > 1e-3
    with pytest.raises(mini.error, match="words alone"):
        features(mini, "cross_attention_difference", vae=mini.vae, latent=latent, photo=photo)
    with pytest.raises(mini.error, match="no face"):
        features(mini, "skip", vae=mini.vae, latent=latent, photo=torch.zeros(1, 64, 64, 3))
    with pytest.raises(mini.error, match="VAE"):
        features(mini, "skip", latent=latent, photo=photo)


def rows_of(*models) -> tuple[list[int], list]:
    """Clones of MODELs, and a list that grows with the rows of each of their evaluations."""
    rows: list[int] = []

    def count(executor, x, *arguments, **named):
        rows.append(len(x))
        return executor(x, *arguments, **named)

    clones = [model.clone() for model in models]
    for clone in clones:
        clone.add_wrapper_with_key("apply_model", "count", count)
    return rows, clones


def test_words_cost_no_row_of_the_base_model_and_their_keys_and_values_serve_any_seed_size_and_cfg(mini, monkeypatch) -> None:
    loaded: list[int] = []
    rows, (base,) = rows_of(mini.model)
    session = mini.extraction.run_session

    def counted(*given) -> None:
        loaded.append(1)
        session(*given)

    monkeypatch.setattr(mini.extraction, "run_session", counted)
    monkeypatch.setattr(mini.extraction, "_kept", type(mini.extraction._kept)(maxlen=2))
    options = {"neutral": mini.neutral, "base_model": base}

    def words(seed: int = SEED, steps: int = STEPS, cfg: float = CFG, shape=SMALL, positive=mini.positive, **more):
        arguments = (mini.model, seed, steps, cfg, "euler", "normal", positive, mini.negative, empty(shape), 1.0)
        return mini.draw(*arguments, **options, **more).args[0]["samples"]

    first = words()
    assert (rows, len(loaded)) == ([], 1)
    for other in ({"seed": 1}, {"steps": 2}, {"cfg": 2.0}, {"shape": (1, 4, 8, 8)}, {"fusion_strength": 2.0}):
        words(**other)
    assert (rows, len(loaded)) == ([], 1)
    assert torch.equal(words(), first)
    surprised = mini.expression_text_encode.ExpressionTextEncode.execute(mini.clip, PERSON, "surprised", 1.0, "none", 0.5, "").args[0]
    assert relative(words(positive=surprised), first) > 1e-3
    assert (rows, len(loaded)) == ([], 2)


def test_keys_and_values_are_let_go_when_their_model_is_gone(mini, monkeypatch) -> None:
    monkeypatch.setattr(mini.extraction, "_kept", type(mini.extraction._kept)())
    words, settings = (mini.positive[0], mini.neutral[0]), mini.extraction.FusionSettings()
    model = mini.host.load_mini()[0]
    weights = weakref.ref(model.model)
    bank = weakref.ref(mini.extraction.kept_contexts(model, *words, settings))
    mini.extraction.kept_contexts(mini.model, *words, settings)
    assert len(mini.extraction._kept) == 2
    del model
    gc.collect()
    assert weights() is None
    kept = mini.extraction.kept_contexts(mini.model, *words, settings)
    assert [one for _, one in mini.extraction._kept] == [kept] and bank() is None


def test_what_changes_nothing_is_told(mini, caplog) -> None:
    bank = features(mini).args[0]
    mini.apply(mini.model, bank, 1.0)
    drawn(mini, features=bank)
    drawn(mini, fusion_strength=0.0)
    assert "changed nothing" not in caplog.text
    features(mini, levels=3, photo_neutral="none")
    mini.apply(mini.model, bank, 1.0, matching=False)
    drawn(mini, features=bank, base_model=mini.model)
    drawn(mini, fusion_strength=1.5)
    drawn(mini, fusion_text="positive", vae=mini.vae, refine_denoise=0.6)
    photo = features(mini, site="skip").args[0]
    mini.apply(mini.model, photo, 1.0, mode="paper", cap=2.0, region_penalty=1.0)
    mini.apply(mini.model, photo, 1.0, matching=False, temperature=0.2)
    drawn(mini, vae=mini.vae, refine_below=0.3, refine_denoise=0.0)
    for asked in (("neutral", 0.7, "none", 0.5, ""), ("none", 0.7, "sad", 0.4, "AU1"), ("happy", 0.7, "none", 0.4, "")):
        mini.expression_text_encode.ExpressionTextEncode.execute(mini.clip, PERSON, *asked)
    assert [record.getMessage() for record in caplog.records if "changed nothing" in record.getMessage()] == [
        "Extract Expression Features: 'if no neutral photo' changed nothing: it is for a photo without a neutral_photo",
        "Extract Expression Features: levels changed nothing: at the site cross_attention_difference nothing is recorded but the words",
        "Apply Attention-Focused Fusion: matching changed nothing: features of the site cross_attention_difference match nothing",
        "FaceExpr Sampler: base_model changed nothing: features are connected",
        "FaceExpr Sampler: fusion_strength changed nothing: neither features nor a base_model is connected",
        "FaceExpr Sampler: refine_denoise changed nothing: refine_below is 0, so that no face is drawn again",
        "FaceExpr Sampler: fusion_text and vae changed nothing: nothing is fused",
        "Apply Attention-Focused Fusion: region_penalty and cap changed nothing: the printed formula knows none of it",
        "Apply Attention-Focused Fusion: temperature changed nothing: nothing is matched",
        "FaceExpr Sampler: refine_below changed nothing: refine_denoise is 0, so that no face is drawn again",
        "FaceExpr Sampler: vae changed nothing: nothing is fused",
        "Expression Text Encode: intensity changed nothing: it weighs expression and action_units, and expression is neutral",
        "Expression Text Encode: second_weight changed nothing: there is no second_expression",
    ]


def test_the_sampler_fuses_in_the_layers_that_were_recorded(mini, plain) -> None:
    bank = features(mini, layers="encoder").args[0]
    assert all(place.startswith("input") for place in bank.places())
    assert relative(drawn(mini, features=bank), plain) > 1e-3
    assert torch.equal(drawn(mini, features=bank), drawn(mini, mini.apply(mini.model, bank, 1.0).args[0]))


def test_each_picture_of_a_batch_is_fused_and_strength_0_draws_the_words(mini, plain) -> None:
    options = {"neutral": mini.neutral, "base_model": mini.model}
    arguments = (mini.model, SEED, STEPS, CFG, "euler", "normal", mini.positive, mini.negative, empty(), 1.0)
    fused = mini.draw(*arguments, **options).args[0]["samples"]
    text_alone = mini.draw(*arguments).args[0]["samples"]
    for picture in (0, 1):
        assert min(relative(fused[picture], text_alone[picture]), relative(fused[picture], plain[picture])) > 1e-3
    assert torch.equal(mini.draw(*arguments, **options, fusion_strength=0.0).args[0]["samples"], text_alone)


def test_a_fused_picture_is_drawn_from_the_neutral_text_unless_asked(mini, banks, plain) -> None:
    """A fusion too weak to be seen shows which text it is."""
    arguments = (mini.model, SEED, STEPS, CFG, "euler", "normal", mini.positive, mini.negative, empty(), 1.0)
    words = mini.draw(*arguments).args[0]["samples"]
    apart = relative(words, plain)
    assert apart > 1e-3
    bank = banks["cross_attention_difference"]
    for fusion in ({"base_model": mini.model}, {"features": bank}):
        faint = {**fusion, "fusion_strength": 1e-3}
        for expected, options in (
            (plain, {"neutral": mini.neutral}),
            (words, {"neutral": mini.neutral, "fusion_text": "positive"}),
            (words, {"neutral": mini.neutral, "expression_scale": 1.001}),
        ):
            assert relative(mini.draw(*arguments, **faint, **options).args[0]["samples"], expected) < 0.1 * apart
    assert relative(mini.draw(*arguments, features=bank, fusion_strength=1e-3).args[0]["samples"], words) < 0.1 * apart


def test_words_take_their_difference_and_a_photo_its_attention_unless_told(mini) -> None:
    words = features(mini).args[0]
    photo = torch.from_numpy(astronaut().astype(np.float32))[None] / 255
    options = {"vae": mini.vae, "latent": empty((1, 4, 12, 12)), "photo": photo, "photo_neutral": "none", "steps": 8}
    sparse, whole, second = (features(mini, **options, levels=levels).args[0] for levels in (0, 99, 2))
    assert (words.site, sparse.site) == ("cross_attention_difference", "cross_attention")
    assert all(place.startswith(("middle", "output")) for bank in (words, sparse) for place in bank.places())
    assert (sparse.sparse, whole.sparse, second.sparse) == (True, False, True)
    assert [len(bank.sigmas) for bank in (sparse, whole, second)] == [4, 6, 2]
    assert second.nbytes < 0.5 * whole.nbytes
    neutral = drawn(mini, latent=options["latent"], steps=8)
    moved = [drawn(mini, latent=options["latent"], steps=8, features=bank) - neutral for bank in (sparse, whole)]
    assert torch.nn.functional.cosine_similarity(moved[0].flatten(), moved[1].flatten(), dim=0) > 0.8


def test_the_first_picture_of_a_batch_is_fused_as_if_it_were_alone(mini) -> None:
    arguments = (mini.model, SEED, STEPS, CFG, "euler", "normal", mini.positive, mini.negative)
    options = {"neutral": mini.neutral, "base_model": mini.model}
    two, one = (mini.draw(*arguments, empty((count, *SMALL[1:])), 1.0, **options).args[0]["samples"] for count in (2, 1))
    assert relative(two[:1], one) < 1e-3


def test_the_base_models_loras_are_off_in_the_donors(mini) -> None:
    """Both MODELs share one set of weights in memory: donors of the base must not depend on what the other was patched with."""
    changed = mini.model.clone()
    key = "diffusion_model.output_blocks.3.1.transformer_blocks.0.attn2.to_out.0.weight"
    weight = mini.model.model.state_dict()[key]
    changed.add_patches({key: (torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)),)}, 1.0)
    latent = empty((1, *SMALL[1:]))
    of_base = features(mini, "cross_attention", latent=latent, tokens="all").args[0]
    drawn(mini, changed, latent=latent)  # the patched weights are now in memory
    again = features(mini, "cross_attention", latent=latent, tokens="all").args[0]
    assert all(torch.equal(again.tokens[key], value) for key, value in of_base.tokens.items())


def test_in_the_epsilon_mode_neutral_rows_are_not_fused(mini, banks) -> None:
    arguments = (mini.model, SEED, STEPS, CFG, "euler", "normal", mini.positive, mini.negative, empty((1, *SMALL[1:])), 1.0)
    options = {"neutral": mini.neutral, "features": banks["cross_attention_difference"]}
    for scale, changes in ((0.0, False), (1.5, True)):
        fused, plain = (
            mini.draw(*arguments, **options, expression_scale=scale, fusion_strength=strength).args[0]["samples"] for strength in (1.0, 0.0)
        )
        assert (relative(fused, plain) > 1e-3) == changes
        assert torch.equal(fused, plain) != changes


def test_small_faces_are_drawn_again_and_nothing_else_changes(mini) -> None:
    portrait = mini.vae.decode(drawn(mini, latent=empty(PORTRAIT), steps=6))
    wide = torch.cat([portrait, torch.full_like(portrait, 0.5)], 2)
    latent = {"samples": mini.vae.encode(wide)}
    arguments = (mini.model, SEED, STEPS, CFG, "euler", "normal", mini.positive, mini.negative, latent, 0.0)
    options = {"neutral": mini.neutral, "base_model": mini.model, "vae": mini.vae}
    untouched = mini.draw(*arguments, **options, refine_below=0.1).args[0]["samples"]
    assert torch.equal(untouched, latent["samples"])
    after = mini.draw(*arguments, **options, refine_below=1.0).args[0]["samples"]
    moved = (after - latent["samples"]).abs().amax((0, 1))
    assert moved[:, : PORTRAIT[-1]].max() > 0.05
    assert moved[:, PORTRAIT[-1] + 2 :].max() == 0
    with pytest.raises(mini.error, match="VAE"):
        drawn(mini, latent=latent, refine_below=0.3)


def test_connected_features_serve_a_small_face_only_at_noise_levels_that_fit(mini, caplog) -> None:
    """A face is drawn again from the middle of a run on, at noise levels of its own; features that keep few serve those between, too."""
    portrait = torch.from_numpy(rendered_people()[0][0].astype(np.float32))[None] / 255
    latent = {"samples": mini.vae.encode(torch.cat([portrait, torch.full_like(portrait, 0.5)], 2))}
    arguments = (mini.model, SEED, 4, CFG, "euler", "normal", mini.neutral, mini.negative, latent, 0.0)
    options = {"vae": mini.vae, "refine_below": 1.0, "refine_denoise": 0.5}
    unfused = mini.draw(*arguments, **options).args[0]["samples"]
    whole: dict[str, Any] = {"latent": empty(PORTRAIT), "steps": 4, "tokens": "all", "window_low": 0.0, "window_high": 1.0}
    changed = []
    for levels, idle in ((0, ["1.28", "0.791", "0.44"]), (2, [])):  # the last one, 0.0292, is every run's
        caplog.clear()
        bank = features(mini, "cross_attention", **whole, levels=levels).args[0]
        fused = mini.draw(*arguments, **options, features=bank).args[0]["samples"]
        assert re.findall(r"the features have nothing for sigma ([\d.]+);", caplog.text) == idle
        assert torch.equal(fused[..., PORTRAIT[-1] + 2 :], latent["samples"][..., PORTRAIT[-1] + 2 :])
        changed.append(relative(fused, unfused))
    assert changed[1] > max(0.01, 2 * changed[0])


def test_wrong_uses_are_told_apart(mini, banks) -> None:
    with pytest.raises(mini.error, match="neutral"):
        drawn(mini, base_model=mini.model)
    foreign = replace(banks["cross_attention"], tokens={"input.40.0@0:e": torch.zeros(1, 4, 8).half()}, grids={"input.40.0": (2, 2)})
    with pytest.raises(mini.error, match=r"no place input\.40"):
        mini.apply(mini.model, foreign, 1.0)
    with pytest.raises(mini.error, match="twin"):
        mini.apply(mini.model, banks["cross_attention_difference"], 1.0, mode="paper")
    kept = features(mini, "skip", vae=mini.vae, latent=empty(PORTRAIT), tokens="face").args[0]
    model = mini.apply(mini.model, kept, 1.0, mode="paper").args[0]
    with pytest.raises(mini.error, match="one to one"):
        drawn(mini, model, latent=empty(PORTRAIT))


def test_over_http_the_nodes_work_in_a_graph(comfy) -> None:
    common = {"seed": 3, "steps": 3, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    encode = {
        **{"clip": ["1", 1], "prompt": PERSON, "expression": "happy", "intensity": 1.0},
        **{"second_expression": "none", "second_weight": 0.5, "action_units": ""},
    }
    texts = {"positive": ["2", 0], "neutral": ["2", 1], "negative": ["2", 1], "latent_image": ["3", 0]}
    sampled = {**common, "positive": ["2", 1], "negative": ["2", 1], "latent_image": ["3", 0]}
    extract = {"model": ["1", 0], **texts, **common, "expression": "happy", "vae": ["1", 2]}
    graph = {
        "1": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "2": {"class_type": "FaceExprExpressionTextEncode", "inputs": encode},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
        "4": {"class_type": "FaceExprExtractExpressionFeatures", "inputs": extract},
        "5": {"class_type": "FaceExprApplyAttentionFocusedFusion", "inputs": {"model": ["1", 0], "features": ["4", 0], "strength": 1.0}},
        "6": {"class_type": "KSampler", "inputs": {"model": ["5", 0], **sampled}},
        "7": {"class_type": "FaceExprSampler", "inputs": {"model": ["1", 0], **sampled, "features": ["4", 0]}},
        "8": {"class_type": "FaceExprSaveFeatures", "inputs": {"features": ["4", 0], "name": "http/happy"}},
        "9": {"class_type": "KSampler", "inputs": {"model": ["1", 0], **sampled}},
        **{
            f"{node}0": {"class_type": "SaveLatent", "inputs": {"samples": [node, 0], "filename_prefix": f"fusion/{node}"}}
            for node in "679"
        },
    }
    comfy.run(graph)
    from safetensors.torch import load_file

    by_apply, by_sampler, without = (
        load_file(next((comfy.output_dir / "fusion").glob(f"{node}_*.latent")))["latent_tensor"] for node in "679"
    )
    assert torch.equal(by_apply, by_sampler)
    assert relative(by_apply, without) > 1e-3
    assert (comfy.home / "models" / "faceexpr_features" / "http" / "happy.safetensors").is_file()
