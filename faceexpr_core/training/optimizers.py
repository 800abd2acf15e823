"""The optimiser of the LoRA's weights, and its state as tensors and plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .bits import unusable
from .settings import TrainSettings

PLAIN, EIGHT_BIT = "torch.optim.AdamW", "bitsandbytes.optim.AdamW8bit"
EIGHT_BIT_ON = ("cuda",)
BLOCK = 256
"""Numbers that share a scale in bitsandbytes' 8-bit moments."""
NO_CUDA = "8-bit AdamW needs an NVIDIA GPU; plain AdamW is used. It takes six more bytes for each number of the LoRA."


def optimizer_for(settings: TrainSettings, device: torch.device) -> tuple[str, str | None]:
    """PLAIN or EIGHT_BIT, and in words why it is not the one asked for (None if it is)."""
    if settings.optimizer != "adamw8bit":
        return PLAIN, None
    if device.type not in EIGHT_BIT_ON:
        return PLAIN, NO_CUDA
    reason = unusable(device)
    return (
        (EIGHT_BIT, None)
        if reason is None
        else (PLAIN, f"8-bit AdamW needs the package bitsandbytes, which {reason}; plain AdamW is used.")
    )


def build_optimizer(name: str, groups: Sequence[Mapping[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 1711.05101), with EIGHT_BIT its moments in 8 bits (Dettmers et al. 2110.02861).

    `groups`: `params`, `lr` and `weight_decay` each.
    """
    if name == EIGHT_BIT:
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit([dict(group) for group in groups])
    return torch.optim.AdamW([dict(group) for group in groups], fused=device.type in ("cpu", "cuda"))


def split_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's state: its tensors by path (`12.exp_avg`), and the other values as JSON can hold them.

    Flat, as torch has it: bitsandbytes from 0.49.2 on puts its 8-bit moments into a dict of its own, which its earlier versions do not
    read; flat ones all do.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for path, value in _leaves(torch.optim.Optimizer.state_dict(optimizer)["state"]):
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


def kind_of(state: Mapping[int, Mapping[str, Any]]) -> str:
    """PLAIN or EIGHT_BIT: which optimiser's state this is."""
    return EIGHT_BIT if any("state1" in _flat(entry) for entry in state.values()) else PLAIN


def plain_state(state: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """bitsandbytes' state as torch's AdamW takes it, the moments to about 1 % of the largest near them: m in `state1`, v in `state2`.

    A moment in 8 bits is its byte's value in `qmap` times `absmax` of its block of 256 (Dettmers et al. 2110.02861, section 2).
    """
    plain = {}
    for number, entry in state.items():
        flat = _flat(entry)
        moments = {name: _whole(flat, which) for which, name in ((1, "exp_avg"), (2, "exp_avg_sq"))}
        plain[number] = {"step": torch.tensor(float(flat["step"])), **moments}
    return plain


def _whole(entry: Mapping[str, Any], which: int) -> Tensor:
    packed: Tensor = entry[f"state{which}"]
    if packed.dtype != torch.uint8:  # small ones are kept whole
        return packed.float()
    values = entry[f"qmap{which}"][packed.flatten().long()]
    scales = entry[f"absmax{which}"].repeat_interleave(BLOCK)[: len(values)]
    return (values * scales).reshape(packed.shape)


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {path[-1]: value for path, value in _leaves(entry)}


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
