"""Work shared out among processes of one thread each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def each(make: Callable[[Given], Made], items: Sequence[Given], processes: int) -> Iterator[Made]:
    """`make` of every item, in their order; in this process when one will do. What `make` raises is raised here."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    one_thread()
    if processes <= 1 or len(items) <= 1:
        yield from map(make, items)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes start with it
    with ProcessPoolExecutor(min(processes, len(items)), get_context("spawn"), initializer=one_thread) as pool:
        yield from pool.map(make, items)


def one_thread() -> None:
    """The processes are the parallelism."""
    import torch

    torch.set_num_threads(1)
