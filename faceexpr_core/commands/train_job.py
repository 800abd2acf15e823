"""One training run of the command line, from photos to file, on diffusers; under `accelerate launch` on all its processes."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FaceExprError
from ..files import write_once
from ..training.settings import AUTO, TrainSettings, background_of
from .watch import Terminal, check_tracker, tracker

if TYPE_CHECKING:
    import torch

    from ..faces.images import SourceImage
    from ..photos.subject import Subject, SubjectSettings
    from ..training.previews import Previews
    from ..training.prior import ClassImage
    from ..training.run import ClassPictures, Reserve
    from ..training.state import StateFolder


@dataclass(frozen=True)
class TrainJob:
    """A run: `images` become a subject as `subject` says, and a LoRA at `output` is learned with `settings`.

    `model`: mini, a diffusers folder or a checkpoint file; `vae` takes the place of its VAE. What it predicts, and its zero SNR, are the
    checkpoint's own, whatever `settings` say, or `prediction` where that is not "". `centre_crop` cuts the largest square in the
    middle of each photo, instead of near the face. `copies`: further names for the file. `states` None
    keeps no states; `start` is the file of a LoRA to start from. With the preset `auto` the settings are chosen when the device is
    known, those `given` over it, and the photos' side too unless `side_given`; `background_weight` None is the preset's. `report_to` one
    of TRACKERS, which write to `log_folder`.
    `epochs_of`: with how many photos epochs were counted, 0 where they were not. `anew`: as in `training.run.Job`.
    """

    model: str
    images: Sequence[SourceImage]
    subject: SubjectSettings
    settings: TrainSettings
    output: Path
    class_pictures: ClassPictures
    previews: Previews
    preset: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    side_given: bool = True
    vae: str = ""
    prediction: str = ""
    background_weight: float | None = None
    centre_crop: bool = False
    file_precision: str = "fp16"
    device: str = ""
    copies: tuple[Path, ...] = ()
    states: StateFolder | None = None
    start: Path | None = None
    report_to: str = "none"
    log_folder: Path = field(default_factory=Path)
    epochs_of: int = 0
    anew: str = ""


def run_job(job: TrainJob, alone: bool = False) -> int:
    """Train and save; prints the file's path. Returns 0. `alone`: in this process, however many the launcher started.

    Ctrl-C or a loss that is not finite ends the run early: what was learned is saved under a name that says so, then raised; its state
    stays, and the same command goes on from there. Raises FaceExprError for what cannot be done.
    """
    from ..diffusers_host.training import open_host
    from ..lora.start import read_start
    from ..training.memory import enough_memory
    from ..training.processes import together
    from ..training.run import Job, run

    with _processes(job.device, alone) as (device, main), closing(Terminal(main)) as watched:
        check_tracker(job.report_to)
        with together("reading the LoRA to start from"):
            start = None if job.start is None else read_start(job.start)
        with together("choosing the settings"):
            job, chosen = _settled(job, device)
        if chosen:
            watched.say(chosen)
        subject = prepare(job)
        watched.say(subject.report)
        if 0 < len(subject.photos) < job.epochs_of:
            watched.say(
                f"epochs were counted with {job.epochs_of} photos, of which {len(subject.photos)} are learned: each is seen "
                f"{job.epochs_of / len(subject.photos):.1f} times in an epoch. --max_train_steps says the steps instead."
            )
        if main:
            watched.say(_write_sheet(job, subject))
        job = replace(job, images=())  # the photos in their full size are not needed any more
        with together("loading the model"), enough_memory("loading the model"):
            host = open_host(job.model, job.vae, job.settings.precision, device, job.prediction)
            pictures = replace(job.class_pictures, given=_own_pictures(job, subject, watched.say))
        whole = Job(
            subject=subject,
            settings=job.settings,
            background_weight=background_of(job.preset, job.background_weight),
            class_pictures=pictures,
            previews=job.previews,
            states=job.states,
            preset=job.preset,
            start=start,
            file=job.output,
            anew=job.anew,
        )
        with tracker(job.report_to if main else "none", job.log_folder, job.settings) as watched.track:
            finished = run(host, watched, whole, _saved_as(job, watched.hand_out))
        for path in finished.paths if finished.taken else ():
            watched.hand_out(path)
        if finished.result.stopped_by is not None:
            raise finished.result.stopped_by
    return 0


def _settled(job: TrainJob, device: torch.device) -> tuple[TrainJob, str]:
    """The job with what `auto` chooses for this device, and what it says of that."""
    from ..diffusers_host.pipeline import is_full_size
    from ..lora.finished import last_run
    from ..training.auto import settle_again
    from ..training.memory import room_on
    from ..training.plan import rest
    from ..training.processes import least
    from .class_pictures import class_files

    if job.preset != AUTO:
        return job, ""
    room = room_on(device, rest()) if is_full_size(job.model) else None
    room = None if room is None else least(room)
    side = job.subject.resolution if job.side_given else None
    draws = not class_files(job.class_pictures.folder)  # the user's own pictures are not drawn
    settled = settle_again(AUTO, job.given, side, room, job.states, lambda: last_run(job.output) if job.anew else None, draws)
    subject = replace(job.subject, resolution=settled.side)
    return replace(job, settings=settled.settings, preset=settled.preset, subject=subject), settled.told


def prepare(job: TrainJob) -> Subject:
    """The job's subject, prepared by the first process for all. Raises FaceExprError when no photo can be used."""
    from ..photos.subject_files import read_subject, write_subject
    from ..photos.subject_process import prepare_apart
    from ..training.processes import from_first, rank

    def here() -> Subject:
        return prepare_apart(job.images, job.subject, job.centre_crop)

    def sent() -> bytes:
        stream = io.BytesIO()
        write_subject(stream, here())
        return stream.getvalue()

    return here() if rank()[1] == 1 else read_subject(io.BytesIO(from_first(sent, "preparing the photos")))


def _write_sheet(job: TrainJob, subject: Subject) -> str:
    """The report as a picture; returns where it lies, or why it does not. In a folder of its own, so that it is never taken for a photo
    where the LoRA lies among them."""
    from PIL import Image

    from ..photos.sheet import contact_sheet

    stream, path = io.BytesIO(), job.previews.folder / "photos.png"
    Image.fromarray(contact_sheet(subject)).save(stream, "PNG")
    try:
        path = write_once(path, stream.getvalue())
    except OSError as reason:
        return f"The photos' contact sheet could not be written to {path} ({reason})."
    return f"The photos with their masks and captions: {path}"


def _saved_as(job: TrainJob, on_saved: Callable[[Path], None]) -> Reserve:
    from ..lora.reserve import reserve

    return partial(
        reserve,
        paths=(job.output, *job.copies),
        precision=job.file_precision,
        fallbacks=(Path(tempfile.gettempdir()),),
        on_saved=on_saved,
    )


def _own_pictures(job: TrainJob, subject: Subject, say: Callable[[str], None]) -> tuple[ClassImage, ...]:
    """The user's pictures in the class folder, where the settings want some; () where there are none."""
    from ..training.data import class_prompt
    from .class_pictures import own_pictures

    wanted = job.class_pictures
    return own_pictures(wanted, subject.resolution, wanted.prompt or class_prompt(subject), say) if job.settings.draws_class else ()


@contextmanager
def _processes(asked: str, alone: bool) -> Iterator[tuple[torch.device, bool]]:
    """This process's device, and whether it is the one that writes; torch.distributed is set up if accelerate started several."""
    from ..diffusers_host.devices import best_device, chosen_device
    from ..training.processes import rank

    if alone or world_size() == 1:
        yield chosen_device(asked), True
        return
    import torch
    from accelerate import PartialState

    if asked not in ("", "cpu", "cuda"):
        raise FaceExprError(f"The device is {asked}, but each of several processes gets its own; give cpu or cuda, or leave it out.")
    if asked == "cuda" and not torch.cuda.is_available():
        raise FaceExprError("The device cuda cannot be used here; give cpu, or leave it out for the best there is.")
    # accelerate would leave each process alone where there are no cards to share, and each would write as the first
    state = PartialState(cpu=asked == "cpu" or best_device() in ("cpu", "mps"), **_backend(asked))
    try:
        if rank()[1] != world_size():
            raise FaceExprError(f"The {world_size()} processes find no way to train together here; start one, or give cpu.")
        yield state.device, rank()[0] == 0
    finally:
        state.destroy_process_group()


def _backend(asked: str) -> dict[str, str]:
    """What PartialState is told beside: on Windows PyTorch has no NCCL, which accelerate takes for cards all the same."""
    import torch

    on_cards = asked != "cpu" and torch.cuda.is_available()
    return {"backend": "gloo"} if on_cards and not torch.distributed.is_nccl_available() else {}


def world_size() -> int:
    """How many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))
