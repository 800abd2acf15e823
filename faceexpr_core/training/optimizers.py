"""The optimiser of the LoRA's weights, and its state as tensors and plain values."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .settings import TrainSettings

NO_CUDA = "8-bit AdamW needs an NVIDIA GPU; plain AdamW is used. It takes six more bytes for each number of the LoRA."
NOT_INSTALLED = "8-bit AdamW needs the package bitsandbytes, which is not installed; plain AdamW is used."


def build_optimizer(
    parameters: Sequence[torch.nn.Parameter], settings: TrainSettings, device: torch.device
) -> tuple[torch.optim.Optimizer, str | None]:
    """AdamW (Loshchilov and Hutter 1711.05101), its moments in 8 bits (Dettmers et al. 2110.02861) where asked for and possible.

    The second value says in words why it is not the one asked for; None if it is.
    """
    rate, decay, note = settings.learning_rate, settings.weight_decay, None
    if settings.optimizer == "adamw8bit":
        if device.type != "cuda":
            note = NO_CUDA
        elif importlib.util.find_spec("bitsandbytes") is None:
            note = NOT_INSTALLED
        else:
            import bitsandbytes

            return bitsandbytes.optim.AdamW8bit(list(parameters), lr=rate, weight_decay=decay), None
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=device.type in ("cpu", "cuda")), note


def split_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's own `state_dict()["state"]`: its tensors by path (`12.exp_avg`), and the other values as JSON can hold them.

    Libraries nest differently (bitsandbytes 0.49.2 and newer keep their 8-bit moments in a dict of its own): whatever depth there is
    stands in the path, so that `join_state` gives each library back what it wrote.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for path, value in _leaves(optimizer.state_dict()["state"]):
        if isinstance(value, Tensor):
            tensors[".".join(path)] = value
        else:
            _put(values, path, value)
    return tensors, values


def join_state(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """What `split_state` took apart, as `load_state_dict` takes it under `state`."""
    joined: dict[str, Any] = {}
    for path, value in (*_leaves(values), *((tuple(name.split(".")), tensor) for name, tensor in tensors.items())):
        _put(joined, path, value)
    return {int(number): entries for number, entries in joined.items()}


def _leaves(branch: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in branch.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _put(branch: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        branch = branch.setdefault(key, {})
    branch[path[-1]] = value
