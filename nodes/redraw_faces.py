"""Faces of pictures found, drawn over with another expression, and laid back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..faceexpr_core import text
from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.faces.change import FaceCut, FloatPicture, chosen_faces, cut_face, paste_change
from ..faceexpr_core.fusion.donor_faces import location_of
from ..faceexpr_core.fusion.grids import grid_mask
from ..faceexpr_core.fusion.redraw import Words, acting_regions, redraw_words, stays, strengths, told_of_face
from ..faceexpr_core.fusion.redraw_settings import READ
from ..faceexpr_core.fusion.settings import words_settings
from . import extraction
from .host.conditioning import Conditioning, count_tokens, encode_conditioning, encode_expression
from .host.folders import model_folders
from .host.models import drawn_side
from .host.pixels import to_bytes
from .host.progress import say_or_stop, show
from .host.redraw import Change, Fused, Redrawing, redraw_latent
from .host.widgets import EMPTY_MASK


@dataclass(frozen=True)
class Wish:
    """What is asked: `terms` as `text.expression_terms` gives them, `moved` the regions of the face that they move, `shown` what the faces
    show now (READ: look), `face` as in `chosen_faces`."""

    prompt: str
    terms: tuple[text.Term, ...]
    moved: tuple[str, ...]
    strength: float
    shown: str
    face: int


class Changed(NamedTuple):
    """IMAGE, MASK [N, H, W] of where it may differ, and what was done."""

    image: Tensor
    mask: Tensor
    report: str


class _Job(NamedTuple):
    """A face that is drawn over; `words` of what is asked of it and what it has `shown` until now."""

    picture: int
    cut: FaceCut
    shown: str
    words: Words


def change_faces(
    image: Tensor, mask: Tensor | None, model: Any, person_model: Any, clip: Any, vae: Any, wish: Wish, how: Callable[..., Redrawing]
) -> Changed:
    """`model` says what the expression is, `person_model` (else `model`) draws. Raises FaceExprError where no picture shows a face that is
    meant; a picture of a batch without one stays as it is, as does a face that shows what is asked, and the report says so."""
    drawing = model if person_model is None else person_model
    words = cache(partial(redraw_words, wish.prompt, wish.terms, count=partial(count_tokens, clip)))
    jobs, lines, found = _jobs(image, mask, wish, drawn_side(model), words)
    if not found:
        where = " inside the mask" if mask is not None else ""
        if mask is not None and not mask.any():
            where = f"{where}, which is empty ({EMPTY_MASK})"
        raise FaceExprError(
            f"no face to change was found{where} in {len(image)} picture{'s' if len(image) > 1 else ''}: {'; '.join(lines)}. Give one that "
            "shows a face clearly, from the front or nearly so; 'face' and the mask say which are meant."
        )
    pictures = [one[..., :3].float().cpu().numpy() for one in image]
    changed = torch.zeros(image.shape[:3])
    for job, before, after in _drawn(jobs, model, drawing, clip, vae, wish, how) if jobs else ():
        pictures[job.picture] = paste_change(pictures[job.picture], job.cut, before, after)
        changed[job.picture] = torch.maximum(changed[job.picture], torch.from_numpy(job.cut.mask))
        show(to_bytes(torch.from_numpy(pictures[job.picture])))
    return Changed(_put(image, pictures, changed), changed, "\n".join(lines))


def _jobs(image: Tensor, mask: Tensor | None, wish: Wish, side: int, words: Callable[[str], Words]) -> tuple[list[_Job], list[str], int]:
    """The faces that are drawn over, what is told of each picture, and how many faces are meant."""
    from ..faceexpr_core.faces.detector import FaceDetector
    from ..faceexpr_core.measure.shown import shown_expression

    jobs, lines, found = [], [], 0
    height, width = int(image.shape[1]), int(image.shape[2])
    masks = None if mask is None else grid_mask(mask.reshape(-1, *mask.shape[-2:]), (height, width)).cpu().numpy()
    with FaceDetector(model_folders()) as detector:
        for number, one in enumerate(image):
            say_or_stop(f"looking for faces in picture {number + 1} of {len(image)}")
            picture = one[..., :3].float().cpu().numpy()
            seen = to_bytes(one)
            free = None if masks is None else masks[number % len(masks)]
            faces = detector.detect(seen, every=True)
            meant = chosen_faces(faces, wish.face, free)
            if not meant:
                lines.append(f"picture {number + 1}: {len(faces)} faces found, none that is meant; left as it is")
            found += len(meant)
            for face in meant:
                shown = shown_expression(seen, face) if wish.shown == READ else wish.shown
                told = told_of_face(face.size, shown, words(shown), wish.strength, wish.shown == READ)
                lines.append(f"picture {number + 1}: {told}")
                if not stays(words(shown), wish.strength):
                    jobs.append(_Job(number, cut_face(picture, face, side, free), shown, words(shown)))
    return jobs, lines, found


def _drawn(
    jobs: list[_Job], model: Any, drawing: Any, clip: Any, vae: Any, wish: Wish, how: Callable[..., Redrawing]
) -> Iterator[tuple[_Job, FloatPicture, FloatPicture]]:
    """Each face as the VAE has it, and drawn over. One model after the other, which a small card likes."""
    plan = how(drawing, encode_conditioning(clip, ""))
    spoken = {job.shown: _speak(job.words, model, clip, wish) for job in {job.shown: job for job in jobs}.values()}
    latents = [vae.encode(torch.from_numpy(job.cut.crop)[None]) for job in jobs]
    drawn = []
    for number, (job, latent) in enumerate(zip(jobs, latents, strict=True)):
        say_or_stop(f"drawing face {number + 1} of {len(jobs)}, {job.shown} until now")
        height, width = job.cut.crop.shape[:2]
        acts = location_of(job.cut.placed, height, width, acting_regions(job.shown, wish.moved)).mask
        assert acts is not None
        drawn.append(redraw_latent(plan, Change(latent, acts, *spoken[job.shown]), number, len(jobs)))
    for job, *both in zip(jobs, latents, drawn, strict=True):
        before, after = (vae.decode(one)[0, ..., :3].float().clamp(0, 1).cpu().numpy() for one in both)
        yield job, before, after


class _Spoken(NamedTuple):
    """As in `Change`."""

    neutral: Conditioning
    asked: Fused | None
    shown: Fused | None
    weight: float


def _speak(words: Words, model: Any, clip: Any, wish: Wish) -> _Spoken:
    neutral = _one_entry(encode_conditioning(clip, words.asked.neutral))

    def fused(said: text.ExpressionPrompt, strength: float) -> Fused | None:
        if said.expressions == (said.neutral,):
            return None
        settings = words_settings(strength)
        (entry,) = _one_entry(encode_expression(clip, said, neutral))
        return extraction.kept_contexts(model, entry, neutral[0], settings), settings

    meant = strengths(wish.strength, words)
    return _Spoken(neutral, fused(words.asked, meant.asked), fused(words.shown, meant.shown), meant.weight)


def _one_entry(said: Conditioning) -> Conditioning:
    """Raises FaceExprError for a text that says something else from some step on: only one can be fused."""
    if len(said) > 1:
        raise FaceExprError(
            f"the CLIP makes {len(said)} texts of one, each for some steps: a LoRA with a schedule hangs on it. Connect the CLIP without "
            "hooks, or with a LoRA that is there for the whole run."
        )
    return said


def _put(image: Tensor, pictures: list[Any], changed: Tensor) -> Tensor:
    """The pictures where they may differ, in the type and with the other channels of IMAGE; the given bits elsewhere."""
    new = torch.stack([torch.from_numpy(one) for one in pictures]).to(image)
    where = changed[..., None].to(image.device) > 0
    return torch.cat([torch.where(where, new, image[..., :3]), image[..., 3:]], -1)
