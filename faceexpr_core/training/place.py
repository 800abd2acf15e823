"""Where a run's LoRA is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .result import TrainResult


class Place(NamedTuple):
    """`save` a run's LoRA, which says where it lies; `finished` finds what a run so made (`fingerprint.run_of`) saved there in full before,
    with its result but for the layers. `taken`: whether there is any file of that name."""

    save: Callable[[TrainResult], Sequence[Path]]
    finished: Callable[[Mapping[str, Any]], tuple[Sequence[Path], TrainResult] | None]
    taken: bool
