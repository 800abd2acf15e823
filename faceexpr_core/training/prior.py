"""Pictures of the class for prior preservation: which to draw, drawn once and kept, encoded for training."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import FaceExprError
from ..expressions import EXPRESSIONS
from ..files import replace_file, write_new
from ..provenance import say_drawn_by_a_model
from .data import ImageEncoder, TextEncoder, Tokenizer, TrainingSet, digest_of, plain

CLASS_STEPS, CLASS_CFG = 20, 1.0
"""How the base model draws them: without guidance (cfg 1), so that they are its own distribution, which L_prior then keeps. Pictures
drawn with guidance would teach the class to be guided, and drawing it later with guidance makes caricatures (docs/measurements.md)."""

MADE_WITH = "prior.json"
"""What lies beside pictures that the base model drew."""

Draw = Callable[[str, int], NDArray[np.uint8]]
"""Prompt, seed -> picture uint8 [H, W, 3]."""


@dataclass(frozen=True, eq=False)
class ClassImage:
    """`image` uint8 [H, W, 3] and the prompt that it was drawn with, which is its caption; `original_size` its height and width in pixels
    before it was resized, None where it was not."""

    image: NDArray[np.uint8]
    prompt: str
    original_size: tuple[int, int] | None = None


def prior_prompts(prompt: str, count: int) -> list[str]:
    """`count` prompts for the class: `prompt` with each expression of the vocabulary in turn, so that all are as frequent as can be."""
    phrases = [expression.phrase for expression in EXPRESSIONS.values()]
    return [f"{prompt}, {phrases[number % len(phrases)]}" for number in range(count)]


def prior_images(
    folder: Path,
    prompts: Sequence[str],
    draw: Draw,
    settings: Mapping[str, Any],
    seeds: Collection[int] | None = None,
) -> list[ClassImage]:
    """One picture for each of `prompts`, drawn by the base model with seeds 0, 1, 2 ... and kept in a folder of `folder`.

    `settings` is all that decides what `draw` gives (checkpoint, size, sampler ...), as JSON can hold it: each set of settings has its
    folder, with PNG files and MADE_WITH, and a picture that is there is never drawn again. One that another process drew meanwhile is
    given in place of this one's, and not overwritten. A longer list draws only what is missing.
    What `draw` raises ends the drawing, and the pictures so far stay. `seeds` draws and gives only the pictures of these numbers, as far as
    there are prompts for them.
    Raises FaceExprError when the folder cannot be written.
    """
    home = prior_folder(folder, settings)
    images = []
    try:
        replace_file(home / MADE_WITH, json.dumps(dict(settings), indent=1, sort_keys=True).encode())
        for seed, prompt in enumerate(prompts):
            if seeds is not None and seed not in seeds:
                continue
            path = home / f"{seed:05}.png"
            image = _read(path, prompt)
            if image is None:
                image = np.ascontiguousarray(draw(prompt, seed))  # as one that is read: an encoder's rounding depends on the layout
                image = _keep(path, image, prompt)
            images.append(ClassImage(image, prompt))
    except OSError as reason:
        raise FaceExprError(
            f"The pictures of the class could not be kept in {home} ({reason.strerror or reason}); free some space, or take prior distill."
        ) from reason
    return images


def prior_folder(folder: Path, settings: Mapping[str, Any]) -> Path:
    """Where `prior_images` keeps the pictures of these settings."""
    return folder / digest_of(json.dumps(dict(settings), sort_keys=True).encode())


def is_drawn(folder: Path) -> bool:
    """Whether this is a folder of `prior_images`."""
    return (folder / MADE_WITH).is_file()


def missing_images(folder: Path, prompts: Sequence[str], settings: Mapping[str, Any]) -> int:
    """How many of the pictures `prior_images` has still to draw."""
    home = prior_folder(folder, settings)
    return sum(_read(home / f"{seed:05}.png", prompt) is None for seed, prompt in enumerate(prompts))


def build_class_set(
    images: Sequence[ClassImage], encode_text: TextEncoder, encode_images: ImageEncoder, tokenize: Tokenizer | None = None
) -> TrainingSet:
    """Encode the pictures of the class, all of one size, one at a time, with weights of 1 and the size ids of an uncropped picture, whose
    own size is that before it was resized. Prompts that several share are encoded once.

    `tokenize` is for text encoders that learn: the prompts' tokens are kept too.

    Raises FaceExprError without pictures, when their sizes differ, or when an encoder gives values that are not finite.
    """
    if not images:
        raise FaceExprError("There are no pictures of the class; give some, or take prior distill, which needs none.")
    sizes = {one.image.shape[:2] for one in images}
    if len(sizes) > 1:
        raise FaceExprError(f"The pictures of the class have {len(sizes)} sizes ({sorted(sizes)[:3]} ...); give all of one size.")
    height, width = sizes.pop()
    latents = torch.cat([plain(encode_images(torch.from_numpy(one.image)[None].float() / 255), "latents") for one in images])
    prompts = list(dict.fromkeys(one.prompt for one in images))
    row = {prompt: number for number, prompt in enumerate(prompts)}
    words = [*prompts, ""]
    embeds, pooled = encode_text(words)
    embeds, pooled = plain(embeds, "text embeddings"), plain(pooled, "pooled text embeddings")
    tokens = None if tokenize is None else tokenize(words)
    sizes_before = [one.original_size or (height, width) for one in images]
    resized = [repr(sizes_before).encode()] if any(size != (height, width) for size in sizes_before) else []
    positions = torch.tensor([row[one.prompt] for one in images])
    return TrainingSet(
        latents=latents,
        prompt_embeds=embeds[:-1],
        pooled=pooled[:-1],
        time_ids=torch.tensor([[*size, 0, 0, height, width] for size in sizes_before], dtype=torch.float32),
        weights=torch.ones(len(images), 1, *latents.shape[-2:]),
        source=digest_of(*(one.image.tobytes() for one in images), *(one.prompt.encode() for one in images), *resized),
        tokens=None if tokens is None else tokens[:-1],
        prompts=positions,
        empty_embeds=embeds[-1:],
        empty_pooled=pooled[-1:],
        empty_tokens=None if tokens is None else tokens[-1:],
    )


def _keep(path: Path, image: NDArray[np.uint8], prompt: str) -> NDArray[np.uint8]:
    """Put the picture at `path`, unless another process has drawn one there meanwhile; returns the one that lies there. Raises OSError."""
    content = png(image, prompt)
    written = write_new(path, content)
    if written == path:
        return image
    there = _read(path, prompt)
    if there is None:  # broken, or drawn with other words
        replace_file(path, content)
    with suppress(OSError):
        written.unlink()
    return image if there is None else there


def _read(path: Path, prompt: str) -> NDArray[np.uint8] | None:
    """The picture at `path` if it is there, whole and drawn with `prompt`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB")) if picture.info.get("prompt") == prompt else None
    except (OSError, UnidentifiedImageError):
        return None


def png(image: NDArray[np.uint8], prompt: str = "") -> bytes:
    """A picture uint8 [H, W, 3] that a model drew, as PNG: the file says so, and holds `prompt`."""
    from PIL import Image, PngImagePlugin

    words = PngImagePlugin.PngInfo()
    say_drawn_by_a_model(words)
    if prompt:
        words.add_text("prompt", prompt)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", pnginfo=words)
    return stream.getvalue()
