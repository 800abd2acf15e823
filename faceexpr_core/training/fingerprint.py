"""What a run is made of, in a few letters each, so that a stopped one is gone on with only if it is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from .checks import needs_prompts
from .crafting import CraftingSet
from .data import TrainingSet, digest_of
from .settings import TrainSettings
from .text_encoders import TextEncoders, text_digest

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def run_of(
    unet: UNet2DConditionModel,
    data: TrainingSet,
    settings: TrainSettings,
    class_images: TrainingSet | None,
    crafting: CraftingSet | None,
    processes: int = 1,
    encoders: TextEncoders | None = None,
) -> dict[str, Any]:
    """What decides a run's outcome, as JSON can hold it: two runs of which this is equal end with the same LoRA."""
    made = settings.used()
    made.pop("gradient_checkpointing")  # memory for time; a run that ran out of memory may go on with it
    made["accumulation"] = settings.accumulation * processes
    made["photos"] = data.digest()
    made["model"] = model_digest(unet)
    if encoders is not None:
        made["text_encoders"] = text_digest(encoders)
    if settings.prior == "images" and class_images is not None:
        made["class_images"] = class_images.digest()
    if needs_prompts(settings) and crafting is not None:
        made["prompts"] = crafting.digest()
    return made


def model_digest(unet: UNet2DConditionModel) -> str:
    """A digest of the weights' names, shapes and a sample of each weight's numbers."""
    parts: list[bytes | Tensor] = []
    for name, weight in unet.state_dict().items():
        flat = weight.flatten()
        parts += [f"{name} {tuple(weight.shape)}".encode(), flat[:: max(1, len(flat) // 64)]]
    return digest_of(*parts)
