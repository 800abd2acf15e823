"""ComfyUI and diffusers, given the same Mini weights, give the same embeddings, latents, noise and pictures."""

from __future__ import annotations

import importlib
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pack
import pytest
import torch
from distances import relative

from faceexpr_core import mini
from faceexpr_core.diffusers_host import encoding, pipeline, sampling, training
from faceexpr_core.fusion.run import Run
from faceexpr_core.text import build_prompts, expression_terms

PROMPTS = (
    "a photo of a young woman, tan skin, red hair, green background, sad expression",
    "Ünïcode!  two   spaces, it's a (bracket\\), 50% {expression}",
    "",
    "a portrait of an old man, " * 20,
)
PERSON = "a photo of a young woman, red hair, green background"
SIZE = mini.RESOLUTION


@pytest.fixture(scope="module")
def comfyui(comfy_modules):
    """ComfyUI's Mini with the pack's own host and nodes."""
    host, text_encode, sampler = pack.host(), pack.node("expression_text_encode"), pack.node("sampler")
    with torch.inference_mode():
        model, clip, vae = host.load_mini()
    return SimpleNamespace(
        host=host, model=model, clip=clip, vae=vae, encode=text_encode.ExpressionTextEncode.execute, sample=sampler.Sampler.execute
    )


@pytest.mark.parametrize("prompt", PROMPTS)
def test_text_embeddings_agree(comfyui, pipe, prompt: str) -> None:
    literal = prompt.replace("(", "\\(")  # ComfyUI reads brackets as weights unless escaped
    hidden, pooled = comfyui.host.encode_text(comfyui.clip, [literal])
    expected_hidden, expected_pooled = encoding.encode_prompts(pipe, [prompt.replace("\\)", ")")])
    assert hidden.shape == expected_hidden.shape
    assert relative(hidden, expected_hidden) < 1e-5
    assert relative(pooled, expected_pooled) < 1e-5


def test_escaped_parentheses_are_parentheses_in_both(comfyui, pipe) -> None:
    prompt = r"a photo of a woman \(red hair\), smiling"
    hidden, _ = comfyui.host.encode_text(comfyui.clip, [prompt])
    expected, _ = encoding.encode_prompts(pipe, [prompt])
    assert relative(hidden, expected) < 1e-5


@pytest.mark.parametrize(("words", "told"), [("(red hair:1.4)", 1), ("embedding:her", 1), (r"red \(dyed\) hair", 0), ("red hair", 0)])
def test_weights_that_are_not_read_are_told(pipe, words: str, told: int, monkeypatch, caplog) -> None:
    monkeypatch.setattr(encoding, "_told", [])
    for _ in range(2):
        encoding.encode_prompts(pipe, [f"a photo of a woman, {words}"])
    said = [record.getMessage() for record in caplog.records if "are text here, not weights" in record.getMessage()]
    assert len(said) == told


def test_texts_of_different_lengths_are_stacked_alike(comfyui, pipe) -> None:
    texts = [PERSON, PROMPTS[3]]
    hidden, _ = comfyui.host.encode_text(comfyui.clip, texts)
    expected, _ = encoding.encode_prompts(pipe, texts)
    assert hidden.shape == expected.shape
    assert relative(hidden, expected) < 1e-5


def test_token_counts_agree(comfyui, pipe) -> None:
    for prompt in (PERSON, "it's 50% {expression}!", PROMPTS[3], ""):
        (expected,) = encoding.count_tokens(pipe, prompt)
        assert comfyui.host.count_tokens(comfyui.clip, prompt) == (expected, expected)


@pytest.mark.parametrize("sigma", [14.0, 4.0, 1.0, 0.2, 0.04])
def test_the_u_net_predicts_the_same_noise(comfyui, pipe, sigma: float) -> None:
    hidden, pooled = encoding.encode_prompts(pipe, [PERSON])
    x = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0)) * (sigma**2 + 1) ** 0.5
    expected = sampling.predict_epsilon(pipe, x, sigma, hidden, pooled)
    base = comfyui.model.model
    with torch.inference_mode():
        ids = base.encode_adm(pooled_output=pooled, height=16 * 8, width=24 * 8)
        denoised = base.apply_model(x, torch.tensor([sigma]), c_crossattn=hidden, y=ids)
    assert relative((x - denoised) / sigma, expected) < 1e-4


def test_the_schedule_is_comfyuis(comfyui, pipe) -> None:
    samplers = importlib.import_module("comfy.samplers")
    model_sampling = comfyui.model.get_model_object("model_sampling")
    for steps in (1, 2, 7, 20, 50):
        expected = samplers.calculate_sigmas(model_sampling, "normal", steps)
        assert torch.allclose(sampling.normal_schedule(pipe, steps), expected, rtol=1e-5)


def test_pictures_become_the_same_latents_and_back(comfyui, pipe) -> None:
    images = torch.rand(2, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(1))
    latents = comfyui.host.encode_images(comfyui.model, comfyui.vae, images)
    assert relative(latents, encoding.encode_images(pipe, images)) < 1e-4
    assert not latents.is_inference()
    as_bytes = (images * 255).round().to(torch.uint8)
    assert relative(encoding.encode_images(pipe, as_bytes), latents) < 0.01

    decoded = comfyui.host.decode_latents(comfyui.model, comfyui.vae, latents)
    expected = encoding.decode_latents(pipe, latents).float() / 255
    assert (decoded - expected).abs().max() < 1.5 / 255


@pytest.mark.parametrize(
    ("expression", "intensity", "scale"), [("happy", 1.0, None), ("fearfully surprised", 1.3, None), ("contempt", 1.0, 1.6)]
)
def test_the_same_noise_gives_the_same_picture(comfyui, pipe, expression: str, intensity: float, scale: float | None) -> None:
    steps, cfg, seed = 6, 4.0, 11
    with torch.inference_mode():
        positive, neutral = comfyui.encode(comfyui.clip, PERSON, expression, intensity, "none", 0.5, "").args
        negative = comfyui.host.encode_conditioning(comfyui.clip, "")
        options = {"neutral": neutral, "expression_scale": scale} if scale else {}
        empty = {"samples": torch.zeros(2, 4, SIZE // 8, SIZE // 8)}
        latent = comfyui.sample(comfyui.model, seed, steps, cfg, "euler", "normal", positive, negative, empty, 1.0, **options).args[0]
        pictures = comfyui.vae.decode(latent["samples"])

    samplers = importlib.import_module("comfy.samplers")
    sigmas = samplers.calculate_sigmas(comfyui.model.get_model_object("model_sampling"), "normal", steps)
    prompt = build_prompts(PERSON, expression_terms(expression, intensity), partial(encoding.count_tokens, pipe))
    drawn = sampling.generate(
        pipe, prompt, Run(seed, steps, cfg, SIZE, SIZE, sigmas=tuple(sigmas.tolist())), count=2, expression_scale=scale
    )
    difference = (pictures * 255 - drawn.float()).abs().mean(dim=(1, 2, 3))
    assert difference.max() <= 2
    assert drawn.float().std() > 5
    assert (drawn[0].float() - drawn[1].float()).abs().mean() > 2


def test_both_draw_the_class_alike_and_without_guidance(comfyui) -> None:
    calls: list[int] = []
    ours = training.DiffusersHost(pipeline.load_pipeline("mini"), torch.device("cpu"))
    ours.pipe.unet.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    drawn = ours.draw("a photo of a woman, happy expression", 3, SIZE)
    assert calls == [1] * 20
    assert ours.recipe(SIZE)["cfg"] == 1
    with torch.inference_mode():
        theirs = pack.node("host.training").TrainingHost(comfyui.model, comfyui.clip, comfyui.vae, "the test")
        assert theirs.recipe(SIZE)["cfg"] == 1
        difference = np.abs(theirs.draw("a photo of a woman, happy expression", 3, SIZE).astype(float) - drawn.astype(float)).mean()
    assert difference <= 2 < drawn.std()


def test_text_encoders_and_vae_are_known_again_and_others_told_from_them(comfyui) -> None:
    def parts(clip: Any) -> dict[str, str]:
        return pack.node("host.training").TrainingHost(comfyui.model, clip, comfyui.vae, "the test").parts()

    with torch.inference_mode():
        before, skipped, changed = parts(comfyui.clip), comfyui.clip.clone(), comfyui.clip.clone()
        skipped.clip_layer(-1)
        key = next(
            name
            for name in comfyui.clip.patcher.model.state_dict()
            if name.endswith("clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight")
        )
        weight = comfyui.clip.patcher.model.state_dict()[key]
        changed.add_patches({key: (torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)),)}, 1.0)
        others = [parts(clip) for clip in (skipped, changed)]
        assert parts(comfyui.clip) == before and len({before["text_encoders"], *(one["text_encoders"] for one in others)}) == 3
    assert {one["vae"] for one in others} == {before["vae"]}


def test_the_exported_u_net_holds_the_models_weights(comfyui, pipe) -> None:
    with torch.inference_mode():
        unet = comfyui.host.export_unet(comfyui.model)
    expected = pipe.unet.state_dict()
    assert unet.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in unet.state_dict().items())


def test_a_u_net_in_fp8_is_exported_in_full_and_drawn_with(comfyui, pipe, monkeypatch) -> None:
    """As a checkpoint in fp8, or ComfyUI's own switch, loads it."""
    monkeypatch.setattr(importlib.import_module("comfy.cli_args").args, "fp8_e4m3fn_unet", True)
    with torch.inference_mode():
        model = comfyui.host.load_mini()[0]
        assert {value.dtype for value in model.model.diffusion_model.parameters()} == {torch.float8_e4m3fn}
        exported = comfyui.host.export_unet(model).state_dict()
        empty = {"samples": torch.zeros(1, 4, 8, 8)}
        texts = comfyui.encode(comfyui.clip, PERSON, "happy", 1.0, "none", 0.5, "").args[:2]
        run = (3, 2, 4.0, "euler", "normal", texts[0], comfyui.host.encode_conditioning(comfyui.clip, ""), empty, 1.0)
        eighths, whole = (
            comfyui.sample(one, *run, neutral=texts[1], expression_scale=1.6).args[0]["samples"] for one in (model, comfyui.model)
        )
    expected = pipe.unet.state_dict()
    assert all(torch.equal(value, expected[name].to(torch.float8_e4m3fn).float()) for name, value in exported.items())
    assert 0 < relative(eighths, whole) < 0.5


def test_the_exported_u_net_has_the_models_patches_and_leaves_the_model_alone(comfyui, pipe) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    weight = pipe.unet.state_dict()[name]
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        patched = comfyui.model.clone()
        patched.add_patches({key: (change,)}, 0.5)
        exported = comfyui.host.export_unet(patched).state_dict()
        again = comfyui.host.export_unet(comfyui.model).state_dict()
    assert torch.allclose(exported[name], weight + 0.5 * change, atol=1e-5)
    assert torch.equal(again[name], weight)


def test_weights_are_exported_from_a_model_in_dynamic_vram(comfyui, monkeypatch) -> None:
    """ComfyUI's own patcher for it, on a CPU, where there is no page-locked memory to manage. ComfyUI 0.12 and later."""
    patchers = importlib.import_module("comfy.model_patcher")
    if not hasattr(patchers, "ModelPatcherDynamic"):
        pytest.skip("this ComfyUI has no dynamic VRAM")
    no_memory = SimpleNamespace(size=0, truncate=lambda *args, **kwargs: None)
    monkeypatch.setattr(patchers.comfy_aimdo.host_buffer, "HostBuffer", lambda *args: no_memory)

    # its own `__new__` gives a plain patcher on a CPU
    on_cpu = type("OnCpu", (patchers.ModelPatcherDynamic,), {"__new__": lambda cls, *args, **kwargs: object.__new__(cls)})
    with torch.inference_mode():
        plain = comfyui.host.load_mini()[0]
        names = importlib.import_module("comfy.utils").unet_to_diffusers(plain.model.model_config.unet_config)
        before = {key: value.clone() for key, value in plain.model.state_dict().items()}
        dynamic = on_cpu(plain.model, plain.load_device, plain.offload_device).clone()
        dynamic.add_patches({key: (torch.ones_like(value),) for key, value in before.items() if key.endswith("weight")}, 0.25)
        exported = comfyui.host.export_unet(dynamic).state_dict()
    assert dynamic.is_dynamic()
    for name, value in exported.items():
        expected = before[f"diffusion_model.{names[name]}"] + (0.25 if name.endswith("weight") else 0)
        assert torch.allclose(value, expected, atol=1e-5), name


def test_gradients_flow_through_the_exported_u_net_inside_a_node(comfyui) -> None:
    with torch.inference_mode():
        unet = comfyui.host.export_unet(comfyui.model)
        hidden, pooled = comfyui.host.encode_text(comfyui.clip, [PERSON])
        with torch.inference_mode(False), torch.enable_grad():
            context = hidden.requires_grad_()
            added = {"text_embeds": pooled, "time_ids": torch.tensor([[128.0, 128, 0, 0, 128, 128]])}
            unet(torch.randn(1, 4, 8, 8), torch.tensor(500), context, added_cond_kwargs=added).sample.square().mean().backward()
    assert context.grad is not None
    assert context.grad.abs().sum() > 0


def test_a_full_sdxl_u_net_is_described_as_diffusers_describes_it(comfyui) -> None:
    detection = importlib.import_module("comfy.model_detection")
    diffusers = pytest.importorskip("diffusers")
    expected = diffusers.UNet2DConditionModel.load_config(pipeline.SDXL_CONFIGS / "unet")
    comfy_config = comfyui.host.comfy_unet_config({**expected})
    known = next(
        config for config in _diffusers_unets(detection) if config["context_dim"] == 2048 and config["transformer_depth"][-1] == 10
    )
    for key in (
        "model_channels",
        "transformer_depth",
        "transformer_depth_output",
        "transformer_depth_middle",
        "channel_mult",
        "adm_in_channels",
    ):
        assert comfy_config[key] == known[key], key
    described = comfyui.host.diffusers_unet_config(comfy_config)
    assert all(described[key] == expected[key] for key in described)


def _diffusers_unets(detection) -> list[dict]:
    """SDXL as ComfyUI itself describes it when it meets a diffusers U-Net of that shape."""
    weights = {
        "conv_in.weight": torch.empty(320, 4, 3, 3, device="meta"),
        "class_embedding.linear_1.weight": torch.empty(1280, 2816, device="meta"),
    }
    for level, (width, depth) in enumerate([(320, 0), (640, 2), (1280, 10)]):
        for block in range(2):
            weights[f"down_blocks.{level}.resnets.{block}.conv1.weight"] = torch.empty(width, width, 3, 3, device="meta")
            for layer in range(depth):
                name = f"down_blocks.{level}.attentions.{block}.transformer_blocks.{layer}.attn2.to_k.weight"
                weights[name] = torch.empty(width, 2048, device="meta")
    found = detection.unet_config_from_diffusers_unet(weights)
    return [found] if found else []
