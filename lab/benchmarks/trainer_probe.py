"""What is measured inside a process that trains: when each optimiser step ended, and what memory the steps took.

PyTorch's own hooks alone, so that a trainer runs as it does for its user: any trainer with a U-Net of diffusers or ComfyUI and an optimiser
of torch.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from lab.card.watched import children

UNETS = ("UNet2DConditionModel", "UNetModel")
"""The class in diffusers, and in ComfyUI."""
WARM_UP = 0.2
"""Share of the steps that is not timed."""


@dataclass
class Memory:
    """Bytes: in use when the U-Net was first called, at the peak from there to the last step, and at the peak of the whole process.

    On a CPU the resident set (`whole`: with the processes that it started and that ran at the time, before the U-Net's first call); on
    CUDA what tensors took, with `reserved`, what torch held of the card, at the peak of the steps.
    """

    before: int = 0
    peak: int = 0
    whole: int = 0
    reserved: int = 0


@dataclass
class Measured:
    """A run of `steps` steps: seconds of a timed one, rows that the U-Net was called with in a step, numbers that were trained."""

    steps: int = 0
    seconds: float = 0.0
    rows: float = 0.0
    trained: int = 0
    memory: Memory = field(default_factory=Memory)


class Probe:
    """Measures the next training of `steps` steps in this process on `device`, cpu or cuda; the whole process's peak is read by `write`."""

    def __init__(self, steps: int, device: str) -> None:
        self.steps, self.cuda = steps, device.startswith("cuda")
        self.found = Measured()
        self._rows, self._first, self._started = 0, max(1, round(WARM_UP * steps)), 0.0
        self._watch = torch.nn.modules.module.register_module_forward_pre_hook(self._called)
        register_optimizer_step_post_hook(self._stepped)
        self._together, self._training = 0, threading.Event()
        if not self.cuda:
            threading.Thread(target=self._count_children, daemon=True).start()

    def write(self, path: Path) -> None:
        memory = self.found.memory
        memory.whole = max(memory.whole, memory.peak, self._peak())
        if not self.cuda:
            memory.whole = max(memory.whole, self._together, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
        path.write_text(json.dumps(asdict(self.found)))

    def _called(self, module: torch.nn.Module, arguments: tuple[object, ...]) -> None:
        if type(module).__name__ not in UNETS:
            return
        self._watch.remove()
        self._training.set()
        module.register_forward_pre_hook(self._count)  # from the next call on
        self._count(module, arguments)
        memory = self.found.memory
        memory.whole = self._peak()
        memory.before = torch.cuda.memory_allocated() if self.cuda else _status("VmRSS")
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM, the peak, back to what is resident now

    def _count(self, module: torch.nn.Module, arguments: tuple[object, ...]) -> None:
        if arguments and isinstance(arguments[0], Tensor):
            self._rows += len(arguments[0])

    def _stepped(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        found = self.found
        found.steps += 1
        if found.steps in (self._first, self.steps):
            if self.cuda:
                torch.cuda.synchronize()
            now = time.perf_counter()
            if found.steps == self._first:
                self._started = now
                found.trained = sum(weight.numel() for group in optimizer.param_groups for weight in group["params"])
            else:
                found.seconds = (now - self._started) / (self.steps - self._first)
                found.rows = self._rows / self.steps
        found.memory.peak = self._peak()
        if self.cuda:
            found.memory.reserved = torch.cuda.max_memory_reserved()

    def _count_children(self) -> None:
        """The most that this process and those that it started took together, twenty times a second until the steps begin."""
        while not self._training.wait(0.05):
            if started := children(os.getpid()):
                self._together = max(self._together, _status("VmRSS") + sum(_status("VmHWM", child) for child in started))

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.cuda else _status("VmHWM")


def _status(name: str, process: int | str = "self") -> int:
    """Bytes, from Linux's account of a process; 0 of one that has ended."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.M)
    except (FileNotFoundError, ProcessLookupError):
        found = None
    if found is None and process == "self":
        sys.exit("trainer_cost: memory is measured on Linux only, where /proc/self/status tells it.")
    return 0 if found is None else 1024 * int(found[1])
