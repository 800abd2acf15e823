"""Checkpoints of another noise schedule than SDXL's: told and refused, by folder and by file, by whatever reads a model."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from faceexpr_core import mini
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.diffusers_host import pipeline
from faceexpr_core.diffusers_host.training import open_host
from faceexpr_core.errors import FaceExprError


def scheduled(home: Path, kind: str, **config: object) -> Path:
    """Mini in a folder, with a scheduler of this class of diffusers and what is changed in its configuration."""
    shutil.copytree(mini.path(), home)
    parts = json.loads((home / "model_index.json").read_text())
    (home / "model_index.json").write_text(json.dumps({**parts, "scheduler": ["diffusers", kind]}))
    if kind.startswith(("EDM", "Flow")):
        getattr(diffusers, kind)(**config).save_pretrained(home / "scheduler")
    else:
        file = home / "scheduler" / "scheduler_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "_class_name": kind, **config}))
    return home


@pytest.mark.parametrize(
    ("kind", "config", "told"),
    [
        ("EDMEulerScheduler", {"prediction_type": "v_prediction"}, r"\(its scheduler is EDMEulerScheduler\): it was made for EDM"),  # CosXL
        ("EDMDPMSolverMultistepScheduler", {}, r"\(its scheduler is EDMDPMSolverMultistepScheduler\)"),  # Playground v2.5
        ("FlowMatchEulerDiscreteScheduler", {}, "or for a flow"),
        ("EulerDiscreteScheduler", {"beta_schedule": "linear"}, r"another noise schedule than SDXL \(beta_schedule linear"),
        ("DDIMScheduler", {"beta_end": 0.02}, r"beta_end 0\.02"),
        ("EulerDiscreteScheduler", {"trained_betas": [0.01] * 1000}, "trained_betas"),
        ("SchedulerOfTomorrow", {}, "drawn by SchedulerOfTomorrow, which the diffusers here does not have"),
    ],
)
def test_a_model_of_another_noise_schedule_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, config: dict[str, Any], told: str
) -> None:
    model = str(scheduled(tmp_path / "model", kind, **config))
    with pytest.raises(FaceExprError, match=told):
        open_host(model, "", "fp32", torch.device("cpu"))
    assert faceexpr(["generate", f"--model={model}", "--prompt=a woman, {expression}", f"--output_dir={tmp_path / 'out'}"]) == 2
    assert re.search(told, capsys.readouterr().err) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_whichever_sampler_a_folder_names_its_noise_schedule_counts(tmp_path: Path, kind: str, zero_snr: bool) -> None:
    more = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True} if zero_snr else {}
    pipe = pipeline.load_pipeline(scheduled(tmp_path / "model", kind, **more))
    assert pipeline.prediction_of(pipe) == {"prediction": "v_prediction" if zero_snr else "epsilon", "zero_snr": zero_snr}


@pytest.mark.parametrize("marks", [("edm_mean", "edm_std"), ("edm_vpred.sigma_max", "edm_vpred.sigma_min")], ids=["playground", "cosxl"])
def test_a_checkpoint_file_of_edm_is_refused(tmp_path: Path, marks: tuple[str, ...]) -> None:
    path, held = tmp_path / "edm.safetensors", {name: torch.ones(4) for name in marks}
    held |= {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3)}
    save_file({**held, "conditioner.embedders.1.model.ln_final.weight": torch.zeros(1280)}, path)
    with pytest.raises(FaceExprError, match=rf"it holds {marks[0]}\): it was made for EDM.* Give another SDXL model"):
        pipeline.load_pipeline(path, prediction="epsilon")
