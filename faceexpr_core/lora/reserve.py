"""What both doors do with a run's LoRA: before the training make sure that its file has room, or find it there, after it save the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..training.place import Place
from .files import SAVE_DTYPES, require_name, require_space
from .finished import finished_at, result_of
from .kohya import base_model_hash, interrupted, save_result

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from ..training.result import TrainResult
    from ..training.run import Job


def reserve(
    unet: UNet2DConditionModel,
    numbers: int,
    job: Job,
    *,
    paths: Sequence[Path],
    precision: str,
    fallbacks: tuple[Path, ...],
    on_saved: Callable[[Path], object] = lambda path: None,
) -> Place:
    """`training.run.Reserve` once all but the first three is given: what saves the LoRA at each of `paths` and tells `on_saved`, or finds
    it there.

    `unet` is as it was loaded, for the base model's hash. Raises FaceExprError where a folder cannot take a LoRA of `numbers`, or its name.
    """
    for path in paths:
        require_space(path.parent, numbers * SAVE_DTYPES[precision].itemsize)
        require_name(interrupted(path, job.settings.steps))
    base_hash = base_model_hash(unet)

    def save(result: TrainResult) -> Sequence[Path]:
        saved = []
        for path in paths:
            written = save_result(
                path,
                result,
                job.settings,
                job.subject,
                background_weight=job.background_weight,
                precision=precision,
                fallbacks=fallbacks,
                preset=job.preset,
                base_hash=base_hash,
                started_from="" if job.start is None else job.start.name,
            )
            on_saved(written)
            saved.append(written)
        return saved

    def finished(run: Mapping[str, Any]) -> tuple[Sequence[Path], TrainResult] | None:
        found = [finished_at(path, run, precision) for path in paths]
        files = [file for file in found if file is not None]
        return (files, result_of(files[0])) if files and len(files) == len(found) else None

    return Place(save, finished, any(path.exists() for path in paths))
