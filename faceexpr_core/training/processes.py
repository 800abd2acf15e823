"""Several processes that train together (torch.distributed, set up by accelerate): what one of them cannot do, none goes on without."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from ..errors import FaceExprError
from .signals import put_off_signals, told_by

LENGTH = 2000
"""Bytes of a reason that the other processes are told."""
PATIENCE = 120.0
"""Seconds for which the other processes wait until the first has saved; a card that is broken may never answer."""
_SAVED = "faceexpr/saved"
TOLD = "The other processes end too."


def rank() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) where torch.distributed is not set up."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class FailedElsewhere(FaceExprError):
    """Another process cannot go on."""


class Interrupted(FaceExprError):
    """One of the signals was heard between two steps."""


@contextmanager
def ending_as_one(seconds: float = PATIENCE) -> Iterator[Callable[[], None]]:
    """A run of several processes, whose launcher tells all to end as soon as one is gone: the others stay until the first is through with
    this, for so many seconds at most.

    From here on signals are put off, since a step that one process breaks off is never summed in the others: what this gives is to be
    called between steps, and raises Interrupted when one was heard.
    """
    own, ranks = rank()
    if ranks == 1:
        yield lambda: None
        return
    put_off_signals()
    store = torch.distributed.distributed_c10d._get_default_store()
    try:
        yield _interrupt
    finally:
        with suppress(RuntimeError):  # the store is gone with the first process
            if own == 0:
                store.set(_SAVED, "1")
            else:
                _await(lambda: store.check([_SAVED]), seconds)


def _interrupt() -> None:
    if told_by():
        raise Interrupted(f"{signal.Signals(told_by()).name} was heard")


def _await(there: Callable[[], bool], seconds: float) -> None:
    """Until it is there, or for so many seconds, or until this process is told to end."""
    end, before = time.monotonic() + seconds, told_by()
    while time.monotonic() < end and told_by() == before and not there():
        time.sleep(0.05)


@contextmanager
def together(doing: str) -> Iterator[None]:
    """All processes come to the end of this, or all raise: an error of one is a `FailedElsewhere` that names it in the others.

    Every process must enter, and may do so again inside: an error is told once. Ctrl-C, which all of them hear, goes straight through.
    """
    _, ranks = rank()
    if ranks == 1:
        yield
        return
    try:
        yield
    except Exception as reason:
        if not is_told(reason):
            tell(reason)
        raise
    hear(doing)


def tell(reason: Exception) -> None:
    """Tell the other processes, which `hear`, why this one cannot go on."""
    _gather(str(reason) or type(reason).__name__)
    reason.add_note(TOLD)


def hear(doing: str) -> None:
    """Raise FailedElsewhere when another process `tell`s why it cannot go on."""
    for number, said in enumerate(_gather("")):
        if said:
            raise FailedElsewhere(f"Process {number + 1} of {rank()[1]} could not go on while {doing}: {said}")


def from_first(make: Callable[[], bytes], doing: str) -> bytes:
    """What `make` gives in the first process, sent to all; its error is raised in all of them (`together`)."""
    own, ranks = rank()
    content = b""
    with together(doing):
        if own == 0:
            content = make()
    if ranks == 1:
        return content
    length = torch.tensor([len(content)], device=_device())
    torch.distributed.broadcast(length, 0)
    if not int(length):  # gloo waits for ever for nothing
        return b""
    data = _bytes(content) if own == 0 else torch.empty(int(length), dtype=torch.uint8, device=_device())
    torch.distributed.broadcast(data, 0)
    return data.cpu().numpy().tobytes()


def least(number: int) -> int:
    """The smallest of all processes' numbers."""
    if rank()[1] == 1:
        return number
    shared = torch.tensor([number], device=_device())
    torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MIN)
    return int(shared)


def is_told(reason: BaseException | None) -> bool:
    """Whether the other processes know of this error."""
    while reason is not None:
        if isinstance(reason, FailedElsewhere) or TOLD in getattr(reason, "__notes__", ()):
            return True
        reason = reason.__cause__
    return False


def _gather(text: str) -> list[str]:
    """Every process's text, in their order."""
    own = _bytes(text.encode()[:LENGTH].ljust(LENGTH, b"\0"))
    all_of_them = [torch.empty_like(own) for _ in range(rank()[1])]
    torch.distributed.all_gather(all_of_them, own)
    return [one.cpu().numpy().tobytes().rstrip(b"\0").decode(errors="replace") for one in all_of_them]


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).to(_device())


def _device() -> torch.device:
    """Where the processes' tensors meet: NCCL knows cards alone."""
    if torch.distributed.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
