"""What a run is made of, in a few letters each, so that a stopped one is gone on with only if it is the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .checks import needs_prompts
from .data import digest_of
from .differences import SIGNS
from .settings import TrainSettings

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from .materials import Materials
    from .text_encoders import TextEncoders

SAMPLE = 4096
"""Numbers of each weight that are looked at."""


def run_of(materials: Materials, settings: TrainSettings, processes: int = 1) -> dict[str, Any]:
    """What decides a run's outcome, as JSON can hold it: two runs of which this is equal end with the same LoRA. Of models that are as
    they were loaded."""
    data = materials.data
    made = settings.used()
    made.pop("gradient_checkpointing")  # memory for time; a run that ran out of memory may go on with it
    made |= {"accumulation": settings.accumulation * processes, "processes": processes}
    made["photos"] = data.digest()
    made["side"] = 8 * data.latents.shape[-1]
    made["model"] = model_digest(materials.unet)
    made |= data.made_with
    if settings.text_encoder and materials.encoders is not None:
        made["text_encoders"] = text_digest(materials.encoders)
    if settings.draws_class and materials.class_images is not None:
        made["class_images"] = materials.class_images.digest()
    if needs_prompts(settings) and materials.crafting is not None:
        made["prompts"] = materials.crafting.digest()
    if settings.crafting_weight:
        made["crafting_gradient"] = "either prompt"  # it went through the expression's alone before 0.2.0
    if materials.start is not None:
        made["start"] = digest_of(*materials.start.pieces())
    return made


def model_digest(unet: UNet2DConditionModel) -> str:
    """A digest of the weights' names and shapes, and of the signs of a sample of each weight's numbers.

    Signs stay when numbers are rounded: the digest is the same in float32, bfloat16 and float16. Where a checkpoint was trained on, or a
    LoRA was added, some thousands of the millions of signs differ.
    """
    return weights_digest(unet.state_dict().items())


def weights_digest(weights: Iterable[tuple[str, Tensor]]) -> str:
    """The same of weights by name; they are asked for one at a time."""
    return SIGNS + digest_of(*_signs(weights))


def text_digest(encoders: TextEncoders) -> str:
    """The same of both text encoders, whatever transformers calls their modules."""
    weights = {}
    for part, encoder in encoders.parts.items():
        for name, weight in encoder.state_dict().items():
            weights[f"{part} {name if name.startswith('text_') else f'text_model.{name}'}"] = weight
    return weights_digest(weights.items())


def _signs(weights: Iterable[tuple[str, Tensor]]) -> Iterator[bytes]:
    for name, weight in weights:
        flat = weight.flatten()
        negative = torch.signbit(flat[:: max(1, len(flat) // SAMPLE)].float()).cpu().numpy()
        yield f"{name} {tuple(weight.shape)}".encode() + np.packbits(negative).tobytes()
