"""A bitsandbytes that is installed but whose CUDA library does not load: the fallback is taken, and what cannot be is told."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import bitsandbytes
import pytest
import torch

from faceexpr_core.errors import FaceExprError
from faceexpr_core.training.auto import settle
from faceexpr_core.training.base import check_base
from faceexpr_core.training.bits import unusable
from faceexpr_core.training.optimizers import EIGHT_BIT, PLAIN, optimizer_for
from faceexpr_core.training.plan import GB, need_of
from faceexpr_core.training.settings import preset_settings

CARD, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def another_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes as it loads itself on a card for whose CUDA it holds no library."""
    monkeypatch.setenv("BNB_CUDA_VERSION", "999")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: SimpleNamespace(name="RTX 3060", major=8))
    specs = bitsandbytes.cuda_specs
    monkeypatch.setattr(specs, "get_cuda_version_tuple", specs.get_cuda_version_tuple.__wrapped__)  # it remembers that there is none
    monkeypatch.setattr(bitsandbytes.cextension, "lib", library_loaded_anew())


def library_loaded_anew() -> Any:
    """By bitsandbytes' own module, run once more beside the one that is in use."""
    assert bitsandbytes.cextension.__file__ is not None
    spec = importlib.util.spec_from_file_location("loaded_anew", bitsandbytes.cextension.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.lib


def test_a_library_that_does_not_load_is_told_and_plain_adamw_taken(another_cuda: None) -> None:
    with pytest.raises(RuntimeError):  # what it does at the first step
        bitsandbytes.cextension.lib.cadam_8bit_blockwise_grad_fp32()
    reason = unusable(CARD)
    assert reason is not None and "libbitsandbytes_cuda999" in reason and "\n" not in reason
    name, note = optimizer_for(preset_settings("default"), CARD)
    assert name == PLAIN and note == f"8-bit AdamW needs the package bitsandbytes, which {reason}; plain AdamW is used."
    with pytest.raises(FaceExprError, match=r"base is nf4, .* cannot be used \(.*cuda999.*take base full"):
        check_base("nf4", CARD)
    check_base("full", CARD)


def test_auto_and_the_plan_reckon_with_plain_adamw_there(another_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    room = round(10 * GB)
    assert {settle("auto", {}, side, room).settings.base for side in (1024, 768, 512)} == {"full"}
    broken = need_of(preset_settings("default"), 1024).parts["optimiser"]
    monkeypatch.undo()
    assert need_of(preset_settings("default"), 1024).parts["optimiser"] == pytest.approx(broken * 2.1 / 8, rel=1e-3)


def test_one_that_loads_is_used_and_a_cpu_needs_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unusable() is None and unusable(CPU) is None
    assert optimizer_for(preset_settings("default"), CARD) == (EIGHT_BIT, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert unusable() == unusable(CPU) == "is not installed"
