"""The U-Net back on the device, within a run of a sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management
import comfy.sampler_helpers


def bring_back(guider: Any, shape: Sequence[int]) -> None:
    """Load the guider's models as ComfyUI does before a run that draws latents of this shape [B, 4, h, w]: on a small card with as much
    left free as its steps take, which may be a part of the U-Net alone."""
    patcher, helpers = guider.model_patcher, comfy.sampler_helpers
    required, least = helpers.estimate_memory(patcher, shape, guider.conds)
    beside = helpers.get_additional_models(guider.conds, patcher.model_dtype())[1]
    models = [patcher, *guider.loaded_models]
    comfy.model_management.load_models_gpu(models, memory_required=required + beside, minimum_memory_required=least + beside)
