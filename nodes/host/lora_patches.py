"""A LoRA as ComfyUI's own weight patches, and which of its modules they really changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import comfy.lora
import comfy.model_management
import torch
from comfy.weight_adapter import WeightAdapterBase
from torch import Tensor

if TYPE_CHECKING:
    from ...faceexpr_core.lora.formats import Lora


class Decomposed(WeightAdapterBase):
    """DoRA over another adapter's change (see `lora.dora`); ComfyUI's own divides by the norm of another weight.

    `weights` is (that adapter, the magnitude): newer ComfyUI moves an adapter to the card by `type(it)(it.loaded_keys, moved weights)`.
    """

    name = "dora"

    def __init__(self, loaded_keys: set[str], weights: tuple[Any, Tensor]) -> None:
        self.loaded_keys, self.weights = loaded_keys, weights

    def calculate_weight(
        self,
        weight: Tensor,
        key: str,
        strength: float,
        strength_model: float,
        offset: Any,
        function: Any,
        intermediate_dtype: torch.dtype = torch.float32,
        original_weight: Any = None,
        **_: Any,
    ) -> Tensor:
        from ...faceexpr_core.lora.dora import decomposed

        (inner, magnitude), wide = self.weights, weight.to(intermediate_dtype)
        change = inner.calculate_weight(torch.zeros_like(wide), key, 1.0, 1.0, None, lambda given: given, intermediate_dtype)
        magnitude = comfy.model_management.cast_to_device(magnitude, weight.device, intermediate_dtype)
        weight += function((strength * (decomposed(wide, change, magnitude) - wide)).type(weight.dtype))
        return weight


def patches_of(lora: Lora, targets: Mapping[str, str]) -> dict[Any, Any]:
    """ComfyUI's patches by the keys of `targets` (ComfyUI's name of a module -> its weight)."""
    from ...faceexpr_core.lora.formats import encode
    from ...faceexpr_core.lora.kinds import without_core

    plain = replace(lora, others={module: without_core(extra) for module, extra in lora.others.items()})
    state = encode(plain, "comfyui").state
    magnitudes = {name: state.pop(f"{name}.dora_scale") for name in targets if f"{name}.dora_scale" in state}
    for name in targets:
        blocks = state.get(f"{name}.oft_blocks")
        if blocks is not None and blocks.ndim == 4:  # ComfyUI fails where a BOFT names none
            state.setdefault(f"{name}.alpha", torch.tensor(0.0))
    patches = comfy.lora.load_lora(state, dict(targets), log_missing=False)
    for name, magnitude in magnitudes.items():
        adapter = patches.get(targets[name])
        if isinstance(adapter, WeightAdapterBase):
            patches[targets[name]] = Decomposed(adapter.loaded_keys, (adapter, magnitude))
    return patches


def changed_modules(lora: Lora, targets: Mapping[str, str], used: Collection[Any]) -> set[str]:
    """The modules of which a weight or a bias is among the keys that ComfyUI took patches for."""
    from ...faceexpr_core.lora.names import comfyui_module

    stems = {(key if isinstance(key, str) else key[0]).rpartition(".")[0] for key in used}
    return {module for module in lora.modules if _stem(targets.get(comfyui_module(module))) in stems}


def _stem(target: Any) -> str | None:
    return None if target is None else (target if isinstance(target, str) else target[0]).rpartition(".")[0]
