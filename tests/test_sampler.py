"""FaceExpr Sampler is KSampler until asked for more."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pack
import pytest
import torch
from safetensors.torch import load_file, save_file

from faceexpr_core.text import expression_direction

PERSON = "a photo of a young man, (black hair:1.2), blue background"


@pytest.fixture(scope="module")
def mini(comfy_modules):
    """ComfyUI's Mini, conditionings of one prompt, and the nodes."""
    host, text_encode, sampler = pack.host(), pack.node("expression_text_encode"), pack.node("sampler")
    with torch.inference_mode():
        model, clip, _ = host.load_mini()
        positive, neutral = text_encode.ExpressionTextEncode.execute(clip, PERSON, "surprised", 1.0, "none", 0.5, "").args
        negative = host.encode_conditioning(clip, "blurry")
        yield SimpleNamespace(
            host=host,
            model=model,
            clip=clip,
            positive=positive,
            neutral=neutral,
            negative=negative,
            encode=text_encode.ExpressionTextEncode.execute,
            sampler=sampler.Sampler.execute,
            nodes=comfy_modules.nodes,
            error=comfy_modules.core.errors.FaceExprError,
        )


def latent(**extra) -> dict:
    return {"samples": torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5)), **extra}


@pytest.mark.parametrize(
    ("sampler", "scheduler", "denoise", "extra"),
    [
        ("euler", "normal", 1.0, {}),
        ("dpmpp_2m_sde", "karras", 1.0, {}),
        ("heun", "sgm_uniform", 0.6, {}),
        ("uni_pc", "simple", 0.8, {"noise_mask": torch.ones(1, 1, 64, 64).tril()}),
        ("euler_ancestral", "normal", 1.0, {"batch_index": [3, 7]}),
        ("euler", "normal", 0.0, {}),
    ],
)
def test_without_options_it_gives_ksamplers_latents_bit_for_bit(mini, sampler, scheduler, denoise, extra) -> None:
    arguments = (mini.model, 7, 3, 4.5, sampler, scheduler, mini.positive, mini.negative)
    expected = mini.nodes.KSampler().sample(*arguments, latent(**extra), denoise)[0]
    given = mini.sampler(*arguments, latent(**extra), denoise).args[0]
    assert given.keys() == expected.keys()
    assert torch.equal(given["samples"], expected["samples"])


def test_at_scale_one_a_connected_neutral_changes_nothing(mini) -> None:
    arguments = (mini.model, 7, 2, 4.5, "euler", "normal", mini.positive, mini.negative, latent(), 1.0)
    plain, connected = mini.sampler(*arguments).args[0], mini.sampler(*arguments, neutral=mini.neutral).args[0]
    assert torch.equal(plain["samples"], connected["samples"])


def epsilon_mode(mini, scale: float, cfg: float, sampler: str = "dpmpp_2m", steps: int = 3, start: dict | None = None) -> torch.Tensor:
    guider = mini.host.ExpressionGuider(
        mini.model, mini.positive, mini.negative, mini.neutral, cfg, partial(expression_direction, scale=scale)
    )
    settings = {"seed": 7, "steps": steps, "cfg": cfg, "sampler": sampler, "scheduler": "karras", "denoise": 1.0}
    return mini.host.sample(mini.model, mini.positive, mini.negative, start or latent(), guider=guider, **settings)["samples"]


@pytest.mark.parametrize("cfg", [1.0, 5.0])
@pytest.mark.parametrize(("scale", "conditioning"), [(1.0, "positive"), (0.0, "neutral")])
def test_the_epsilon_mode_ends_at_plain_guidance_by_expression_and_by_neutral(mini, cfg, scale, conditioning) -> None:
    arguments = (mini.model, 7, 3, cfg, "dpmpp_2m", "karras", getattr(mini, conditioning), mini.negative, latent(), 1.0)
    expected = mini.nodes.KSampler().sample(*arguments)[0]["samples"]
    difference = (epsilon_mode(mini, scale, cfg) - expected).abs().max()
    assert difference < 1e-3 * expected.abs().max()


def test_the_epsilon_mode_keeps_a_noise_mask(mini) -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    kept = epsilon_mode(mini, 1.5, 3.0, start=latent(noise_mask=mask))
    assert torch.allclose(kept[..., :4], latent()["samples"][..., :4], atol=1e-4)
    assert not torch.allclose(kept[..., 4:], latent()["samples"][..., 4:], atol=1e-2)


def test_one_step_of_the_epsilon_mode_is_its_formula(mini) -> None:
    samplers = importlib.import_module("comfy.samplers")
    seen = []

    class Recording(mini.host.ExpressionGuider):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            result = super().predict_noise(x, timestep, model_options, seed)
            conds = [self.conds[name] for name in ("negative", "neutral", "positive")]
            parts = samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
            seen.append([(x - part) / timestep.view(-1, 1, 1, 1) for part in (*parts, result)])
            return result

    w, a = 4.0, 1.7
    guider = Recording(mini.model, mini.positive, mini.negative, mini.neutral, w, partial(expression_direction, scale=a))
    settings = {"seed": 1, "steps": 3, "cfg": w, "sampler": "euler", "scheduler": "normal", "denoise": 1.0}
    mini.host.sample(mini.model, mini.positive, mini.negative, latent(), guider=guider, **settings)
    assert len(seen) == 3
    u, n, e, given = seen[1]  # at middle noise, where the words matter most
    expected, plain = u + w * (n - u) + w * a * (e - n), u + w * (e - u)
    assert (given - expected).norm() < 1e-4 * expected.norm()
    assert (given - expected).norm() < 0.05 * (expected - plain).norm()


def test_patches_of_other_packs_see_the_mixed_prediction(mini) -> None:
    calls = []

    def note_scale(args: dict) -> torch.Tensor:
        calls.append(args["cond_scale"])
        return args["denoised"]

    model = mini.model.clone()
    model.set_model_sampler_post_cfg_function(note_scale)
    options = {"neutral": mini.neutral, "expression_scale": 1.4}
    mini.sampler(model, 7, 2, 3.0, "euler", "normal", mini.positive, mini.negative, latent(), 1.0, **options)
    assert calls == [3.0, 3.0]


def test_patches_of_other_packs_meet_no_third_kind_of_row(mini) -> None:
    kinds = []

    def note_rows(n: torch.Tensor, extra: dict) -> torch.Tensor:
        kinds.extend(extra["cond_or_uncond"])
        return n

    model = mini.model.clone()
    model.set_model_attn2_output_patch(note_rows)
    options = {"neutral": mini.neutral, "expression_scale": 1.4}
    mini.sampler(model, 7, 1, 3.0, "euler", "normal", mini.positive, mini.negative, latent(), 1.0, **options)
    assert set(kinds) == {0, 1}
    assert kinds.count(0) == 2 * kinds.count(1)


def test_full_intensity_is_comfyuis_own_encoding_bit_for_bit(mini) -> None:
    for prompt, built in [
        (PERSON, f"{PERSON}, surprised expression"),
        ("a {expression} man, {a|b}, " * 9, "a surprised expression man, {a|b}, " * 9),
    ]:
        ((hidden, extra),) = mini.encode(mini.clip, prompt, "surprised", 1.0, "none", 0.5, "").args[0]
        ((expected, expected_extra),) = mini.nodes.CLIPTextEncode().encode(mini.clip, built)[0]
        assert torch.equal(hidden, expected)
        assert extra.keys() == expected_extra.keys()
        assert torch.equal(extra["pooled_output"], expected_extra["pooled_output"])


def test_none_encodes_the_prompt_alone(mini) -> None:
    conditioning, neutral = mini.encode(mini.clip, PERSON, "none", 1.0, "none", 0.5, "").args
    expected = mini.nodes.CLIPTextEncode().encode(mini.clip, PERSON)[0]
    assert torch.equal(conditioning[0][0], expected[0][0])
    assert torch.equal(neutral[0][0], expected[0][0])


def test_half_intensity_lies_half_way(mini) -> None:
    ((half, extra),) = mini.encode(mini.clip, PERSON, "surprised", 0.5, "none", 0.5, "").args[0]
    assert torch.allclose(half, (mini.positive[0][0] + mini.neutral[0][0]) / 2, atol=1e-5)
    pooled = (mini.positive[0][1]["pooled_output"] + mini.neutral[0][1]["pooled_output"]) / 2
    assert torch.allclose(extra["pooled_output"], pooled, atol=1e-5)


def test_an_embedding_in_the_prompt_is_kept(mini, comfy_modules) -> None:
    folder = Path(comfy_modules.folder_paths.get_folder_paths("embeddings")[0])
    folder.mkdir(parents=True, exist_ok=True)
    vectors = torch.randn(2, 96, generator=torch.Generator().manual_seed(4))
    save_file({"clip_l": vectors[:, :32].contiguous(), "clip_g": vectors[:, 32:].contiguous()}, folder / "kept_word.safetensors")
    prompt = "a photo of embedding:kept_word, (red hair:1.2)"
    expected, phrase = (mini.nodes.CLIPTextEncode().encode(mini.clip, words)[0][0] for words in (prompt, f"{prompt}, happy expression"))
    plain, neutral = mini.encode(mini.clip, prompt, "none", 1.0, "none", 0.5, "").args
    happy, _ = mini.encode(mini.clip, prompt, "happy", 1.0, "none", 0.5, "").args
    assert torch.equal(plain[0][0], expected[0]) and torch.equal(neutral[0][0], expected[0])
    assert torch.allclose(happy[0][0], phrase[0], atol=1e-5)
    without = mini.nodes.CLIPTextEncode().encode(mini.clip, "a photo of kept_word, (red hair:1.2), happy expression")[0][0]
    assert without[0].shape != phrase[0].shape or not torch.allclose(without[0], phrase[0], atol=1e-2)


def test_comfyuis_table_of_models_is_left_alone(mini) -> None:
    supported = importlib.import_module("comfy.supported_models")
    assert all(model.__module__.startswith("comfy.") for model in supported.models)
    assert supported.SDXL.unet_config["context_dim"] == 2048
    assert supported.SDXL.unet_extra_config["num_head_channels"] == 64


def test_progress_stops_when_the_user_cancels(mini) -> None:
    management = importlib.import_module("comfy.model_management")
    bar = mini.host.Progress(3)
    bar.update(1)
    management.interrupt_current_processing(True)
    with pytest.raises(mini.host.Interrupted):
        bar.update(2)
    bar.update(3)


def test_work_that_says_what_it_is_at_stops_when_the_user_cancels(mini) -> None:
    management = importlib.import_module("comfy.model_management")
    mini.host.say_or_stop("at the first")
    management.interrupt_current_processing(True)
    with pytest.raises(mini.host.Interrupted):
        mini.host.say_or_stop("at the second")
    mini.host.say_or_stop("at the second again")


def test_over_http_the_sampler_saves_what_ksampler_saves(comfy) -> None:
    common = {"model": ["1", 0], "seed": 3, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal"}
    inputs = {**common, "positive": ["2", 0], "negative": ["2", 1], "latent_image": ["3", 0], "denoise": 1.0}
    encode = {
        **{"clip": ["1", 1], "prompt": PERSON, "expression": "bittersweet", "intensity": 1.2},
        **{"second_expression": "angry", "second_weight": 0.3, "action_units": "AU43"},
    }
    scaled = {**inputs, "neutral": ["2", 1], "expression_scale": 2.0}
    graph = {
        "1": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "2": {"class_type": "FaceExprExpressionTextEncode", "inputs": encode},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "4": {"class_type": "KSampler", "inputs": inputs},
        "5": {"class_type": "FaceExprSampler", "inputs": inputs},
        "6": {"class_type": "FaceExprSampler", "inputs": scaled},
        **{
            f"{node}0": {"class_type": "SaveLatent", "inputs": {"samples": [node, 0], "filename_prefix": f"sampler/{node}"}}
            for node in "456"
        },
    }
    comfy.run(graph)
    saved = {node: load_file(next((comfy.output_dir / "sampler").glob(f"{node}_*.latent")))["latent_tensor"] for node in "456"}
    assert saved["4"].shape == (1, 4, 8, 8)
    assert torch.equal(saved["4"], saved["5"])
    assert not torch.allclose(saved["4"], saved["6"], atol=1e-3)
