"""Libraries that nothing here needs but that diffusers and PEFT import or ask: broken ones, and old ones. Stubs stand in for them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from random_lora import write_lora
from toys import toy_unet

from faceexpr_core import mini
from faceexpr_core.commands.loras import load_loras
from faceexpr_core.diffusers_host.pipeline import load_pipeline
from faceexpr_core.errors import FaceExprError
from faceexpr_core.training import base, libraries
from faceexpr_core.training.adapter import lora_targets, put_lora
from faceexpr_core.training.base import check_lora, quantise
from faceexpr_core.training.libraries import refusal

CPU = torch.device("cpu")
OLD = "Found an incompatible version of torchao. Found version 0.9.0, but only versions above 0.16.0 are supported"
DRAW_AND_LEARN = """
import torch
from faceexpr_core.diffusers_host.pipeline import load_pipeline
from faceexpr_core.training.adapter import add_lora
from faceexpr_core.training.optimizers import optimizer_for
from faceexpr_core.training.settings import TrainSettings
pipe = load_pipeline("mini")
print(len(add_lora(pipe.unet, 1, 1.0, torch.Generator())) > 0, optimizer_for(TrainSettings(optimizer="adamw8bit"), torch.device("cuda")))
"""


def installed(folder: Path, name: str, version: str, **files: str) -> None:
    """A package as pip leaves it: its modules with these lines, and what names its version."""
    (folder / name).mkdir()
    for module, code in {"__init__": "", **files}.items():
        (folder / name / f"{module}.py").write_text(code, encoding="utf-8")
    (told := folder / f"{name}-{version}.dist-info").mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")


def python(code: str, beside: Path) -> subprocess.CompletedProcess[str]:
    """A Python of its own, for which diffusers and PEFT look anew."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(beside), str(Path(mini.__file__).parents[2]))),
        "PYTHONWARNINGS": "ignore",
    }
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=500)


def test_a_broken_xformers_is_left_out_and_said_once(tmp_path: Path) -> None:
    installed(tmp_path, "xformers", "0.0.30", ops="raise ImportError('DLL load failed\\nwhile importing _C')")
    ended = python(DRAW_AND_LEARN, tmp_path)
    assert ended.returncode == 0, ended.stderr
    (line,) = (line for line in ended.stderr.splitlines() if "xformers" in line)
    assert line == "xformers is installed, but cannot be imported (DLL load failed while importing _C); it is not used."


def test_a_bitsandbytes_that_cannot_be_imported_leaves_plain_adamw_as_is_said(tmp_path: Path) -> None:
    """One for another Triton."""
    installed(tmp_path, "bitsandbytes", "0.44.1", __init__="raise ModuleNotFoundError(\"No module named 'triton.ops'\")")
    ended = python(DRAW_AND_LEARN, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("True ('torch.optim.AdamW', ") and "plain AdamW is used" in ended.stdout
    assert ended.stderr.count("bitsandbytes is installed, but cannot be imported (No module named 'triton.ops'); it is not used.") == 1


@pytest.mark.parametrize(("package", "version"), [("torchao", "0.9.0"), ("gptqmodel", "2.0.0")])
def test_an_old_library_that_peft_refuses_does_not_end_a_training(tmp_path: Path, package: str, version: str) -> None:
    installed(tmp_path, package, version)
    ended = python(DRAW_AND_LEARN, tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_good_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from diffusers.utils import import_utils

    before = import_utils._bitsandbytes_available
    with caplog.at_level(logging.WARNING):
        libraries.leave_out_broken.__wrapped__()
    assert not caplog.records and import_utils._bitsandbytes_available is before is True


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT beside an old torchao."""

    def refuse() -> bool:
        raise ImportError(OLD)

    monkeypatch.setattr("peft.tuners.lora.torchao.is_torchao_available", refuse)


def test_the_layers_of_a_lora_are_those_that_peft_would_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import LoraConfig

    ours, pefts = toy_unet(), toy_unet()
    names = lora_targets(ours, convolutions=True)
    layers = put_lora(ours, names, 2, 2.0, torch.Generator().manual_seed(0))
    monkeypatch.setattr(LoraConfig, "_register_custom_module", lambda *_: None)
    assert put_lora(pefts, names, 2, 2.0, torch.Generator().manual_seed(0)).keys() == layers.keys()
    assert list(ours.state_dict()) == list(pefts.state_dict())
    assert [type(part) for part in ours.modules()] == [type(part) for part in pefts.modules()]


@pytest.mark.parametrize("kind", ["full", "nf4", "int8"])
def test_a_lora_is_put_on_every_base_beside_a_library_that_peft_refuses(kind: str, refusing: None) -> None:
    check_lora(kind, CPU)
    unet = toy_unet()
    quantise(unet, kind, CPU, torch.float32)
    names = lora_targets(unet, convolutions=True)
    assert list(put_lora(unet, names, 2, 2.0, torch.Generator())) == names


def test_what_no_lora_can_be_put_on_is_told_before_any_work_and_draws_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.random.get_rng_state()
    check_lora("full", CPU)
    assert torch.equal(torch.random.get_rng_state(), state)

    def refuse(*_: object) -> None:
        raise ImportError(OLD)

    monkeypatch.setattr(base, "put_lora", refuse)
    with pytest.raises(
        FaceExprError, match=r"beside the torchao that is installed: Found .*0\.9\.0.*-m pip uninstall torchao; or .*--upgrade torchao$"
    ):
        check_lora("full", CPU)


def test_an_error_that_names_no_package_is_pefts() -> None:
    assert refusal(KeyError()).startswith("PEFT cannot put a LoRA on a model here: KeyError. Type: ")
    assert refusal(TypeError("LoraConfig has no r")).endswith("-m pip install --upgrade peft")


def test_a_lora_that_is_given_says_which_package_stands_in_its_way(tmp_path: Path, refusing: None) -> None:
    lora = write_lora(tmp_path / "person.safetensors")
    with pytest.raises(FaceExprError, match=r"^the LoRA .* cannot be applied here\. PEFT .* beside the torchao"):
        load_loras(load_pipeline("mini"), [lora], 1.0)
