"""What happened on the pretended card: bytes from birth to death by phase and label, FLOPs, launches, waits of the host."""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from .tensors import storage_on_card

HERE = Path(__file__).resolve().parent
PRODUCT = tuple(f"{HERE.parent.parent / name}/" for name in ("faceexpr_core", "nodes"))
"""Where the lines lie that a wait is laid to."""
SNAPSHOT_AT = 1.0005
"""A picture of what is alive is taken each time the peak has grown by so much: cheap, and true to 0.05 %."""


@dataclass(frozen=True)
class Entry:
    """A storage on the card: its bytes, and the operation, phase and module that made it, for a tensor of `shape` and `dtype`."""

    size: int
    operation: str
    phase: str
    shape: tuple[int, ...]
    dtype: str
    module: str


class Ledger:
    """`current` and `peak` bytes; `waits` counts (what, line of the product) of each wait, `copied` the bytes that went with them.

    Copies that do not hold up the host (from pinned memory, non-blocking) are counted in `uploads`, not in `waits`. `limit`: bytes from
    which on a new storage raises torch.cuda.OutOfMemoryError. `trace`: births (number, bytes) and deaths (number, -1), for
    `CachingAllocator.run`; None unless asked for.
    """

    def __init__(self, trace: bool = False, limit: int | None = None) -> None:
        self.limit = limit
        self.phase = "start"
        self.modules: list[str] = []
        self.current = self.peak = 0
        self.peak_of: dict[str, int] = defaultdict(int)
        self.at_peak_of = ""
        self.trace: list[tuple[int, int]] | None = [] if trace else None
        self.flops = self.operations = 0
        self.flops_of: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.uploads: Counter[tuple[str, str]] = Counter()
        self.copied: Counter[tuple[str, str]] = Counter()
        self._live: dict[int, Entry] = {}
        self._labels: dict[int, str] = {}
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._at_peak: dict[int, Entry] = {}
        self._labels_at_peak: dict[int, str] = {}
        self._number = self._pictured = 0

    # Memory

    def born(self, tensor: Tensor, operation: str) -> None:
        """Count the tensor's storage unless it is known. Raises torch.cuda.OutOfMemoryError above `limit`."""
        storage = storage_on_card(tensor)
        size = storage.nbytes()
        known = self._known.get(storage._cdata)
        if known is not None and known[0]() is storage:
            self._resized(known[1], size)
            return
        self._number += 1
        number, module = self._number, self.modules[-1] if self.modules else ""
        self._known[storage._cdata] = (weakref.ref(storage), number)
        weakref.finalize(storage, self._died, storage._cdata, number).atexit = False
        dtype = str(tensor.dtype).removeprefix("torch.")
        self._live[number] = Entry(size, operation, self.phase, tuple(tensor.shape), dtype, module)
        if self.trace is not None:
            self.trace.append((number, size))
        self.current += size
        if self.limit is not None and self.current > self.limit:
            sizes = f"{size / 2**20:.2f} MiB, {self.limit / 2**20:.2f} MiB are the limit"
            raise torch.cuda.OutOfMemoryError(f"CUDA out of memory (pretended). Tried to allocate {sizes}")
        self.peak_of[self.phase] = max(self.peak_of[self.phase], self.current)
        if self.current > self.peak:
            self.peak = self.current
            if self.current > SNAPSHOT_AT * self._pictured:
                self._picture(f"{self.phase} {operation} {module}".strip())

    def reset_peak(self) -> None:
        self.peak = self.current
        self.peak_of.clear()
        self._picture("reset")

    def label(self, tensors: Iterable[object], name: str) -> int:
        """Name the storages of those tensors that are on the card and have no name; returns their bytes."""
        total = 0
        for tensor in tensors:
            if not isinstance(tensor, Tensor) or tensor.device.type != "cuda":
                continue
            known = self._known.get(storage_on_card(tensor)._cdata)
            if known is not None and known[1] not in self._labels:
                self._labels[known[1]] = name
                total += self._live[known[1]].size
        return total

    def by_label(self) -> dict[str, int]:
        """Bytes by label now, what has none as `other`."""
        return _summed(self._live, self._labels)

    def at_peak(self) -> dict[str, int]:
        """Bytes by label at the peak (to the last 0.05 % of it), what has none as `other`."""
        return _summed(self._at_peak, self._labels_at_peak)

    def largest_at_peak(self, count: int = 15) -> list[tuple[int, int, str]]:
        """(bytes, number, what) of what has no label at the peak, alike ones added up."""
        groups: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for number, entry in self._at_peak.items():
            if number not in self._labels_at_peak:
                group = groups[f"{entry.operation} {entry.phase} {entry.shape} {entry.dtype}"]
                group[0] += entry.size
                group[1] += 1
        return sorted(((size, times, what) for what, (size, times) in groups.items()), reverse=True)[:count]

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            self.phase = before

    def _resized(self, number: int, size: int) -> None:
        old = self._live[number]
        if size != old.size:
            self._live[number] = Entry(size, old.operation, old.phase, old.shape, old.dtype, old.module)
            self.current += size - old.size
            self.peak = max(self.peak, self.current)

    def _died(self, key: int, number: int) -> None:
        entry = self._live.pop(number, None)
        self._labels.pop(number, None)
        self.current -= 0 if entry is None else entry.size
        if self.trace is not None:
            self.trace.append((number, -1))
        known = self._known.get(key)
        if known is not None and known[1] == number:
            del self._known[key]

    def _picture(self, at: str) -> None:
        self._pictured, self.at_peak_of = self.peak, at
        self._at_peak, self._labels_at_peak = dict(self._live), dict(self._labels)

    # Work and waits

    def computed(self, operation: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Count an operation, its FLOPs by PyTorch's own formulas, and its launch (foreach and attention take a few)."""
        self.operations += 1
        name = operation._schema.name.removeprefix("aten::")
        if operation.namespace != "prim" and not operation.is_view and not name.startswith(("empty", "detach", "_unsafe_view")):
            self.launches[name] += 1
        formula = flop_registry.get(operation._overloadpacket)
        if formula is not None:
            count = formula(*args, **kwargs, out_val=out)
            self.flops += count
            self.flops_of[self.phase] += count

    def waited(self, what: str, size: int = 0) -> None:
        key = (what, _line_of_product())
        self.waits[key] += 1
        self.copied[key] += size

    def uploaded(self, what: str, size: int) -> None:
        key = (what, _line_of_product())
        self.uploads[key] += 1
        self.copied[key] += size

    def forget_work(self) -> None:
        """Set the counts of waits, copies, launches and FLOPs by phase back."""
        for counter in (self.waits, self.uploads, self.copied, self.launches, self.flops_of):
            counter.clear()


def _summed(entries: Mapping[int, Entry], labels: Mapping[int, str]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for number, entry in entries.items():
        found[labels.get(number, "other")] += entry.size
    return dict(found)


def _line_of_product() -> str:
    """The two innermost lines of the product, `trainer.py:230 < run.py:110`; "?" where none runs."""
    frame: Any = sys._getframe(1)
    found: list[str] = []
    while frame is not None and len(found) < 2:
        if frame.f_code.co_filename.startswith(PRODUCT):
            found.append(f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found) or "?"


@contextlib.contextmanager
def module_names(ledger: Ledger, roots: Mapping[str, torch.nn.Module]) -> Iterator[None]:
    """`ledger.modules[-1]` is the name of the module whose forward runs (also while checkpointing computes it again)."""
    names = {module: f"{root}.{name}" for root, model in roots.items() for name, module in model.named_modules()}

    def enter(module: torch.nn.Module, arguments: Any) -> None:
        ledger.modules.append(names.get(module, type(module).__name__))

    def leave(module: torch.nn.Module, arguments: Any, output: Any) -> None:
        if ledger.modules:
            ledger.modules.pop()

    first = torch.nn.modules.module.register_module_forward_pre_hook(enter)
    last = torch.nn.modules.module.register_module_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        first.remove()
        last.remove()
