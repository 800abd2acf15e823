"""Expression features made in ComfyUI, from a text's twins or from a photograph; and what two texts are to a model, kept."""

from __future__ import annotations

import hashlib
import weakref
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.fusion import donors
from ..faceexpr_core.fusion.bank import FeatureBank
from ..faceexpr_core.fusion.donor_faces import Twins, crop_photos
from ..faceexpr_core.fusion.recorder import Recorder
from ..faceexpr_core.fusion.settings import CONTEXT_SITE, FusionSettings, select_places, window_range, window_weight
from .host.capture import attach_capture
from .host.composition import notes_of_twins
from .host.conditioning import Conditioning
from .host.donors import DonorHost, Recording, TwinGuider, first_noise, run_session, schedule_of
from .host.folders import model_folders
from .host.models import model_name
from .host.pixels import to_bytes
from .host.progress import say_or_stop
from .host.run import places_of
from .host.sampling import first_latent
from .host.telling import TellingHost
from .host.texts import Entry, Pair, bare, differs, held_to, own_texts, pair_texts, same_text, tagged, without_places

KEPT_TEXTS = 8
"""Who draws many pictures reads so many texts at once: each change between base and person takes the network off the card and back."""


@dataclass(frozen=True, eq=False)
class Request:
    """What features depend on. `latent` is the sampler's own, `name` the expression's; `keep` and `levels` as in `donors.recorder_for`."""

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
    keep: str = "face"
    levels: int | None = None


def from_text(request: Request) -> donors.Donors:
    """Twins of the base model drawn from the sampler's own noise of the first picture (`fusion.donors`), shown and recorded.

    Without a VAE nothing can be seen: there are no pictures, and no mask of the face. Raises FaceExprError where the texts are not said
    at any step that is to be recorded.
    """
    pair = _only_pair(request)
    sigmas, recorder, recording = _prepare(request, pair)
    noise, levels = first_noise(request.model, request.latent, request.seed), sigmas.tolist()
    latent = first_latent(request.model, request.latent)[:1]
    held = held_to(request.expression[pair.expression])
    notes = _notes(request, "text", noise) | notes_of_twins(noise, latent, request.expression, request.neutral, [pair])
    total = donors.text_evaluations(recorder, levels, pictures=request.vae is not None)
    made: list[donors.Donors] = []

    def work(lent: DonorHost) -> None:
        host = TellingHost(lent, total)
        if request.vae is not None:
            made.append(donors.text_donors(host, recorder, lent.start, levels, moved=held, notes=notes, folders=model_folders()))
            return
        bank, _ = donors.own_features(host, recorder, lent.start, levels, moved=held, notes=notes, folders=model_folders())
        unseen = Twins(None, lent.decode(lent.start))
        made.append(donors.Donors(bank, unseen, "no VAE is connected, so that the expression acts everywhere"))

    texts = tagged(request.expression, [pair]), tagged(request.neutral, [Pair(pair.neutral, pair.neutral)])
    guider = TwinGuider(attach_capture(request.model, *recording), *texts, request.negative, request.cfg)
    run_session(guider, request.latent, noise, sigmas, request.vae, total, recording, work)
    return made[0]


def from_photo(request: Request, photo: Tensor, neutral_photo: Tensor | None, neutral: str) -> donors.Donors:
    """Features of a photograph of anybody: IMAGE float [1, H, W, 3], its face cut out at the size of the picture to be drawn.

    `neutral_photo`: the same person with a neutral face; `neutral`: what to do without it, one of `donors.NEUTRALS`. What the texts say
    of places and times of the picture (ControlNet, areas, masks, ranges) is none of the photo's. Raises FaceExprError where a photo shows
    no face, or several photos were given.
    """
    from ..faceexpr_core.faces.detector import FaceDetector

    if request.vae is None:
        raise FaceExprError("a photo was given without a VAE. Connect the VAE of the same checkpoint.")
    for name, given in (("photo", photo), ("neutral_photo", neutral_photo)):
        if given is not None and len(given) != 1:
            raise FaceExprError(
                f"{name} holds {len(given)} pictures; features are of one. Take it out of the batch (Get Image from Batch)."
            )
    pair = _only_pair(request)
    request = replace(
        request,
        expression=bare(request.expression[pair.expression]),
        neutral=bare(request.neutral[pair.neutral]),
        negative=without_places(request.negative) or [],
    )
    sigmas, recorder, recording = _prepare(request, Pair(0, 0))
    side = 8 * min(first_latent(request.model, request.latent).shape[2:])
    say_or_stop("looking for the face in the photo")
    with FaceDetector(model_folders()) as detector:
        crops = crop_photos(to_bytes(photo[0]), None if neutral_photo is None else to_bytes(neutral_photo[0]), side, detector)
    noise = torch.randn(1, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(request.seed))
    total = donors.photo_evaluations(recorder, neutral_photo is not None, neutral)
    made: list[donors.Donors] = []

    def work(lent: DonorHost) -> None:
        made.append(
            donors.photo_donors(
                TellingHost(lent, total),
                recorder,
                crops,
                noise.to(lent.start),
                neutral=neutral,
                moved=held_to(request.expression[0]),
                notes=_notes(request, "photo", noise),
                folders=model_folders(),
            )
        )

    guider = TwinGuider(attach_capture(request.model, *recording), request.expression, request.neutral, request.negative, request.cfg)
    latent = {"samples": torch.zeros_like(noise)}
    run_session(guider, latent, noise, sigmas, request.vae, total, recording, work)
    return made[0]


def _only_pair(request: Request) -> Pair:
    """The texts that differ by the expression. Raises FaceExprError where there are several, or one of them says several things."""
    pairs = pair_texts(request.expression, request.neutral)
    if len(pairs) > 1:
        raise FaceExprError(
            f"positive and neutral differ in {len(pairs)} of the texts that were combined; features are of one expression. Extract each by "
            "a node of its own, before combining."
        )
    (pair,) = pairs
    for name, entry in (("positive", request.expression[pair.expression]), ("neutral", request.neutral[pair.neutral])):
        if differs(entry):
            raise FaceExprError(
                f"{name} holds {len(entry[0])} texts, one for each picture of a batch, which differ; features are of one expression. Give "
                "the text of one picture, or connect base_model to FaceExpr Sampler, which fuses each picture's own."
            )
    return pair


def _prepare(request: Request, pair: Pair) -> tuple[Tensor, Recorder, Recording]:
    """The schedule, and a recorder for those of its steps that lie in the window and at which both texts are said."""
    settings = request.settings
    sigmas = schedule_of(request.model, request.steps, request.sampler, request.scheduler, request.denoise)
    if len(sigmas) < 2:
        raise FaceExprError(f"denoise {request.denoise:g} draws no step, so that there is nothing to extract. Raise it.")
    levels = sigmas.tolist()
    if settings.site != CONTEXT_SITE:
        texts = request.expression[pair.expression], request.neutral[pair.neutral]
        levels = [sigma for sigma in levels if all(_said(request.model, text[1], sigma) for text in texts)]
        if not any(sigma > 0 for sigma in levels):
            raise FaceExprError(
                "the text with the expression, or the neutral one, has a time range in which none of the sampler's steps lies. Widen it, "
                "or extract at the site cross_attention_difference, which needs no step."
            )
        if not any(window_weight(sigma, *window_range(settings.window)) for sigma in levels) and len(levels) < len(sigmas):
            raise FaceExprError(
                "at the steps where fusion acts (window_low to window_high) the texts are not said, since they have a time range. Widen "
                "the range or the window."
            )
    recorder = donors.recorder_for(settings, levels, request.keep, request.levels)
    return sigmas, recorder, (recorder, select_places(settings.site, settings.layers, places_of(request.model, settings.site)))


def _said(model: Any, extra: dict[str, Any], sigma: float) -> bool:
    """Whether ComfyUI evaluates a text at a noise level, as its `get_area_and_mult` decides."""
    sampling = model.get_model_object("model_sampling")
    first, last = (
        max(extra.get(f"{kind}start_percent", 0.0) for kind in ("", "clip_")),
        min(extra.get(f"{kind}end_percent", 1.0) for kind in ("", "clip_")),
    )
    above = first > 0 and sigma > float(sampling.percent_to_sigma(first))
    return not above and not (last < 1 and sigma < float(sampling.percent_to_sigma(last)))


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


# Kept between runs


_kept: deque[tuple[Hashable, FeatureBank]] = deque(maxlen=KEPT_TEXTS)


def kept_contexts(model: Any, expression: Entry, neutral: Entry, settings: FusionSettings) -> FeatureBank:
    """What an expression's text is to the model instead of the neutral one (site `cross_attention_difference`): made once, and kept while
    the model's weights and the two texts stay the same, whatever is drawn with them. Hooks of the texts (LoRAs of their own) are not the
    model's, and do not act.

    The KEPT_TEXTS that were last asked for are kept, in half precision on the CPU, but those whose model is gone. No row of the model is
    computed.
    """
    _drop_gone()
    key = _weights(model), settings.layers, *(fingerprint(entry[0]) for entry in (expression, neutral))
    for number, (known, bank) in enumerate(_kept):
        if known == key:
            del _kept[number]
            _kept.append((key, bank))
            return bank
    bank = _contexts(model, bare(expression), bare(neutral), settings)
    _kept.append((key, bank))
    return bank


def read_contexts(model: Any, texts: Iterable[tuple[Conditioning, Conditioning]], settings: FusionSettings, pictures: int) -> None:
    """Have `kept_contexts` make, one after the other, what it will be asked for by these texts (positive, neutral) of so many pictures."""
    for expression, neutral in texts:
        for pair in pair_texts(expression, neutral):
            for own in own_texts(expression[pair.expression], neutral[pair.neutral], pictures):
                if not same_text(own.expression, own.neutral):
                    kept_contexts(model, own.expression, own.neutral, settings)


def _drop_gone() -> None:
    """Let go of what no model can ask for again."""
    there = [one for one in _kept if not _is_gone(one[0])]
    _kept.clear()
    _kept.extend(there)


def _is_gone(key: Hashable) -> bool:
    """Whether something that the key holds weakly is no more."""
    return any(map(_is_gone, key)) if isinstance(key, tuple) else isinstance(key, weakref.ref) and key() is None


def _contexts(model: Any, expression: Conditioning, neutral: Conditioning, settings: FusionSettings) -> FeatureBank:
    recorder = Recorder(settings.site)
    recording = recorder, select_places(settings.site, settings.layers, places_of(model, settings.site))
    guider = TwinGuider(model.clone(), expression, neutral, neutral, 1.0)
    latent = torch.zeros(1, 4, 8, 8)
    sigmas = torch.tensor([float(model.get_model_object("model_sampling").sigma_max), 0.0])
    run_session(guider, {"samples": latent}, latent, sigmas, None, 0, recording, lambda lent: lent.record_contexts())
    return recorder.bank(notes={"model": model_name(model), "source": "text"})


def _weights(model: Any) -> Hashable:
    """Equal for MODELs whose attention makes the same of a text: the same network with the same patches of its weights, none of its parts
    replaced by another one (object patches), and nothing else put into it (injections)."""
    patches = model.model_options.get("transformer_options", {}).get("patches", {}).get("attn2_patch", ())
    replaced = {name: part for name, part in model.object_patches.items() if name != "model_sampling"}
    return weakref.ref(model.model), str(model.patches_uuid), *map(fingerprint, (list(patches), replaced, model.injections))


def fingerprint(value: Any) -> Hashable:
    """Equal for values that say the same: tensors by content, plain values and containers by value, all else by identity.

    Objects are held weakly, so that a fingerprint keeps no model alive.
    """
    if isinstance(value, Tensor):
        content = value.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return "tensor", tuple(value.shape), str(value.dtype), hashlib.sha256(content).hexdigest()
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
