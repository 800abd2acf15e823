"""Checkpoints that predict velocity on the command line: read off the folder or file, trained by their own loss, drawn as ComfyUI does."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pack
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from distances import relative

from faceexpr_core import mini
from faceexpr_core.commands.cli import _parser
from faceexpr_core.commands.dreambooth import job_of as paper_job_of
from faceexpr_core.commands.dreambooth_flags import build_parser
from faceexpr_core.commands.generate import open_pipeline
from faceexpr_core.commands.train import job_of
from faceexpr_core.commands.train_job import prepare, run_job
from faceexpr_core.diffusers_host import encoding, pipeline
from faceexpr_core.diffusers_host import sampling as diffusers_sampling
from faceexpr_core.lora.files import read_lora
from faceexpr_core.training.adapter import add_lora
from faceexpr_core.training.data import build_training_set

SEED = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mini's weights in a folder that says that they predict velocity on a schedule of zero SNR."""
    home = tmp_path_factory.mktemp("velocity") / "checkpoint"
    shutil.copytree(mini.path(), home)
    config = home / "scheduler" / "scheduler_config.json"
    told = {**json.loads(config.read_text()), "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    config.write_text(json.dumps(told))
    return home


@pytest.fixture(scope="module")
def pipe(folder: Path) -> StableDiffusionXLPipeline:
    return pipeline.load_pipeline(folder)


def rescaled_levels() -> torch.Tensor:
    """abar of SDXL's schedule moved to zero terminal SNR (Lin et al. 2305.08891, algorithm 1)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    root = (1 - betas).cumprod(0).sqrt()
    return (((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2).float()


@pytest.mark.usefixtures("prepared_here")
def test_training_takes_what_the_checkpoint_says_and_its_first_loss_is_the_formulas(folder: Path, pipe, tmp_path: Path) -> None:
    words = ["train", f"--model={folder}", f"--photos={mini.subject_path()}", f"--output={tmp_path / 'anna'}", "--preset=paper"]
    more = ["--resolution=64", "--rank=2", "--steps=1", "--accumulation=1", "--batch_size=2", f"--seed={SEED}", "--device=cpu"]
    job = job_of(_parser().parse_args([*words, *more, "--precision=fp32", "--captions"]))
    assert run_job(job) == 0
    metadata = read_lora(tmp_path / "anna.safetensors")[1]
    used = json.loads(metadata["faceexpr.settings"])
    assert (used["prediction"], used["zero_snr"], metadata["modelspec.prediction_type"]) == ("v_prediction", True, "v")

    data = build_training_set(
        prepare(job),
        lambda prompts: encoding.encode_prompts(pipe, prompts),
        lambda images: encoding.encode_images(pipe, images),
        1.0,
    )
    generator = torch.Generator().manual_seed(SEED)
    unet = pipeline.load_pipeline(folder).unet
    add_lora(unet, 2, 2.0, generator)
    batch = torch.randperm(len(data), generator=generator)[:2]
    t = torch.randint(1000, (2,), generator=generator)
    noise = torch.randn(2, 4, 8, 8, generator=generator)
    abar = rescaled_levels()[t].view(2, 1, 1, 1)
    clean, added = data.latents[batch], {"text_embeds": data.pooled[batch], "time_ids": data.time_ids[batch]}
    with torch.no_grad():
        noisy = abar.sqrt() * clean + (1 - abar).sqrt() * noise
        predicted = unet(noisy, t, data.prompt_embeds[batch], added_cond_kwargs=added).sample
    velocity = abar.sqrt() * noise - (1 - abar).sqrt() * clean
    snr = (abar / (1 - abar)).flatten()
    loss = (snr.clamp(max=5) / (snr + 1) * ((predicted - velocity) ** 2).mean(dim=(1, 2, 3))).mean()
    assert json.loads(metadata["faceexpr.losses"]) == pytest.approx([float(loss)], rel=1e-4)


@pytest.fixture(scope="module")
def comfyui(comfy_modules):
    """ComfyUI's Mini, and its own sampling of velocity with zero SNR."""
    host = pack.host()
    node = importlib.import_module("comfy_extras.nodes_model_advanced").ModelSamplingDiscrete
    with torch.inference_mode():
        model, clip, vae = host.load_mini()
        (patched,) = node().patch(model, "v_prediction", True)
    return type("ComfyUI", (), {"plain": model, "model": patched, "clip": clip, "vae": vae, "sd": comfy_modules.comfy.sd})


def test_the_schedule_is_comfyuis(comfyui, pipe) -> None:
    samplers = importlib.import_module("comfy.samplers")
    sampling = comfyui.model.get_model_object("model_sampling")
    for steps in (2, 7, 20):
        expected = samplers.calculate_sigmas(sampling, "normal", steps)
        assert expected[0] > 4000
        assert torch.allclose(diffusers_sampling.normal_schedule(pipe, steps), expected, rtol=2e-3)


@pytest.mark.parametrize("sigma", [4518.0, 14.0, 1.0, 0.04])
def test_the_u_net_predicts_the_same_noise(comfyui, pipe, sigma: float) -> None:
    hidden, pooled = encoding.encode_prompts(pipe, ["a photo of a woman"])
    x = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0)) * (sigma**2 + 1) ** 0.5
    given = diffusers_sampling.predict_epsilon(pipe, x, sigma, hidden, pooled)
    base, sampling = comfyui.model.model, comfyui.model.get_model_object("model_sampling")
    base.model_sampling, plain = sampling, base.model_sampling
    try:
        with torch.inference_mode():
            ids = base.encode_adm(pooled_output=pooled, height=16 * 8, width=24 * 8)
            denoised = base.apply_model(x, torch.tensor([sigma]), c_crossattn=hidden, y=ids)
    finally:
        base.model_sampling = plain
    assert relative(x - sigma * given, denoised) < 1e-3


def test_a_single_file_says_so_by_its_empty_tensors(comfyui, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with torch.inference_mode():
        comfyui.sd.save_checkpoint(str(tmp_path / "plain.safetensors"), comfyui.plain, comfyui.clip, comfyui.vae)
    weights = load_file(tmp_path / "plain.safetensors")
    for marks, expected in ((("v_pred",), ("v_prediction", False)), (("v_pred", "ztsnr"), ("v_prediction", True))):
        save_file({**weights, **{mark: torch.zeros(0) for mark in marks}}, tmp_path / "marked.safetensors")
        found = pipeline.prediction_of(pipeline.load_pipeline(tmp_path / "marked.safetensors"))
        assert (found["prediction"], found["zero_snr"]) == expected


def test_the_flag_has_the_last_word_on_every_command_line(folder: Path) -> None:
    draw = ["generate", f"--model={folder}", "--output_dir=out"]
    assert open_pipeline(_parser().parse_args(draw)).scheduler.config.prediction_type == "v_prediction"
    overridden = open_pipeline(_parser().parse_args([*draw, "--prediction_type=epsilon"]))
    assert pipeline.prediction_of(overridden) == {"prediction": "epsilon", "zero_snr": False}
    flag = "--prediction_type=v_prediction"
    words = ["--pretrained_model_name_or_path=mini", f"--instance_data_dir={mini.subject_path()}", "--instance_prompt=a photo of ohwx man"]
    house = ["train", "--model=mini", f"--photos={mini.subject_path()}", "--output=anna"]
    assert paper_job_of(build_parser().parse_args([*words, "--seed=1", flag])).prediction == "v_prediction"
    assert job_of(_parser().parse_args([*house, flag])).prediction == "v_prediction"
    assert job_of(_parser().parse_args(house)).prediction == ""
