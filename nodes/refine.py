"""Small faces of drawn latents, drawn again enlarged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.faces import models, small_faces
from ..faceexpr_core.faces.change import chosen_faces
from ..faceexpr_core.faces.face_choice import ALL_FACES
from ..faceexpr_core.fusion.grids import grid_mask, paste_latent
from .host.folders import model_folders
from .host.pixels import to_bytes, to_image
from .host.progress import say_or_stop, show
from .host.spots import Spot

Draw = Callable[[dict[str, Any], Spot], dict[str, Any]]
"""The latent of an enlarged face, and where it lies -> the latent drawn anew."""


def require_refining(vae: Any) -> None:
    """Raise FaceExprError where faces cannot be refined; asked before anything is drawn."""
    if vae is None:
        raise FaceExprError(
            "small faces cannot be refined without a VAE. Connect the VAE of the same checkpoint, or set refine_below to 0."
        )
    for name in ("face_landmarker", "yunet"):
        models.find(name, model_folders())


def refine_faces(vae: Any, latent: dict[str, Any], below: float, side: int, draw: Draw, tell: Callable[[str], None]) -> dict[str, Any]:
    """The latents with each face whose longer side is under `below` of the picture's shorter one drawn again.

    `draw` makes of the latent of an enlarged face another one, at `side` pixels or the picture's shorter side where that is less. What is
    not part of such a face, and what the latent's `noise_mask` leaves alone, keeps its latent to the bit. A face that would be made much
    smaller for that is left as it is, and `tell` is called with a word on it.
    """
    from ..faceexpr_core.faces.detector import FaceDetector

    samples = latent["samples"]
    say_or_stop("looking for small faces")
    pictures = [to_bytes(vae.decode(sample[None])[0]) for sample in samples]
    height, width = pictures[0].shape[:2]
    with FaceDetector(model_folders()) as detector:
        found = [small_faces.small_faces(detector.detect(picture, every=True), height, width, below) for picture in pictures]
    masks = _free(latent, height, width)
    found = [chosen_faces(faces, ALL_FACES, None if mask is None else mask.numpy()) for faces, mask in zip(found, masks, strict=True)]
    side = min(side, 8 * min(samples.shape[-2:]))

    def shrinks(face: Any) -> bool:
        return small_faces.cut_around(face, height, width).side > small_faces.SHRUNK * side

    large = [face for faces in found for face in faces if shrinks(face)]
    found = [[face for face in faces if not shrinks(face)] for faces in found]
    refined = [
        sample if not faces else _refine(vae, sample, picture, faces, mask, side, partial(_spot, number, sample), draw)
        for number, (sample, picture, faces, mask) in enumerate(zip(samples, pictures, found, masks, strict=True))
    ]
    if large:
        sizes = ", ".join(f"{face.size:.0f} pixels" for face in large)
        tell(f"faces that would be made smaller to be drawn again, at {side} pixels with what is around them, stay as they are: {sizes}")
    return {**latent, "samples": torch.stack(refined)} if any(found) else latent


def _free(latent: dict[str, Any], height: int, width: int) -> list[Tensor | None]:
    """Of each picture where it may change, float [height, width] in 0..1, None for everywhere."""
    count, mask = len(latent["samples"]), latent.get("noise_mask")
    if mask is None:
        return [None] * count
    maps = grid_mask(mask.reshape(-1, *mask.shape[-2:]), (height, width)).cpu()
    return [maps[number % len(maps)] for number in range(count)]


def _refine(
    vae: Any,
    sample: Tensor,
    picture: Any,
    faces: list[Any],
    free: Tensor | None,
    side: int,
    spot: Callable[..., Spot],
    draw: Draw,
) -> Tensor:
    height, width = picture.shape[:2]
    replaced = torch.zeros(height, width)
    for number, face in enumerate(faces, start=1):
        say_or_stop(f"drawing small face {number} of {len(faces)} again")
        cut = small_faces.cut_around(face, height, width)
        enlarged = small_faces.enlarge(picture, cut, side)
        drawn = draw({"samples": vae.encode(to_image(enlarged))}, spot(face, cut, height, width))
        mask = small_faces.paste_mask(face, cut, height, width)
        if free is not None:
            mask = mask * free.numpy()
        picture = small_faces.paste(picture, to_bytes(vae.decode(drawn["samples"])[0]), cut, mask)
        show(picture)
        replaced = torch.maximum(replaced, torch.from_numpy(mask))
    return paste_latent(sample, vae.encode(to_image(picture))[0].to(sample), replaced, free)


def _spot(number: int, sample: Tensor, face: Any, cut: small_faces.Cut, height: int, width: int) -> Spot:
    left, top, right, bottom = (float(edge) for edge in face.box)
    area = cut.top / height, (cut.top + cut.side) / height, cut.left / width, (cut.left + cut.side) / width
    centre = min(max((top + bottom) / 2 / height, 0.0), 1.0), min(max((left + right) / 2 / width, 0.0), 1.0)
    return Spot(number, area, centre, (int(sample.shape[-2]), int(sample.shape[-1])))
