"""A whole run, from a subject to the saved LoRA, in any host: encode, draw the class, make sure there is room, train, save.

What both doors, ComfyUI's node and the command line, do stands here; a host lends the base model (`host.Host`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .adapter import lora_numbers
from .auto import require_fit
from .base import check_base, check_lora
from .checks import check_materials, needs_prompts
from .crafting import build_crafting_set
from .data import build_training_set, class_prompt
from .fingerprint import model_digest, run_of
from .host import Host, Watcher
from .loop import train_lora
from .materials import Materials
from .memory import enough_memory, forget_freed
from .place import Place
from .plan import plan_on
from .precision import compute_dtype
from .previews import Previews, Words, encode_words, sheet_after
from .prior import ClassImage, build_class_set, missing_images, prior_folder, prior_images, prior_prompts
from .processes import Interrupted, ending_as_one, from_first, least, rank, together
from .result import Step, TrainResult
from .resume import state_size
from .settings import PRIOR_IMAGES, TrainSettings
from .start import Start
from .state import StateFolder
from .state_lock import alone_in

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from ..photos.subject import Subject
    from .host import Picture

Reserve = Callable[["UNet2DConditionModel", int, "Job"], Place]
"""The private U-Net before it is changed, how many numbers the LoRA will hold and the job with its final settings -> where the LoRA is
kept; raises FaceExprError without room for it."""


@dataclass(frozen=True)
class ClassPictures:
    """Pictures of the class for prior preservation: `given`, or where these are none, `count` that the base model draws into `folder`.

    `prompt` is what they show, "" for `a photo of a <class word>`; with `spread` over the expressions of the vocabulary.
    """

    folder: Path
    count: int = PRIOR_IMAGES
    prompt: str = ""
    spread: bool = True
    given: tuple[ClassImage, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Job:
    """What is to be learned. `preset`: where the settings come from, "" for none. `start` is a LoRA to start from; `file` the name that the
    LoRA gets, None for no word on it. `anew` says how the user trains a LoRA again that was finished before and is taken as it is; with ""
    none is taken."""

    subject: Subject
    settings: TrainSettings
    background_weight: float
    class_pictures: ClassPictures
    previews: Previews
    states: StateFolder | None = None
    preset: str = ""
    start: Start | None = None
    file: Path | None = None
    anew: str = ""


@dataclass(frozen=True, eq=False)
class Finished:
    """`paths` are where the LoRA lies, () in all processes but the first. `result.stopped_by` is to be raised, where there is one. `taken`:
    the LoRA was there before, from the same run; `result` has no layers then."""

    result: TrainResult
    settings: TrainSettings
    paths: tuple[Path, ...] = ()
    taken: bool = False


@dataclass(frozen=True, eq=False)
class _Ready:
    """All that the first step needs."""

    materials: Materials
    words: Words | None
    place: Place | None


def run(host: Host, watcher: Watcher, job: Job, reserve: Reserve) -> Finished:
    """Learn `job.subject` and save the LoRA; a run that was stopped is saved too, its state stays, and the next one goes on from there.

    Previews that fail, for memory or anything else, are left out. Of several processes (see `processes`) the first watches and saves.
    Raises FaceExprError for what cannot be done, memory that is short and another run in the folder of the states included; what a host
    raises before the first step ends the run.
    """
    with ExitStack() as held:
        if job.states is not None:
            with together("taking the folder of the run's states"):
                if rank()[0] == 0:
                    held.enter_context(alone_in(job.states.path))
        return _run(host, watcher, job, reserve)


def _run(host: Host, watcher: Watcher, job: Job, reserve: Reserve) -> Finished:
    job = replace(job, settings=replace(job.settings, **host.prediction()))
    settings, first = job.settings, rank()[0] == 0
    with together("preparing the training"), enough_memory("preparing the training"):
        ready = _prepare(host, watcher, job, reserve)
        taken = _taken(job, ready.materials, ready.place) if job.anew else None
        host.release(decode=ready.words is not None)
        forget_freed(host.device)

    if taken is not None:
        if first:
            names = ", ".join(path.name for path in taken.paths)
            watcher.warn(f"{names} was learned from the same photos, on the same model, with the same settings: it is taken. {job.anew}")
        return taken

    def on_start(notes: tuple[str, ...]) -> None:
        begins = () if job.states is not None and job.states.newest() else _beginning(job)
        for note in (*notes, *begins) if first else ():
            watcher.warn(note)
        watcher.ready()

    with ending_as_one() as interrupted:
        result = _learn(host, watcher, job, ready, on_start, interrupted)
        if ready.place is None:
            return Finished(result, settings)
        paths = tuple(ready.place.save(result))
        if result.stopped_by is None:
            if job.states is not None:
                job.states.finish()
        else:
            again = job.states.wording.again if job.states is not None and job.states.newest() else ""
            told = f"stopped after {result.steps} of {settings.steps} steps; the LoRA so far is saved as {paths[0]}"
            watcher.warn(f"{told}; {again}" if again else told)
        return Finished(result, settings, paths)


def _learn(
    host: Host, watcher: Watcher, job: Job, ready: _Ready, on_start: Callable[[tuple[str, ...]], None], interrupted: Callable[[], None]
) -> TrainResult:
    """All steps; `interrupted` is asked after each but the last, and raises what ends them."""

    def on_step(step: Step) -> None:
        if rank()[0] == 0:
            watcher.step(step, sheet_after(step, host, watcher, job.previews, job.settings, ready.words))
        if step.number < step.total:
            interrupted()

    made = ready.materials
    result = train_lora(
        made.unet,
        made.data,
        job.settings,
        on_step,
        host.device,
        class_images=made.class_images,
        crafting=made.crafting,
        states=job.states,
        encoders=made.encoders,
        on_start=on_start,
        start=made.start,
    )
    return replace(result, stopped_by=KeyboardInterrupt()) if isinstance(result.stopped_by, Interrupted) else result


def _taken(job: Job, materials: Materials, place: Place | None) -> Finished | None:
    """The LoRA that this very run saved before; the first process, which has the `place`, looks and tells the others."""
    found: list[Finished] = []

    def look() -> bytes:
        if place is not None and place.taken and (there := place.finished(run_of(materials, job.settings, rank()[1]))):
            found.append(Finished(there[1], job.settings, tuple(there[0]), taken=True))
        return b"taken" if found else b""

    if not from_first(look, "looking for a finished LoRA"):
        return None
    return found[0] if found else Finished(TrainResult({}, 0.0, (), 0), job.settings, taken=True)


def _beginning(job: Job) -> tuple[str, ...]:
    """What a run begins with, where that may be taken for something else."""
    if job.start is not None:
        return (f"starts from {job.start.name}, with step 1 and the learning rate of a new run",)
    if job.file is not None and job.file.exists():
        return (
            f"{job.file.name} is there already, but no state of its run: this one starts anew, and gets a number. "
            "To go on from that LoRA, give it as start_from.",
        )
    return ()


def _prepare(host: Host, watcher: Watcher, job: Job, reserve: Reserve) -> _Ready:
    subject, settings, first = job.subject, job.settings, rank()[0] == 0
    check_base(settings.base, host.device)
    check_lora(settings.base, host.device)
    tokenize = host.tokenize if settings.text_encoder else None
    room = host.room() if host.full_size else None
    if room is not None:
        room = least(room)
        require_fit(job.preset, settings, subject.resolution, room, draws=False)
    if first and subject.learned_captions(settings.captions) != subject.learned_captions(True):
        watcher.say(f"captions are off: every photo is learned as {subject.instance_prompt!r}, whatever its own caption says")
    data = build_training_set(
        subject, host.encode_text, host.encode_images, job.background_weight, settings.captions, settings.flip, tokenize
    )
    data = replace(data, made_with=host.parts())
    crafting = None
    if needs_prompts(settings):
        size = (data.latents.shape[-2], data.latents.shape[-1]) if settings.crafting_mask else None
        crafting = build_crafting_set(subject, host.encode_text, host.count_tokens, size, settings.flip, tokenize)
    words = encode_words(host, job.previews, subject, tokenize) if job.previews.every and first else None
    dtype = compute_dtype(settings.precision, host.device)
    encoders = host.text_encoders(dtype) if settings.text_encoder else None
    materials = Materials(host.unet(dtype), data, crafting=crafting, encoders=encoders, start=job.start)
    check_materials(materials, settings)
    numbers = lora_numbers(materials.learned(settings).values(), settings.rank)
    place = reserve(materials.unet, numbers, job) if first else None
    if first and job.states is not None:
        job.states.require_space(state_size(numbers, settings, host.device), settings.steps)
    if host.full_size and first:
        watcher.say(plan_on(host.device, materials.unet, job.preset, settings, subject.resolution, job.class_pictures.count))
    if settings.draws_class:
        if job.states is not None and not (job.anew and _taken(job, materials, place)):
            job.states.require_same(run_of(materials, settings, rank()[1]))
        pictures = list(job.class_pictures.given) or _class_pictures(host, watcher, job, materials.unet, data.made_with, room)
        materials = replace(materials, class_images=build_class_set(pictures, host.encode_text, host.encode_images, tokenize))
    return _Ready(materials, words, place)


def _class_pictures(
    host: Host, watcher: Watcher, job: Job, unet: UNet2DConditionModel, parts: Mapping[str, str], room: int | None
) -> list[ClassImage]:
    """The pictures of the class, those that are not there yet drawn now, shared out among the processes. Raises FaceExprError where that
    takes more than the `room` of the card."""
    wanted, side = job.class_pictures, job.subject.resolution
    prompt = wanted.prompt or class_prompt(job.subject)
    prompts = prior_prompts(prompt, wanted.count) if wanted.spread else [prompt] * wanted.count
    made = {"model": model_digest(unet), "prompt": prompt, **parts, **host.prediction(), **host.recipe(side), "spread": wanted.spread}
    own, ranks = rank()
    missing = missing_images(wanted.folder, prompts, made)
    if missing and room is not None and host.draws_whole:
        require_fit(job.preset, job.settings, side, room)
    if missing and own == 0:
        there = f" ({wanted.count - missing} of {wanted.count} are there)" if missing < wanted.count else ""
        watcher.say(f"drawing {missing} pictures of the class, {prompt!r}, into {prior_folder(wanted.folder, made)}{there}")

    def draw(words: str, seed: int) -> Picture:
        if own == 0:
            watcher.drawing(seed + 1, wanted.count, words)
        return host.draw(words, seed, side)

    if ranks > 1:
        for start in range(0, wanted.count, ranks):  # so that one that fails is not waited for until all others are through
            with together("drawing the pictures of the class"):
                prior_images(wanted.folder, prompts, draw, made, seeds=(start + own,))
    with enough_memory("drawing the pictures of the class"):
        return prior_images(wanted.folder, prompts, draw, made)
