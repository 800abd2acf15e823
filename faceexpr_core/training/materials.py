"""What a run learns from, in one value: what is checked, what a run is known by and what is trained on are the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from .adapter import lora_shapes
from .crafting import CraftingSet
from .data import TrainingSet
from .settings import TrainSettings
from .start import Start
from .text_encoders import TextEncoders, text_lora_shapes

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


@dataclass(frozen=True, eq=False)
class Materials:
    """The private models and the encoded sets of a run; `start` is the LoRA that it starts from."""

    unet: UNet2DConditionModel
    data: TrainingSet
    class_images: TrainingSet | None = None
    crafting: CraftingSet | None = None
    encoders: TextEncoders | None = None
    start: Start | None = None

    def used(self, settings: TrainSettings) -> Materials:
        """Without text encoders that do not learn, and without pictures of the class that are not learned."""
        encoders, images = self.encoders if settings.text_encoder else None, self.class_images if settings.draws_class else None
        return replace(self, encoders=encoders, class_images=images)

    def learned(self, settings: TrainSettings) -> dict[str, torch.Size]:
        """The layers that learn, by their names in a LoRA file (`TrainResult.layers`), and the shapes of their own weights; of models that
        are as they were loaded. Raises FaceExprError for blocks that hold nothing to learn."""
        shapes = lora_shapes(self.unet, settings.block_names, settings.convolutions)
        reading = text_lora_shapes(self.encoders) if settings.text_encoder and self.encoders is not None else {}
        return {**{f"unet.{name}": shape for name, shape in shapes.items()}, **reading}
