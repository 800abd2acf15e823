"""Subject -> TrainingSet: everything the loop needs of the photos, encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import FaceExprError
from .losses import face_weights

if TYPE_CHECKING:
    from ..photos.subject import Subject

TextEncoder = Callable[[list[str]], tuple[Tensor, Tensor]]
"""Prompts -> (prompt_embeds [N, 77, C], pooled [N, P])."""
Tokenizer = Callable[[list[str]], Tensor]
"""Prompts -> int64 [N, 2, K, 77]: K chunks for each of the two text encoders, as `TextEncoder` reads them."""
ImageEncoder = Callable[[Tensor], Tensor]
"""Pictures float [N, H, W, 3] in 0..1 -> latents [N, 4, H/8, W/8] in the scale that the U-Net is trained on."""


@dataclass(frozen=True)
class TrainingSet:
    """N pictures, encoded; float32 on the CPU.

    `latents` [N, 4, h, w]; `prompt_embeds` [N, 77, C]; `pooled` [N, P], or with `prompts` int64 [N], of fewer prompts than pictures
    (`tokens` too): which row is each picture's; `time_ids` [N, 6] = original height, width,
    crop top, left, target height, width (SDXL, Podell et al. 2307.01952, section 2.2); `weights` [N, 1, h, w], mean 1.
    `empty_embeds` [1, 77, C] and `empty_pooled` [1, P] are those of no caption, for dropout. `source` says in a few letters
    what was encoded, so that a stopped run knows its photos again; encoders need not repeat to the bit. `made_with` names the encoders'
    digests (`host.Host.parts`), {} where they are not known. `tokens` int64 [N, 2, K, 77] and
    `empty_tokens` [1, 2, K, 77] are the captions' for text encoders that learn, None where they do not.
    """

    latents: Tensor
    prompt_embeds: Tensor
    pooled: Tensor
    time_ids: Tensor
    weights: Tensor
    empty_embeds: Tensor | None = None
    empty_pooled: Tensor | None = None
    source: str = ""
    tokens: Tensor | None = None
    empty_tokens: Tensor | None = None
    made_with: Mapping[str, str] = field(default_factory=dict)
    prompts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.latents)

    def map(self, change: Callable[[Tensor], Tensor]) -> TrainingSet:
        """The same set with `change` applied to every tensor."""
        return TrainingSet(
            change(self.latents),
            change(self.prompt_embeds),
            change(self.pooled),
            change(self.time_ids),
            change(self.weights),
            None if self.empty_embeds is None else change(self.empty_embeds),
            None if self.empty_pooled is None else change(self.empty_pooled),
            self.source,
            None if self.tokens is None else change(self.tokens),
            None if self.empty_tokens is None else change(self.empty_tokens),
            self.made_with,
            None if self.prompts is None else change(self.prompts),
        )

    def select(self, index: Tensor) -> TrainingSet:
        """The pictures at these positions (int64 [B], on the set's device), in this order, repeats allowed, each with its prompt's row."""
        prompts = index if self.prompts is None else self.prompts[index]
        return replace(
            self,
            latents=self.latents[index],
            prompt_embeds=self.prompt_embeds[prompts],
            pooled=self.pooled[prompts],
            time_ids=self.time_ids[index],
            weights=self.weights[index],
            tokens=None if self.tokens is None else self.tokens[prompts],
            prompts=None,
        )

    def without_captions(self, dropped: Tensor) -> TrainingSet:
        """The same pictures, those where `dropped` (bool [N]) with the empty caption. Raises FaceExprError when that was not encoded."""
        if self.prompts is not None:
            return self.select(torch.arange(len(self), device=self.latents.device)).without_captions(dropped)
        if self.empty_embeds is None or self.empty_pooled is None:
            raise FaceExprError(
                "Captions cannot be dropped: the set holds no embedding of the empty caption. Set caption_dropout and prior_dropout to 0."
            )
        tokens = self.tokens
        if tokens is not None and self.empty_tokens is not None:
            tokens = torch.where(dropped[:, None, None, None], self.empty_tokens, tokens)
        return replace(
            self,
            tokens=tokens,
            prompt_embeds=torch.where(dropped[:, None, None], self.empty_embeds, self.prompt_embeds),
            pooled=torch.where(dropped[:, None], self.empty_pooled, self.pooled),
        )

    def digest(self) -> str:
        """`source`, or a digest of the tensors where there is none."""
        prompts = () if self.prompts is None else (self.prompts,)
        return self.source or digest_of(self.latents, self.prompt_embeds, self.pooled, self.time_ids, self.weights, *prompts)


def build_training_set(
    subject: Subject,
    encode_text: TextEncoder,
    encode_images: ImageEncoder,
    background_weight: float,
    captions: bool = True,
    flip: bool = False,
    tokenize: Tokenizer | None = None,
) -> TrainingSet:
    """Encode a subject with the host's own text encoders and VAE (ComfyUI's in the node, diffusers' on the command line).

    Without `captions` every photo is learned as `a photo of <trigger> <class word>`. `flip` adds each photo mirrored, after all others.
    `tokenize` is for text encoders that learn: the captions' tokens are kept too.
    Raises FaceExprError without photos, with a background weight outside 0..1, or when an encoder gives values that are not finite.
    """
    import numpy as np

    if not 0 <= background_weight <= 1:
        raise FaceExprError(f"The background weight is {background_weight}; it must lie between 0 (only the face counts) and 1.")
    if not subject.photos:
        raise FaceExprError("The subject has no photos; training needs at least one, six to twenty are best.")
    pictures = np.stack([photo.image for photo in subject.photos])
    masks = torch.from_numpy(np.stack([photo.mask() for photo in subject.photos]))
    texts = subject.learned_captions(captions)
    size_ids = [(*photo.original_size, *photo.crop_top_left, *photo.target_size) for photo in subject.photos]
    source = digest_of(pictures.tobytes(), masks.numpy().tobytes(), repr((texts, size_ids, background_weight, flip)).encode())
    images = torch.from_numpy(pictures).float() / 255
    if flip:
        images, masks = torch.cat([images, images.flip(2)]), torch.cat([masks, masks.flip(2)])
        texts, size_ids = texts * 2, size_ids * 2
    latents = plain(encode_images(images), "latents")
    prompt_embeds, pooled = encode_text([*texts, ""])
    prompt_embeds, pooled = plain(prompt_embeds, "text embeddings"), plain(pooled, "pooled text embeddings")
    tokens = None if tokenize is None else tokenize([*texts, ""])
    return TrainingSet(
        latents=latents,
        prompt_embeds=prompt_embeds[:-1],
        pooled=pooled[:-1],
        time_ids=torch.tensor(size_ids, dtype=torch.float32),
        weights=face_weights(masks, background_weight, *latents.shape[-2:]),
        empty_embeds=prompt_embeds[-1:],
        empty_pooled=pooled[-1:],
        source=source,
        tokens=None if tokens is None else tokens[:-1],
        empty_tokens=None if tokens is None else tokens[-1:],
    )


def class_prompt(subject: Subject) -> str:
    """`a photo of a <class word>`, which stands for everybody; `person` where the class word is empty."""
    return f"a photo of a {subject.class_word or 'person'}"


def plain(tensor: Tensor, what: str) -> Tensor:
    """`tensor` float32 on the CPU, a copy fit for autograd. Raises FaceExprError, naming `what`, when it is not finite."""
    if not torch.isfinite(tensor).all():
        raise FaceExprError(
            f"The {what} of the photos contain values that are not numbers; "
            "an encoder that overflows in half precision does this: run it in float32 (ComfyUI: --fp32-vae, --fp32-text-enc)."
        )
    return tensor.detach().to("cpu", torch.float32).clone()


def digest_of(*parts: Tensor | bytes) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of `parts`."""
    total = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else part.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()[:16]
