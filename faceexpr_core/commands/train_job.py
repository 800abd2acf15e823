"""One training run of the command line, from photos to file, on diffusers; under `accelerate launch` on all its processes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FaceExprError
from ..training.settings import BACKGROUND_WEIGHT, PRIOR_IMAGES, TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline
    from numpy.typing import NDArray

    from ..faces.images import SourceImage
    from ..photos.subject import Subject, SubjectSettings
    from ..training.data import TrainingSet
    from ..training.prior import ClassImage
    from ..training.result import Step, TrainResult
    from ..training.state import StateFolder

TRACKERS = ("none", "all", "tensorboard", "wandb", "comet_ml")
PRIOR_STEPS, PRIOR_CFG = 20, 5.0
"""How the base model draws the pictures of the class."""


@dataclass(frozen=True)
class ClassPictures:
    """Pictures of the class for prior preservation: those in `folder`, or where it has none, `count` that the base model draws there.

    `prompt` is what they show, "" for `a photo of a <class word>`; with `spread` over the expressions of the vocabulary.
    """

    folder: Path
    count: int = PRIOR_IMAGES
    prompt: str = ""
    spread: bool = True


@dataclass(frozen=True)
class Previews:
    """A sheet of pictures in `folder` after each `every` steps (0: none), one a prompt; no prompts: the person with four expressions."""

    folder: Path
    every: int = 0
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainJob:
    """A run: `images` become a subject as `subject` says, and a LoRA at `output` is learned with `settings`.

    `model`: mini, a diffusers folder or a checkpoint file; `vae` takes the place of its VAE. What it predicts, and its zero SNR, are the
    checkpoint's own, whatever `settings` say, or `prediction` where that is not "". `centre_crop` cuts the largest square in the
    middle of each photo, instead of near the face. `copies`: further names for the file. `states` None
    keeps no states. `report_to` one of TRACKERS, which write to `log_folder`.
    """

    model: str
    images: Sequence[SourceImage]
    subject: SubjectSettings
    settings: TrainSettings
    output: Path
    class_pictures: ClassPictures
    previews: Previews
    preset: str = ""
    vae: str = ""
    prediction: str = ""
    background_weight: float = BACKGROUND_WEIGHT
    centre_crop: bool = False
    file_precision: str = "fp16"
    device: str = ""
    copies: tuple[Path, ...] = ()
    states: StateFolder | None = None
    report_to: str = "none"
    log_folder: Path = field(default_factory=Path)


def run_job(job: TrainJob) -> int:
    """Train and save; prints the file's path. Returns 0.

    Ctrl-C or a loss that is not finite ends the run early: what was learned is saved under a name that says so, then raised; its state
    stays, and the same command goes on from there. Raises FaceExprError for what cannot be done.
    """
    with _processes(job.device) as (device, main):
        _check_tracker(job.report_to)
        told = partial(_tell, main)
        subject = prepare(job)
        told(subject.report)
        job = replace(job, images=())  # the photos in their full size are not needed any more
        job, result, base_hash = _train(job, subject, device, main, told)
        for note in result.notes:
            told(note)
        if main:
            _save(job, result, subject, base_hash)
        if result.stopped_by is not None:
            raise result.stopped_by
    return 0


def _train(
    job: TrainJob, subject: Subject, device: torch.device, main: bool, told: Callable[[str], None]
) -> tuple[TrainJob, TrainResult, str]:
    """Also the job as it was done, its settings fit to the checkpoint."""
    import torch

    from ..diffusers_host import encoding, pipeline
    from ..lora.files import SAVE_DTYPES, require_space
    from ..lora.kohya import base_model_hash
    from ..training.adapter import lora_parameters
    from ..training.data import build_training_set
    from ..training.precision import compute_dtype
    from ..training.progress import forget_freed
    from ..training.run import train_lora
    from ..training.text_encoders import TextEncoders, text_lora_parameters

    dtype = compute_dtype(job.settings.precision, device)
    # bfloat16 is too coarse for embeddings and latents that are computed once and used for the whole run
    half = torch.float32 if dtype == torch.float32 else torch.float16
    pipe = pipeline.load_pipeline(job.model, half, prediction=job.prediction)
    settings = replace(job.settings, **pipeline.prediction_of(pipe))
    job = replace(job, settings=settings)
    if job.vae:
        pipe.register_modules(vae=load_vae(job.vae, pipe.vae.dtype))
    unet = pipe.unet
    base_hash = base_model_hash(unet) if main else ""
    numbers = lora_parameters(unet, settings.rank, settings.block_names, settings.convolutions)
    encoders = TextEncoders(pipe.text_encoder, pipe.text_encoder_2) if settings.text_encoder else None
    if encoders is not None:
        numbers += text_lora_parameters(encoders, settings.rank)
    require_space(job.output.parent, numbers * SAVE_DTYPES[job.file_precision].itemsize)
    pipe.text_encoder.to(device)
    pipe.text_encoder_2.to(device)
    pipe.vae.to(device)
    encode_text, encode_images = partial(encoding.encode_prompts, pipe), partial(encoding.encode_images, pipe)
    tokenize = partial(encoding.tokenize_prompts, pipe) if settings.text_encoder else None
    data = build_training_set(subject, encode_text, encode_images, job.background_weight, settings.captions, settings.flip, tokenize)
    class_images = _class_set(job, subject, pipe, device, told) if settings.prior == "images" else None
    crafting = None
    if settings.prior == "distill" or settings.crafting_weight:
        from ..training.crafting import build_crafting_set

        size = (data.latents.shape[-2], data.latents.shape[-1]) if settings.crafting_mask else None
        count_tokens = partial(encoding.count_tokens, pipe)
        crafting = build_crafting_set(subject, encode_text, count_tokens, size, settings.flip, tokenize)
    watchers: list[Callable[[Step], None]] = []
    if main and job.previews.every:
        watchers.append(_previewer(job, subject, pipe))
    pipe.register_modules(text_encoder=None, text_encoder_2=None, unet=None)
    if not watchers:  # a preview needs the VAE
        pipe.register_modules(vae=None, tokenizer=None, tokenizer_2=None)
    del encode_text, encode_images, tokenize
    forget_freed(device)
    with _tracker(job, main) as track, _bar(settings.steps, main) as bar:
        watchers += [track, bar]

        def on_step(step: Step) -> None:
            for watch in watchers:
                watch(step)

        result = train_lora(
            unet, data, settings, on_step, device, class_images=class_images, crafting=crafting, states=job.states, encoders=encoders
        )
        return job, result, base_hash


def prepare(job: TrainJob) -> Subject:
    """The job's subject. Raises FaceExprError when no photo can be used."""
    from ..photos.subject_process import prepare_apart

    return prepare_apart(job.images, job.subject, job.centre_crop)


def load_vae(path: str, dtype: torch.dtype) -> AutoencoderKL:
    """A VAE from a folder (its own, or the pipeline's that holds it), or a .safetensors file. Raises FaceExprError where there is none."""
    from diffusers import AutoencoderKL

    location = Path(path)
    try:
        if location.is_file():
            return AutoencoderKL.from_single_file(str(location), torch_dtype=dtype, local_files_only=True)
        folder = location / "vae" if (location / "vae").is_dir() else location
        if (folder / "config.json").is_file():
            return AutoencoderKL.from_pretrained(folder, torch_dtype=dtype, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError) as reason:
        raise FaceExprError(
            f"{path} cannot be read as a VAE ({reason}); give the folder or the .safetensors file of one for SDXL."
        ) from reason
    raise FaceExprError(f"There is no VAE at {path}; give a folder with its config.json, or a .safetensors file.")


def _class_set(
    job: TrainJob, subject: Subject, pipe: StableDiffusionXLPipeline, device: torch.device, told: Callable[[str], None]
) -> TrainingSet:
    from ..diffusers_host import encoding
    from ..training.data import class_prompt
    from ..training.fingerprint import model_digest
    from ..training.prior import build_class_set, prior_images, prior_prompts

    wanted = job.class_pictures
    prompt = wanted.prompt or class_prompt(subject)
    pictures = _own_pictures(wanted, prompt, subject.resolution)
    if not pictures:
        prompts = prior_prompts(prompt, wanted.count) if wanted.spread else [prompt] * wanted.count
        drawn = {"resolution": subject.resolution, "steps": PRIOR_STEPS, "cfg": PRIOR_CFG}
        made = {"model": model_digest(pipe.unet), "prompt": prompt, "spread": wanted.spread, **drawn}
        pipe.unet.to(device)
        draw = partial(_draw, pipe, subject.resolution)
        rank, ranks = _rank()
        if ranks > 1:
            prior_images(wanted.folder, prompts, draw, made, share=(rank, ranks))
            _wait()
        told(f"pictures of the class: {wanted.count} of {prompt!r}, kept in {wanted.folder}")
        pictures = prior_images(wanted.folder, prompts, draw, made)
    tokenize = partial(encoding.tokenize_prompts, pipe) if job.settings.text_encoder else None
    return build_class_set(pictures, partial(encoding.encode_prompts, pipe), partial(encoding.encode_images, pipe), tokenize)


def _own_pictures(wanted: ClassPictures, prompt: str, resolution: int) -> list[ClassImage]:
    """The user's pictures in the class folder, cut to squares; [] where there are none. Raises FaceExprError for fewer than asked."""
    from ..faces.images import centre_square, crop_resized, picture_files, read_images
    from ..training.prior import ClassImage

    if not wanted.folder.is_dir() or not picture_files(wanted.folder):
        return []
    sources = [source for source in read_images(wanted.folder) if source.rgb is not None]
    if len(sources) < wanted.count:
        raise FaceExprError(
            f"The class folder {wanted.folder} holds {len(sources)} readable pictures, {wanted.count} are asked for. Ask for "
            f"{len(sources)}, add pictures, or give an empty folder, into which the base model draws them."
        )
    pictures = []
    for source in sources[: wanted.count]:
        assert source.rgb is not None
        square = centre_square(source.rgb)
        pictures.append(ClassImage(crop_resized(square, 0, 0, len(square), resolution), source.caption or prompt))
    return pictures


def _draw(pipe: StableDiffusionXLPipeline, side: int, prompt: str, seed: int) -> NDArray[np.uint8]:
    from ..diffusers_host import sampling
    from ..text import ExpressionPrompt

    words = ExpressionPrompt(prompt, (prompt,), (1.0,))
    picture = sampling.generate(pipe, words, seed=seed, steps=PRIOR_STEPS, cfg=PRIOR_CFG, width=side, height=side)[0]
    return picture.numpy()


def _previewer(job: TrainJob, subject: Subject, pipe: StableDiffusionXLPipeline) -> Callable[[Step], None]:
    import io

    from PIL import Image

    from ..diffusers_host import encoding
    from ..files import write_new
    from ..photos.subject import caption_for
    from ..training.preview import PREVIEW_EXPRESSIONS, contact_sheet, preview_latents

    prompts = job.previews.prompts or tuple(caption_for(name, subject.trigger, subject.class_word) for name in PREVIEW_EXPRESSIONS)
    rows = [encoding.encode_prompts(pipe, [prompt, ""]) for prompt in prompts]
    tokens = [encoding.tokenize_prompts(pipe, [prompt, ""]) for prompt in prompts]
    side, settings = subject.resolution, job.settings

    def draw(step: Step) -> None:
        if step.number % job.previews.every:
            return
        pictures = []
        for seed, (embeds, pooled) in enumerate(rows if step.embed is None else map(step.embed, tokens)):
            chosen = seed if job.previews.prompts else 0  # the same noise for each expression, its own for each repeated prompt
            latents = preview_latents(
                step.unet, embeds, pooled, side, side, seed=chosen, prediction=settings.prediction, zero_snr=settings.zero_snr
            )
            pictures.append(encoding.decode_latents(pipe, latents)[0].numpy())
        stream = io.BytesIO()
        Image.fromarray(contact_sheet(pictures)).save(stream, "PNG")
        try:
            write_new(job.previews.folder / f"step{step.number:06}.png", stream.getvalue())
        except OSError as reason:  # a picture is not worth the run
            _tell(True, f"the preview of step {step.number} could not be saved in {job.previews.folder}: {reason.strerror or reason}")

    return draw


def _save(job: TrainJob, result: TrainResult, subject: Subject, base_hash: str) -> None:
    from ..lora.kohya import save_result

    for path in (job.output, *job.copies):
        saved = save_result(
            path,
            result,
            job.settings,
            subject,
            background_weight=job.background_weight,
            precision=job.file_precision,
            fallbacks=(Path(tempfile.gettempdir()),),
            preset=job.preset,
            base_hash=base_hash,
        )
        print(saved, flush=True)
    if result.stopped_by is None and job.states is not None:
        job.states.clear()
    elif result.stopped_by is not None:
        again = "" if job.states is None else "; the same command goes on from here"
        _tell(True, f"stopped after {result.steps} of {job.settings.steps} steps; the LoRA so far is saved{again}")


@contextmanager
def _processes(asked: str) -> Iterator[tuple[torch.device, bool]]:
    """This process's device, and whether it is the one that writes; torch.distributed is set up if accelerate started several."""
    from ..diffusers_host.devices import chosen_device

    if world_size() == 1:
        yield chosen_device(asked), True
        return
    from accelerate import PartialState

    if asked not in ("", "cpu", "cuda"):
        raise FaceExprError(f"The device is {asked}, but each of several processes gets its own; give cpu or cuda, or leave it out.")
    state = PartialState(cpu=asked == "cpu")
    try:
        yield state.device, state.is_main_process
    finally:
        state.destroy_process_group()


def world_size() -> int:
    """How many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _rank() -> tuple[int, int]:
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _wait() -> None:
    import torch

    torch.distributed.barrier()


def _check_tracker(name: str) -> None:
    if name == "none":
        return
    from accelerate.tracking import get_available_trackers

    there = [str(tracker) for tracker in get_available_trackers()]
    if name == "all" and not there:
        raise FaceExprError(
            "--report_to all found no tracker that is installed. Install one, such as tensorboard, or give --report_to none."
        )
    if name not in ("all", *there):
        raise FaceExprError(f"--report_to {name} needs the package {name}, which is not installed. Install it, or give --report_to none.")


@contextmanager
def _tracker(job: TrainJob, main: bool) -> Iterator[Callable[[Step], None]]:
    """What sends each step's numbers to accelerate's trackers."""
    if job.report_to == "none" or not main:
        yield lambda step: None
        return
    from accelerate import Accelerator

    accelerator = Accelerator(log_with=job.report_to, project_dir=str(job.log_folder))
    config: dict[str, Any] = {name: value for name, value in job.settings.used().items() if value is not None}
    accelerator.init_trackers("faceexpr", config=config)

    def log(step: Step) -> None:
        parts = {name: value for name, value in step.losses.items() if value == value}  # NaN: not taken
        accelerator.log({"loss": step.loss, "learning_rate": step.learning_rate, **parts}, step=step.number)

    try:
        yield log
    finally:
        accelerator.end_training()


@contextmanager
def _bar(total: int, main: bool) -> Iterator[Callable[[Step], None]]:
    """A progress bar on a terminal, else a line for each twentieth of the run."""
    from ..training.progress import progress_text

    if not main:
        yield lambda step: None
        return
    if not sys.stderr.isatty():
        yield lambda step: _tell(step.number == total or step.number % max(1, total // 20) == 0, progress_text(step))
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(BarColumn(), TextColumn("{task.fields[words]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, words="")
        yield lambda step: bar.update(task, completed=step.number, words=progress_text(step))


def _tell(main: bool, words: str) -> None:
    if main:
        print(words, file=sys.stderr, flush=True)
