"""Subject -> TrainingSet: everything the loop needs of the photos, encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .errors import FaceExprError
from .losses import face_weights

if TYPE_CHECKING:
    from .subject import Subject

TextEncoder = Callable[[list[str]], tuple[Tensor, Tensor]]
"""Prompts -> (prompt_embeds [N, 77, C], pooled [N, P])."""
ImageEncoder = Callable[[Tensor], Tensor]
"""Pictures float [N, H, W, 3] in 0..1 -> latents [N, 4, H/8, W/8] in the scale that the U-Net is trained on."""


@dataclass(frozen=True)
class TrainingSet:
    """N photos, encoded; float32 on the CPU.

    `latents` [N, 4, h, w]; `prompt_embeds` [N, 77, C]; `pooled` [N, P]; `time_ids` [N, 6] = original height, width,
    crop top, left, target height, width (SDXL, Podell et al. 2307.01952, section 2.2); `weights` [N, 1, h, w], mean 1.
    """

    latents: Tensor
    prompt_embeds: Tensor
    pooled: Tensor
    time_ids: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def map(self, change: Callable[[Tensor], Tensor]) -> TrainingSet:
        """The same set with `change` applied to every tensor."""
        return TrainingSet(
            change(self.latents), change(self.prompt_embeds), change(self.pooled), change(self.time_ids), change(self.weights)
        )

    def select(self, photos: Sequence[int]) -> TrainingSet:
        """The photos at these positions, in this order, repeats allowed."""
        index = torch.tensor(photos, device=self.latents.device)
        return self.map(lambda tensor: tensor[index])


def build_training_set(subject: Subject, encode_text: TextEncoder, encode_images: ImageEncoder, background_weight: float) -> TrainingSet:
    """Encode a subject with the host's own text encoders and VAE (ComfyUI's in the node, diffusers' on the command line).

    Raises FaceExprError without photos, with a background weight outside 0..1, or when an encoder gives values that are not finite.
    """
    import numpy as np

    if not 0 <= background_weight <= 1:
        raise FaceExprError(f"The background weight is {background_weight}; it must lie between 0 (only the face counts) and 1.")
    if not subject.photos:
        raise FaceExprError("The subject has no photos; training needs at least one, six to twenty are best.")
    images = torch.from_numpy(np.stack([photo.image for photo in subject.photos])).float() / 255
    masks = torch.from_numpy(np.stack([photo.mask() for photo in subject.photos]))
    latents = _plain(encode_images(images), "latents")
    prompt_embeds, pooled = encode_text([photo.caption for photo in subject.photos])
    time_ids = [(*photo.original_size, *photo.crop_top_left, *photo.target_size) for photo in subject.photos]
    return TrainingSet(
        latents=latents,
        prompt_embeds=_plain(prompt_embeds, "text embeddings"),
        pooled=_plain(pooled, "pooled text embeddings"),
        time_ids=torch.tensor(time_ids, dtype=torch.float32),
        weights=face_weights(masks, background_weight, *latents.shape[-2:]),
    )


def _plain(tensor: Tensor, what: str) -> Tensor:
    if not torch.isfinite(tensor).all():
        raise FaceExprError(
            f"The {what} of the photos contain values that are not numbers; "
            "an encoder that overflows in half precision does this: run it in float32 (ComfyUI: --fp32-vae, --fp32-text-enc)."
        )
    return tensor.detach().to("cpu", torch.float32).clone()
