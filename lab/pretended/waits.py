"""Which operations make the host wait for the device, and which tensors must not meet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

from .ledger import Ledger
from .tensors import is_pinned

aten = torch.ops.aten
COPIES = (aten.copy_.default, aten._to_copy.default, aten.set_.source_Tensor)
INDEXING = ("aten::index", "aten::index_put_", "aten::index_put", "aten::_unsafe_index", "aten::_index_put_impl_")
SIZE_FROM_VALUES = ("aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::bincount")


LOOKED_AT = 1 << 20
"""Of larger tensors, weights that leave the card, nobody looks at the numbers: memory that is not written to is not there."""


class DeviceMix(RuntimeError):
    """What CUDA would raise for tensors of two devices."""


def require_one_device(func: Any, args: Any, tensors: list[Tensor], ledger: Ledger) -> None:
    """Raise DeviceMix for what CUDA refuses; note the indexing that waits."""
    name = func._schema.name
    if func in COPIES or name == "aten::_has_compatible_shallow_copy_type":
        return
    if name in INDEXING:
        _check_indexing(name, args, ledger)
        return
    mixed = {leaf.device.type for leaf in tensors if leaf.device.type == "cuda" or leaf.dim()} == {"cuda", "cpu"}
    if mixed and not name.startswith(("aten::_foreach", "aten::_fused", "aten::_amp")):
        shapes = ", ".join(f"{tuple(leaf.shape)} {leaf.dtype} {leaf.device}" for leaf in tensors)
        told = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
        raise DeviceMix(f"{told} {name}({shapes})")


def _check_indexing(name: str, args: Any, ledger: Ledger) -> None:
    own, indices = args[0], [index for index in args[1] if isinstance(index, Tensor)]
    if own.device.type == "cpu" and any(index.device.type == "cuda" for index in indices):
        raise DeviceMix("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    if any(index.device.type == "cpu" for index in indices):
        ledger.waited("index by a CPU tensor (copied to the device)")
    if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
        ledger.waited("index by a mask (nonzero)")
    values = [args[2]] if "put" in name else []
    if any(value.device != own.device and value.dim() for value in values):
        raise DeviceMix(f"{name}: value on {values[0].device}, self on {own.device}")


def note_wait(func: Any, args: Any, kwargs: Any, there: list[Tensor], device: Any, ledger: Ledger, item: float | None) -> Any:
    """Note what makes the host wait. With shapes alone (`item` then stands for every number that is read) also its answer, else
    NotImplemented: compute it."""
    name, shapes = func._schema.name, item is not None
    if func is aten._local_scalar_dense.default:
        ledger.waited("item")
        if shapes:
            return _number(args[0].dtype, item)
    elif func is aten.equal.default:
        ledger.waited("equal")
        if shapes:
            return False
    elif name in SIZE_FROM_VALUES:
        ledger.waited(name)
    elif func is aten._to_copy.default and device is not None:
        return _copied(args[0], kwargs, there, device, ledger, shapes)
    elif func is aten.copy_.default and args[0].device != args[1].device:
        return _copied_into(args, ledger, shapes)
    elif func is aten.repeat_interleave.Tensor:
        ledger.waited("repeat_interleave by a tensor")
    return NotImplemented


def _number(kind: torch.dtype, item: float | None) -> bool | float | int:
    assert item is not None
    return bool(item) if kind == torch.bool else item if kind.is_floating_point else 1


def _copied(source: Tensor, kwargs: Any, there: list[Tensor], device: Any, ledger: Ledger, shapes: bool) -> Any:
    if device.type == "cuda" and not there:
        _note_upload("to cuda", source, bool(kwargs.get("non_blocking")), ledger)
    elif device.type == "cpu" and there:
        ledger.waited("to cpu", source.nbytes)
        if shapes:
            dtype = kwargs.get("dtype") or source.dtype
            with unset_fake_temporarily():
                made = torch.empty(source.shape, dtype=dtype)
                if made.numel() > LOOKED_AT:
                    return made
                return made.uniform_() if dtype.is_floating_point else made.zero_()
    return NotImplemented


def _copied_into(args: Any, ledger: Ledger, shapes: bool) -> Any:
    target, source = args[:2]
    if target.device.type == "cuda":
        _note_upload("copy_ to cuda", source, len(args) > 2 and bool(args[2]), ledger)
        return NotImplemented
    if len(args) > 2 and args[2] and is_pinned(target):
        ledger.uploaded("copy_ to pinned", source.nbytes)
    else:
        ledger.waited("copy_ to cpu", source.nbytes)
    return target if shapes else NotImplemented


def _note_upload(what: str, source: Tensor, non_blocking: bool, ledger: Ledger) -> None:
    """A copy from pageable memory is staged while the host waits, whatever it asked for."""
    if non_blocking and is_pinned(source):
        ledger.uploaded(f"{what}, pinned", source.nbytes)
    else:
        ledger.waited(f"{what}, pageable" if non_blocking else what, source.nbytes)
