"""A LoRA file as the start of a run."""

from __future__ import annotations

from pathlib import Path

from ..errors import FaceExprError
from ..training.start import Start
from .formats import load_whole
from .kinds import LORA


def read_start(path: Path) -> Start:
    """The LoRA at `path`, in any of the formats. Raises FaceExprError for a file that is more, or less, than low-rank pairs."""
    lora = load_whole(path)
    odd = [module for module in lora.modules if lora.kind(module) != LORA or lora.others.get(module)]
    if odd:
        raise FaceExprError(f"{path.name} is no plain LoRA ({lora.kind(odd[0])} in {odd[0]}), and only from one a run can start.")
    if not lora.layers or lora.unknown:
        why = "; ".join(f"{len(keys)} keys {told}" for told, keys in lora.unread().items()) or "it holds no layers"
        raise FaceExprError(f"A run cannot start from {path.name}: {why}. Choose a LoRA for SDXL, or for Mini.")
    return Start(path.name, {module: (layer.down, layer.up, layer.alpha) for module, layer in lora.layers.items()})
