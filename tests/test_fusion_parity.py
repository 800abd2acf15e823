"""ComfyUI and diffusers, given the same Mini, record the same expression features and draw the same fused picture."""

from __future__ import annotations

import importlib
from functools import partial
from types import SimpleNamespace

import numpy as np
import pack
import pytest
import torch
from skimage.data import astronaut

from faceexpr_core.diffusers_host import donors as diffusers_donors
from faceexpr_core.diffusers_host import encoding, pipeline, sampling
from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.fusion import donors
from faceexpr_core.fusion.donor_faces import crop_photos
from faceexpr_core.fusion.recorder import Recorder
from faceexpr_core.fusion.run import Run
from faceexpr_core.fusion.settings import CONTEXT_SITE, site_settings
from faceexpr_core.text import build_prompts, expression_terms

PERSON = "a photo of a young woman, red hair, green background"
STEPS, CFG, SEED = 4, 4.0, 11
SIZES = {"square": (128, 128), "wide": (96, 160)}  # height, width
SITES = ("skip", "cross_attention", "cross_attention_difference")


@pytest.fixture(scope="module")
def hosts(comfy_modules):
    """Mini in both, the conditionings of one expression, and the nodes."""
    names = ("expression_text_encode", "extract_expression_features", "apply_attention_focused_fusion", "sampler")
    host, (text_encode, extract, apply, sampler) = pack.host(), map(pack.node, names)
    pipe = pipeline.load_pipeline("mini")
    with torch.inference_mode():
        model, clip, vae = host.load_mini()
        positive, neutral = text_encode.ExpressionTextEncode.execute(clip, PERSON, "surprised", 1.0, "none", 0.5, "").args
        negative = host.encode_conditioning(clip, "")
    prompt = build_prompts(PERSON, expression_terms("surprised", 1.0), partial(encoding.count_tokens, pipe))
    return SimpleNamespace(
        pipe=pipe,
        prompt=prompt,
        model=model,
        vae=vae,
        texts=(positive, neutral, negative),
        extract=extract.ExtractExpressionFeatures.execute,
        apply=apply.ApplyAttentionFocusedFusion.execute,
        draw=sampler.Sampler.execute,
    )


def latent(size: tuple[int, int], count: int = 1) -> dict:
    return {"samples": torch.zeros(count, 4, size[0] // 8, size[1] // 8)}


def in_comfyui(hosts, site: str, size: tuple[int, int], **options):
    with torch.inference_mode():
        arguments = (latent(size), SEED, STEPS, CFG, "euler", "normal", 1.0, "surprised")
        return hosts.extract(hosts.model, *hosts.texts, *arguments, vae=hosts.vae, site=site, **options).args[0]


def schedule(hosts) -> tuple[float, ...]:
    samplers = importlib.import_module("comfy.samplers")
    return tuple(samplers.calculate_sigmas(hosts.model.get_model_object("model_sampling"), "normal", STEPS).tolist())


def plan(hosts, size: tuple[int, int]) -> Run:
    return Run(SEED, STEPS, CFG, size[1], size[0], "", schedule(hosts))


def in_diffusers(hosts, site: str, size: tuple[int, int], keep: str = "all"):
    return diffusers_donors.draw_donors(hosts.pipe, hosts.prompt, site_settings(site), plan(hosts, size), keep=keep).bank


class Precise(Recorder):
    """A recorder that keeps features as they come, before they are rounded to half precision."""

    def __init__(self, site: str, sigmas: tuple[float, ...]) -> None:
        super().__init__(site, sigmas)
        self.features: dict[tuple, torch.Tensor] = {}
        self.grids: dict[str, tuple[int, ...]] = {}

    def add(self, place: str, index: int | None, which: str, tensor: torch.Tensor, grid: tuple[int, int] | None = None) -> None:
        assert tensor.shape[0] == 1
        self.features[place, index, which] = tensor.detach().float().clone()
        self.grids[place] = grid or tuple(tensor.shape[2:])


def run_twins(lent, site: str, start: torch.Tensor, sigmas: tuple[float, ...]) -> None:
    if site == CONTEXT_SITE:
        lent.record_contexts()
    else:
        donors.text_twin(lent, start, sigmas, donors.steps_in_window(sigmas, (0.0, 0.8)))


@pytest.mark.parametrize("site", SITES)
def test_the_same_features_are_recorded_at_every_place_and_sigma(hosts, site: str) -> None:
    size, sigmas = SIZES["wide"], schedule(hosts)
    recorded = [sigmas[index] for index in donors.steps_in_window(sigmas, (0.0, 0.8))]
    given, expected = Precise(site, tuple(recorded)), Precise(site, tuple(recorded))

    capture, run, lending = (pack.node(f"host.{name}") for name in ("capture", "run", "donors"))
    with torch.inference_mode():
        recording = given, run.places_of(hosts.model, site)
        positive, neutral, negative = hosts.texts
        marked = [pack.node("host.texts").bare(*text) for text in (positive, neutral)]
        guider = lending.TwinGuider(capture.attach_capture(hosts.model, *recording), *marked, negative, CFG)
        noise, levels = lending.first_noise(hosts.model, latent(size), SEED), torch.tensor(sigmas)
        work = partial(run_twins, site=site, sigmas=sigmas)
        lending.run_session(guider, latent(size), noise, levels, None, 10, recording, lambda lent: work(lent, start=lent.start))

    start = sampling.first_latents(plan(hosts, size), 1, sigmas[0])
    with torch.no_grad():
        run_twins(diffusers_donors.PipelineHost(hosts.pipe, hosts.prompt, expected, plan(hosts, size)), site, start, sigmas)

    assert given.features.keys() == expected.features.keys()
    assert len({place for place, *_ in given.features}) == (9 if site == "skip" else 11)
    if site != CONTEXT_SITE:
        assert given.grids == expected.grids
        assert {index for _, index, _ in given.features} == set(range(len(recorded)))
    for key, value in expected.features.items():
        assert (given.features[key] - value).norm() < 1e-4 * value.norm(), key


@pytest.mark.parametrize(("site", "shape"), [(site, "square") for site in SITES] + [("cross_attention", "wide")])
@pytest.mark.long
def test_the_same_fused_picture_is_drawn(hosts, site: str, shape: str) -> None:
    size = SIZES[shape]
    _, neutral, negative = hosts.texts
    given = in_comfyui(hosts, site, size)
    with torch.inference_mode():
        arguments = (SEED, STEPS, CFG, "euler", "normal", neutral, negative, latent(size, 2), 1.0)
        samples = hosts.draw(hosts.model, *arguments, features=given).args[0]["samples"]
        plain = hosts.draw(hosts.model, *arguments).args[0]["samples"]
        pictures, unfused = hosts.vae.decode(samples) * 255, hosts.vae.decode(plain) * 255

    bank = in_diffusers(hosts, site, size, keep="face")
    prompt = build_prompts(hosts.prompt.neutral, (), partial(encoding.count_tokens, hosts.pipe))
    drawn = sampling.generate(
        hosts.pipe,
        prompt,
        plan(hosts, size),
        count=2,
        fusion=(bank, site_settings(site)),
    )
    difference = (pictures - drawn.float()).abs().mean(dim=(1, 2, 3))
    assert difference.max() <= 2
    changed = (pictures - unfused).abs().mean(dim=(1, 2, 3))
    assert changed.min() > 2 * difference.max() or changed.min() > 0.5


def test_the_same_features_come_from_a_photo(hosts) -> None:
    size, site = SIZES["square"], "cross_attention"
    picture = astronaut()
    photo = torch.from_numpy(picture.astype(np.float32))[None] / 255
    given = in_comfyui(hosts, site, size, tokens="all", photo=photo)
    with FaceDetector() as detector:
        crops = crop_photos(picture, None, size[0], detector)
    expected = diffusers_donors.draw_donors(hosts.pipe, hosts.prompt, site_settings(site), plan(hosts, size), crops, keep="all").bank
    assert given.mode == expected.mode == "twin"
    assert given.tokens.keys() == expected.tokens.keys()
    for key, value in expected.tokens.items():
        # thirteen steps and the VAE twice lie between; half precision
        assert (given.tokens[key].float() - value.float()).norm() < 0.02 * value.float().norm(), key
