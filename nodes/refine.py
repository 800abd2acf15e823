"""Small faces of drawn latents, drawn again enlarged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.faces import small_faces
from ..faceexpr_core.fusion.grids import grid_mask
from .host.conditioning import Conditioning
from .host.folders import model_folders

_PLACED = ("control", "control_apply_to_uncond", "area", "strength", "mask", "mask_strength", "set_area_to_bounds", "gligen")


def refine_faces(vae: Any, latent: dict[str, Any], below: float, draw: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """The latents with each face whose longer side is under `below` of the picture's shorter one drawn again.

    `draw` makes of the latent of an enlarged face another one. What is not part of such a face keeps its latent to the bit.
    """
    from ..faceexpr_core.faces.detector import FaceDetector

    if vae is None:
        raise FaceExprError(
            "small faces cannot be refined without a VAE. Connect the VAE of the same checkpoint, or set refine_below to 0."
        )
    samples = latent["samples"]
    pictures = [_bytes(vae.decode(sample[None])) for sample in samples]
    height, width = pictures[0].shape[:2]
    with FaceDetector(model_folders()) as detector:
        found = [small_faces.small_faces(detector.detect(picture, every=True), height, width, below) for picture in pictures]
    refined = [
        sample if not faces else _refine(vae, sample, picture, faces, draw)
        for sample, picture, faces in zip(samples, pictures, found, strict=True)
    ]
    return {**latent, "samples": torch.stack(refined)} if any(found) else latent


def without_places(conditioning: Conditioning | None) -> Conditioning | None:
    """The conditioning without what belongs to places of the whole picture: ControlNet, areas, masks."""
    if conditioning is None:
        return None
    return [[entry[0], {key: value for key, value in entry[1].items() if key not in _PLACED}] for entry in conditioning]


def _refine(vae: Any, sample: Tensor, picture: Any, faces: list[Any], draw: Callable[[dict[str, Any]], dict[str, Any]]) -> Tensor:
    height, width = picture.shape[:2]
    side = 8 * min(sample.shape[-2:])
    replaced = torch.zeros(height, width)
    for face in faces:
        cut = small_faces.cut_around(face, height, width)
        enlarged = small_faces.enlarge(picture, cut, side)
        drawn = draw({"samples": vae.encode(_image(enlarged))})
        mask = small_faces.paste_mask(face, cut, height, width)
        picture = small_faces.paste(picture, _bytes(vae.decode(drawn["samples"])), cut, mask)
        replaced = torch.maximum(replaced, torch.from_numpy(mask))
    new = vae.encode(_image(picture))[0].to(sample)
    share = grid_mask(replaced, (int(sample.shape[-2]), int(sample.shape[-1]))).to(sample)
    return torch.where(share > 0, torch.lerp(sample, new, share), sample)


def _image(picture: Any) -> Tensor:
    return torch.from_numpy(picture).float()[None] / 255


def _bytes(image: Tensor) -> Any:
    return (image[0, ..., :3].float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
