"""What was read from a file is kept apart from it: ComfyUI holds it for hours, while the file is written over, replaced or deleted."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from faceexpr_core.fusion.recorder import Recorder, load_bank, save_bank
from faceexpr_core.fusion.settings import CONTEXT_SITE
from faceexpr_core.lora.files import read_lora


def bank_of(folder: Path) -> tuple[Path, Mapping[str, Tensor]]:
    recorder = Recorder(CONTEXT_SITE)
    for which in ("e:k", "e:v", "n:k", "n:v"):
        recorder.add("middle.0.0", None, which, torch.ones(1, 77, 64))
    path = save_bank(recorder.bank(), folder / "happy.safetensors")
    return path, load_bank(path).tokens


def lora_of(folder: Path) -> tuple[Path, Mapping[str, Tensor]]:
    path = folder / "anna.safetensors"
    save_file({f"lora_unet_{part}": torch.ones(64, 64) for part in ("down", "up")}, path)
    return path, read_lora(path)[0]


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is mapped there cannot be written over at all")
@pytest.mark.parametrize("read", [bank_of, lora_of])
def test_a_file_that_is_written_over_in_place_changes_nothing_that_was_read(tmp_path: Path, read) -> None:
    path, tensors = read(tmp_path)
    with path.open("r+b") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
        file.seek(header)
        file.write(bytes(path.stat().st_size - header))
    assert len(tensors) >= 2 and all(tensor.eq(1).all() for tensor in tensors.values())
