"""What of a LoRA fits a model, and a report of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from .formats import Lora


@dataclass(frozen=True, eq=False)
class Fit:
    """`usable`: the part of a LoRA that fits. `absent`: modules that the model lacks; `wrong_size`: those of another size in it."""

    usable: Lora
    absent: tuple[str, ...]
    wrong_size: tuple[str, ...]

    @property
    def other_family(self) -> bool:
        """Whether the file is for another kind of model: nothing fits, or its U-Net takes a text of another width.

        Widths of self-attention agree between families (SD 1.x and SDXL), so that some layers of a foreign file always fit.
        """
        return not self.usable.modules or any(name.endswith((".attn2.to_k", ".attn2.to_v")) for name in self.wrong_size)


def fit(lora: Lora, sizes: Mapping[str, torch.Size]) -> Fit:
    """Compare a LoRA with the sizes of a model's weights by module, in the spelling of `lora_names`."""
    absent = tuple(module for module in lora.modules if module not in sizes)
    wrong = tuple(module for module in lora.modules if module in sizes and not _fits(lora, module, sizes[module]))
    left_out = {*absent, *wrong}
    usable = replace(
        lora,
        layers={module: layer for module, layer in lora.layers.items() if module not in left_out},
        others={module: extra for module, extra in lora.others.items() if module not in left_out},
        unknown={},
    )
    return Fit(usable, absent, wrong)


def fit_report(name: str, lora: Lora, found: Fit, strength_model: float, strength_clip: float, clip: bool) -> str:
    """What the file is, what of it was applied, and each thing that was not, with the reason."""
    modules = found.usable.modules
    in_model = sum(module.startswith("unet.") for module in modules)
    ranks = sorted({layer.rank for layer in lora.layers.values()})
    rank = f", rank {' to '.join(str(rank) for rank in dict.fromkeys((ranks[0], ranks[-1])))}" if ranks else ""
    lines = [
        f"{name}: {lora.spelling} format, made for {lora.family()}{rank}",
        f"MODEL: {in_model} layers at strength {strength_model:g}",
        f"CLIP: {len(modules) - in_model} layers at strength {strength_clip:g}",
    ]
    if trigger := lora.metadata.get("modelspec.trigger_phrase"):
        lines.append(f"write in the prompt: {trigger}")
    lines += lora.notes
    missing_clip = () if clip else tuple(module for module in found.absent if not module.startswith("unet."))
    absent = tuple(module for module in found.absent if module not in missing_clip)
    for why, what in (
        ("they are for the CLIP, and none is connected", missing_clip),
        ("this model has no such layers", absent),
        ("their size is another in this model", found.wrong_size),
        ("they name no layer of Stable Diffusion", tuple(lora.unknown)),
    ):
        if what:
            lines.append(f"NOT USED: {len(what)}, since {why}: {', '.join(what[:3])}{' ...' if len(what) > 3 else ''}")
    return "\n".join(lines)


def _fits(lora: Lora, module: str, size: torch.Size) -> bool:
    if module in lora.layers and not lora.layers[module].fits(size):
        return False
    extra = lora.others.get(module, {})
    return all(extra[ending].shape == size for ending in ("diff", "w_norm") if ending in extra)
