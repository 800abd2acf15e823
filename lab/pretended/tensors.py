"""Tensors that believe to be on cuda:0 and hold their numbers in a CPU tensor; pinned memory that is not."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

CUDA = torch.device("cuda", 0)
_SET_DATA, _GET_DATA = Tensor.data.__set__, Tensor.data.__get__  # type: ignore[attr-defined]


class ValueTensor(Tensor):
    """A tensor that says it is on cuda:0; `numbers` is the CPU tensor with its numbers. Its operations need the active card."""

    numbers: Tensor
    dispatch: Callable[..., Any] | None = None
    """The active card's `__torch_dispatch__`."""
    on_tolist: Callable[[], None] = staticmethod(lambda: None)

    @staticmethod
    def __new__(cls, inner: Tensor) -> ValueTensor:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=CUDA,
        )
        made.numbers = inner
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"ValueTensor({self.numbers!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if ValueTensor.dispatch is None:
            raise RuntimeError(f"{func} on a tensor of a pretended card that is no longer there")
        return ValueTensor.dispatch(func, types, args, kwargs)

    def tolist(self) -> Any:
        ValueTensor.on_tolist()
        return self.numbers.tolist()

    def __deepcopy__(self, memo: Any) -> Tensor:
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        memo[id(self)] = copy
        return copy


def storage_on_card(tensor: Tensor) -> torch.UntypedStorage:
    """Of the inner tensor where there are values: a view has a wrapper of its own, but the same inner storage."""
    return tensor.numbers.untyped_storage() if isinstance(tensor, ValueTensor) else tensor.untyped_storage()


class DataOfValues(TorchFunctionMode):
    """`parameter.data = ...` and `parameter.data` with wrappers: the numbers go along."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == _SET_DATA and isinstance(args[1], ValueTensor):
            target, value = args
            parameter = isinstance(target, torch.nn.Parameter)
            func(*args)
            target.__class__ = ValueTensor
            target.numbers = value.numbers
            if parameter:
                target._is_param = True
            return None
        if func == _SET_DATA and isinstance(args[0], ValueTensor):  # back on the CPU
            func(*args)
            args[0].numbers = args[1]
            return None
        if func == _GET_DATA and isinstance(args[0], ValueTensor):
            return args[0].detach()
        if func is torch.tensor and any(isinstance(leaf, ValueTensor) for leaf in tree_flatten(args[0])[0]):
            kwargs = dict(kwargs or {})
            device = kwargs.pop("device", None)
            made = torch.tensor(tree_map_only(ValueTensor, lambda leaf: leaf.tolist(), args[0]), **kwargs)
            return made if device is None else made.to(device)
        return func(*args, **(kwargs or {}))


class CardGenerator(torch.Generator):
    """A generator of the device: the CPU's, with the CPU's numbers."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return super().__new__(cls, "cpu")  # type: ignore[call-arg]


def swap_tensors(first: Tensor, second: Tensor) -> None:
    """In the place of torch.utils.swap_tensors, by which Module.to swaps parameters: fake ones are held weakly by their modes."""
    if first is not second:
        first.data = second


# Pinned memory: told apart from pageable, since only from it a copy to the device does not hold up the host

_pinned: set[int] = set()


def mark_pinned(tensor: Tensor) -> Tensor:
    storage = tensor.untyped_storage()
    if storage._cdata not in _pinned:
        _pinned.add(storage._cdata)
        weakref.finalize(storage, _pinned.discard, storage._cdata).atexit = False
    return tensor


def is_pinned(tensor: Tensor, device: Any = None) -> bool:
    return tensor.device.type == "cpu" and tensor.untyped_storage()._cdata in _pinned


def pin_memory(tensor: Tensor, device: Any = None) -> Tensor:
    if tensor.device.type != "cpu":
        raise RuntimeError(f"cannot pin 'torch.{tensor.device.type}.Tensor' only dense CPU tensors can be pinned")
    return tensor if is_pinned(tensor) else mark_pinned(tensor.clone())
