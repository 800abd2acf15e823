"""A LoRA that is there already, learned by the very run that is asked for: hours that need not be spent again. Ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..files import taken_names
from ..training.differences import differences
from ..training.result import TrainResult
from .files import SAVE_DTYPES

RUN, INTERRUPTED, LOSSES = "faceexpr.run", "faceexpr.interrupted", "faceexpr.losses"
"""Keys of a LoRA's metadata."""


def finished_at(path: Path, run: Mapping[str, Any], precision: str) -> Path | None:
    """The file that a run made of `run` (`fingerprint.run_of`) saved in full for `path`, in one of SAVE_DTYPES; None without one."""
    wanted = json.loads(json.dumps(run))
    for file in taken_names(path):
        said, dtype = _said(file)
        made = _run_in(said)
        if made is not None and not differences(made, wanted) and dtype == SAVE_DTYPES[precision]:
            return file
    return None


def last_run(path: Path) -> Mapping[str, Any] | None:
    """What the last run was made of that saved a LoRA in full for `path`; None where no file says so."""
    runs = [run for file in taken_names(path) if (run := _run_in(_said(file)[0])) is not None]
    return runs[-1] if runs else None


def result_of(file: Path) -> TrainResult:
    """What a finished LoRA's file says of its run, without the layers."""
    said = _said(file)[0]
    losses, run = tuple(json.loads(said.get(LOSSES, "[]"))), json.loads(said[RUN])
    return TrainResult({}, json.loads(said["faceexpr.settings"])["alpha"], losses, len(losses), curves={"loss": losses}, run=run)


def _run_in(said: Mapping[str, str]) -> Mapping[str, Any] | None:
    """What a file says that it was made of, by a run that came to its end."""
    try:
        run = json.loads(said.get(RUN, "null")) if said.get(INTERRUPTED) != "true" else None
    except json.JSONDecodeError:
        return None
    return run if isinstance(run, dict) else None


def _said(file: Path) -> tuple[Mapping[str, str], torch.dtype | None]:
    """Metadata, and the numbers of the first tensor; nothing of what is no file of safetensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            first = next(iter(opened.keys()), None)
            return opened.metadata() or {}, None if first is None else opened.get_tensor(first).dtype
    except (OSError, SafetensorError):
        return {}, None
