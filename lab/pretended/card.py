"""The mode in which PyTorch believes in a card: each operation on it is checked, counted, and done with shapes or with values."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode, _pop_mode, _push_mode
from torch.utils._pytree import tree_map, tree_map_only

from .answers import enter_answers
from .engine import NoCompiler, pretend
from .ledger import Ledger
from .tensors import DataOfValues, ValueTensor, mark_pinned
from .waits import DeviceMix, note_wait, require_one_device

__all__ = ["DeviceMix", "PretendedCard"]

aten = torch.ops.aten
_ATOMS = {aten.lift.default, aten.lift_fresh.default, aten.detach.default, aten.alias.default}


class PretendedCard(TorchDispatchMode):
    """`kind` shapes: what is on the card are FakeTensors, which know shape, dtype and device and take no memory; values: wrappers around
    CPU tensors, so that code which looks at numbers runs to its end, with the numbers that a CPU computes. Tensors on the CPU stay real.

    `item` stands for every number that is read from the card where there are none. `bf16` False is a card without bfloat16. `total`: the
    bytes that `torch.cuda.mem_get_info` tells of; `limit`: those from which on it is out of memory (None: never). `trace` as in Ledger.
    One at a time, in one process. Raises engine.NoCompiler without g++.
    """

    def __init__(
        self,
        kind: Literal["shapes", "values"] = "shapes",
        *,
        item: float = 0.5,
        bf16: bool = True,
        total: int = 24 << 30,
        limit: int | None = None,
        trace: bool = False,
    ) -> None:
        super().__init__()
        self.shapes, self.bf16, self.total = kind == "shapes", bf16, total
        self.item = item if self.shapes else None
        self.ledger = Ledger(trace, limit)
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._stack: contextlib.ExitStack | None = None

    def __enter__(self) -> PretendedCard:
        if ValueTensor.dispatch is not None:
            raise RuntimeError("a card is pretended already")
        pretend()
        with contextlib.suppress(ImportError):  # it asks for CUDA's libraries when it is imported on a machine with a card
            import bitsandbytes  # noqa: F401
        self._stack = contextlib.ExitStack()
        enter_answers(self._stack, self.ledger, self.total, self.bf16, values=not self.shapes)
        if self.shapes:
            self._stack.enter_context(self._fake)
        else:  # `parameter.data = ...` would take the wrapper's outside alone
            self._stack.enter_context(DataOfValues())
        torch._C._set_only_lift_cpu_tensors(True)
        self._stack.callback(torch._C._set_only_lift_cpu_tensors, False)
        self._stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        self._stack.enter_context(_in_threads(self._push, self._pop))
        self._stack.enter_context(mock.patch.object(ValueTensor, "dispatch", staticmethod(self.__torch_dispatch__)))
        self._stack.enter_context(mock.patch.object(ValueTensor, "on_tolist", staticmethod(lambda: self.ledger.waited("tolist"))))
        super().__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)
        assert self._stack is not None
        self._stack.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        flat = _leaves(args, kwargs)
        tensors = [leaf for leaf in flat if isinstance(leaf, Tensor)]
        given = kwargs.get("device") or next((leaf for leaf in flat if isinstance(leaf, torch.device)), None)
        device = torch.device(given) if given is not None else None
        there = [leaf for leaf in tensors if leaf.device.type == "cuda"]
        if not there and (device is None or device.type != "cuda"):
            return self._on_the_host(func, args, kwargs, tensors)
        if _is_composite(func):
            super().__enter__()  # in inference mode what is made of other operations comes here whole
            try:
                return func.decompose(*args, **kwargs)
            finally:
                super().__exit__(None, None, None)
        require_one_device(func, args, tensors, self.ledger)
        out = note_wait(func, args, kwargs, there, device, self.ledger, self.item)
        if out is NotImplemented:
            out = self._with_shapes(func, args, kwargs, tensors) if self.shapes else _with_values(func, args, kwargs)
        self.ledger.computed(func, args, kwargs, out)
        for leaf in _leaves((out,)):
            if isinstance(leaf, Tensor) and leaf.device.type == "cuda":
                self.ledger.born(leaf, str(func).removeprefix("aten."))
        return out

    def _on_the_host(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        pinned = kwargs.get("pin_memory")
        if pinned:
            kwargs = {**kwargs, "pin_memory": False}
        if any(isinstance(leaf, FakeTensor) for leaf in tensors):
            return func(*args, **kwargs)
        if self.shapes:
            with unset_fake_temporarily():
                made = func(*args, **kwargs)
        elif any(isinstance(leaf, ValueTensor) for leaf in tensors):
            made = _with_values(func, args, kwargs)
        else:
            made = func(*args, **kwargs)
        return mark_pinned(made) if pinned else made

    def _with_shapes(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        if all(isinstance(leaf, FakeTensor) for leaf in tensors):
            return func(*args, **kwargs)

        def lift(leaf: Tensor) -> Tensor:
            return leaf if isinstance(leaf, FakeTensor) else self._fake.from_tensor(leaf)

        lifted = tree_map_only(Tensor, lift, (args, kwargs))
        return func(*lifted[0], **lifted[1])

    def _push(self) -> None:
        if self.shapes:
            _push_mode(self._fake)
        _push_mode(self)
        torch._C._set_only_lift_cpu_tensors(True)

    def _pop(self) -> None:
        _pop_mode()
        if self.shapes:
            _pop_mode(torch._C._TorchDispatchModeKey.FAKE)


def _leaves(*branches: Any) -> list[Any]:
    """What lies in arguments or results, which nest in tuples, lists and dicts alone; PyTorch's own pytree takes ten times as long."""
    found: list[Any] = []
    for branch in branches:
        for value in branch.values() if isinstance(branch, dict) else branch:
            if isinstance(value, (tuple, list, dict)):
                found += _leaves(value)
            else:
                found.append(value)
    return found


@functools.cache
def _is_composite(func: Any) -> bool:
    """Made of other operations on CUDA too (some, as silu_backward, are so elsewhere alone)."""
    if func.namespace != "aten" or func in _ATOMS:
        return False
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return has(func.name(), "CompositeImplicitAutograd") and not has(func.name(), "CUDA")


def _with_values(func: Any, args: Any, kwargs: Any) -> Any:
    """Computed on the CPU; what comes out is on the card if it was asked there, or came from there."""

    def bare(leaf: Any) -> Any:
        return leaf.numbers if isinstance(leaf, ValueTensor) else leaf

    wrapped = [leaf for leaf in _leaves(args, kwargs) if isinstance(leaf, ValueTensor)]
    target, plain = kwargs.get("device"), tree_map(bare, kwargs)
    to_card = any(leaf.device.type == "cuda" for leaf in wrapped)
    if target is not None:
        plain["device"] = torch.device("cpu")
        to_card = torch.device(target).type == "cuda"
    if plain.get("pin_memory"):
        plain["pin_memory"] = False
    given = tree_map(bare, args)
    out = func(*given, **plain)
    if func is aten._to_copy.default and target is not None and out is given[0]:
        out = out.clone()
    if not to_card:
        return out
    same = {id(bare(leaf)): leaf for leaf in wrapped}  # what is given back as it came stays the very tensor (in-place and out=)

    def wrap(leaf: Tensor) -> Tensor:
        return leaf if isinstance(leaf, ValueTensor) else same[id(leaf)] if id(leaf) in same else ValueTensor(leaf)

    return tree_map_only(Tensor, wrap, out)


@contextlib.contextmanager
def _in_threads(push: Callable[[], None], pop: Callable[[], None]) -> Iterator[None]:
    """Modes belong to a thread: those that pools start get them too."""
    submit = ThreadPoolExecutor.submit

    def submit_inside(pool: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        def inside() -> Any:
            if _get_current_dispatch_mode() is not None:
                return function(*args, **kwargs)
            push()
            try:
                return function(*args, **kwargs)
            finally:
                pop()

        return submit(pool, inside)

    with mock.patch.object(ThreadPoolExecutor, "submit", submit_inside):
        yield


with contextlib.suppress(NoCompiler):  # which the first card raises
    pretend()  # at the import: the process's first backward pass, on a CPU too, counts devices for good
