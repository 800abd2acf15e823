"""Expression features made in ComfyUI, from a text's twins or from a photograph, and kept while nothing they depend on changes."""

from __future__ import annotations

import hashlib
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.fusion import donors
from ..faceexpr_core.fusion.bank import FeatureBank
from ..faceexpr_core.fusion.donor_faces import Picture, Twins, crop_photos
from ..faceexpr_core.fusion.recorder import Recorder
from ..faceexpr_core.fusion.settings import CONTEXT_SITE, FusionSettings, select_places
from .host.capture import attach_capture
from .host.conditioning import Conditioning
from .host.donors import DonorHost, TwinGuider, picture_noise, run_session, schedule_of
from .host.folders import model_folders
from .host.models import model_name
from .host.run import places_of
from .host.sampling import first_latent

KEPT_DONORS = 2

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Request:
    """What features depend on. `latent` is the sampler's own, `name` the expression's, `moved` the regions of the face that it moves;
    `keep` and `levels` as in `donors.recorder_for`."""

    model: Any
    expression: Conditioning
    neutral: Conditioning
    negative: Conditioning
    latent: dict[str, Any]
    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    denoise: float
    settings: FusionSettings
    vae: Any = None
    name: str = ""
    moved: tuple[str, ...] = ()
    keep: str = "face"
    levels: int | None = None


def from_text(request: Request) -> donors.Donors:
    """Twins of the base model drawn from the sampler's own noise of the first picture (method section 3), shown and recorded.

    Without a VAE nothing can be seen: there are no pictures, and no mask of the face.
    """

    def work(lent: DonorHost, recorder: Recorder, sigmas: list[float], notes: dict[str, str]) -> donors.Donors:
        if request.vae is not None:
            return donors.text_donors(lent, recorder, lent.start, sigmas, moved=request.moved, notes=notes, folders=model_folders())
        bank, _ = donors.own_features(lent, recorder, lent.start, sigmas, seen=False, notes=notes)
        unseen = Twins(None, lent.decode(lent.start))
        return donors.Donors(bank, unseen, "no VAE is connected, so that the expression acts everywhere")

    return _with_words(request, 0, request.vae is not None, work)


def own_features(request: Request, picture: int) -> FeatureBank:
    """Features of the expression for one picture of the batch, without pictures (`donors.own_features`)."""

    def work(lent: DonorHost, recorder: Recorder, sigmas: list[float], notes: dict[str, str]) -> FeatureBank:
        folders, seen = model_folders(), request.vae is not None
        bank, _ = donors.own_features(lent, recorder, lent.start, sigmas, seen=seen, moved=request.moved, notes=notes, folders=folders)
        return bank

    return _with_words(request, picture, False, work)


def _with_words(
    request: Request, picture: int, shown: bool, work: Callable[[DonorHost, Recorder, list[float], dict[str, str]], Made]
) -> Made:
    """What `work` makes of a host that starts from the noise of one picture of the batch; `shown` as in `_text_evaluations`."""
    sigmas, recorder, model = _prepare(request)
    noise = picture_noise(request.model, request.latent, request.seed, picture)
    levels, notes = sigmas.tolist(), _notes(request, "text", noise)
    made: list[Made] = []
    guider = TwinGuider(model, request.expression, request.neutral, request.negative, request.cfg)
    total = _text_evaluations(request, levels, shown)
    run_session(
        guider, request.latent, picture, noise, sigmas, request.vae, total, lambda lent: made.append(work(lent, recorder, levels, notes))
    )
    return made[0]


def from_photo(request: Request, photo: Tensor, neutral_photo: Tensor | None, neutral: str) -> donors.Donors:
    """Features of a photograph of anybody: IMAGE float [1, H, W, 3], its face cut out at the size of the picture to be drawn.

    `neutral_photo`: the same person with a neutral face; `neutral`: what to do without it, one of `donors.NEUTRALS`.
    Raises FaceExprError where a photo shows no face.
    """
    from ..faceexpr_core.faces.detector import FaceDetector

    if request.vae is None:
        raise FaceExprError("a photo was given without a VAE. Connect the VAE of the same checkpoint.")
    sigmas, recorder, model = _prepare(request)
    side = 8 * min(first_latent(request.model, request.latent).shape[2:])
    with FaceDetector(model_folders()) as detector:
        crops = crop_photos(_bytes(photo), None if neutral_photo is None else _bytes(neutral_photo), side, detector)
    noise = torch.randn(1, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(request.seed))
    made: list[donors.Donors] = []

    def work(lent: DonorHost) -> None:
        made.append(
            donors.photo_donors(
                lent,
                recorder,
                crops,
                noise.to(lent.start),
                neutral=neutral,
                moved=request.moved,
                notes=_notes(request, "photo", noise),
                folders=model_folders(),
            )
        )

    guider = TwinGuider(model, request.expression, request.neutral, request.negative, request.cfg)
    run_session(guider, {"samples": torch.zeros_like(noise)}, 0, noise, sigmas, request.vae, 2 * len(recorder.sigmas), work)
    return made[0]


def _prepare(request: Request) -> tuple[Tensor, Recorder, Any]:
    """The schedule, a recorder for those of its steps that lie in the window, and the model that records."""
    settings = request.settings
    sigmas = schedule_of(request.model, request.steps, request.sampler, request.scheduler, request.denoise)
    if len(sigmas) < 2:
        raise FaceExprError(f"denoise {request.denoise:g} draws no step, so that there is nothing to extract. Raise it.")
    recorder = donors.recorder_for(settings, sigmas.tolist(), request.keep, request.levels)
    places = select_places(settings.site, settings.layers, places_of(request.model, settings.site))
    return sigmas, recorder, attach_capture(request.model, recorder, settings.site, places)


def _text_evaluations(request: Request, levels: list[float], shown: bool) -> int:
    """How often the model is called for words; `shown`: for pictures of both twins, too."""
    if request.settings.site == CONTEXT_SITE and not shown:
        return 2 + (donors.LOOK_STEPS if request.vae is not None else 0)
    last = len(levels) - 2
    return sum(1 if sigma > donors.BRANCH_SIGMA and index < last else 2 for index, sigma in enumerate(levels[:-1]))


def _bytes(image: Tensor) -> Picture:
    picture: Picture = (image[0, ..., :3].float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return picture


def _notes(request: Request, source: str, noise: Tensor) -> dict[str, str]:
    return donors.donor_notes(
        model=model_name(request.model),
        expression=request.name,
        prompt="",
        source=source,
        width=8 * noise.shape[3],
        height=8 * noise.shape[2],
        seed=request.seed,
        steps=str(request.steps),
        cfg=f"{request.cfg:g}",
        schedule=f"{request.sampler} {request.scheduler} {request.denoise:g}",
    )


MakeFeatures = Callable[[Request], tuple[FeatureBank, ...]]


# Kept between runs


_kept: deque[tuple[Hashable, tuple[FeatureBank, ...]]] = deque(maxlen=KEPT_DONORS)


def batch_features(request: Request) -> tuple[FeatureBank, ...]:
    """Features of the words for each picture of the batch."""
    return tuple(own_features(request, picture) for picture in range(len(request.latent["samples"])))


def kept_features(request: Request) -> tuple[FeatureBank, ...]:
    """`batch_features`, made once and kept while nothing that they depend on changes.

    The last two requests' are kept, in half precision on the CPU.
    """
    key = fingerprint(request)
    for known, banks in _kept:
        if known == key:
            return banks
    made = batch_features(request)
    _kept.append((key, made))
    return made


def fingerprint(value: Any) -> Hashable:
    """Equal for values that give the same donor: tensors by content, plain values and containers by value, all else by identity.

    Objects are held weakly, so that a fingerprint keeps no model alive.
    """
    if isinstance(value, Tensor):
        content = value.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return "tensor", tuple(value.shape), str(value.dtype), hashlib.sha256(content).hexdigest()
    if isinstance(value, Request):
        settings = value.settings.site, value.settings.window, value.settings.layers  # the others only say how features are fused
        return str(value.model.patches_uuid), fingerprint({**vars(value), "settings": settings})
    if isinstance(value, dict):
        return "dict", tuple((key, fingerprint(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "list", tuple(fingerprint(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    try:
        return weakref.ref(value)
    except TypeError:
        return "object", id(value)
