"""What of a LoRA fits a model, and a report of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch

from . import kinds
from .embeddings import describe
from .formats import Lora, some_keys

SIZE = kinds.SIZE
ABSENT = "this model has no such layers"
NO_CLIP = "they are for the CLIP, and none is connected"


@dataclass(frozen=True, eq=False)
class Fit:
    """`usable`: the part of a LoRA that fits. `left_out`: modules that cannot be used, by the reason, said of several."""

    usable: Lora
    left_out: Mapping[str, tuple[str, ...]]

    @property
    def other_family(self) -> bool:
        """Whether the file is for another kind of model: nothing fits, or its U-Net takes a text of another width.

        Widths of self-attention agree between families (SD 1.x and SDXL), so that some layers of a foreign file always fit.
        """
        return not self.usable.modules or any(name.endswith((".attn2.to_k", ".attn2.to_v")) for name in self.sized)

    @property
    def sized(self) -> tuple[str, ...]:
        """The modules that are of another size in the model."""
        return tuple(name for why, names in self.left_out.items() if why == SIZE or kinds.OTHER_SIZE in why for name in names)

    @property
    def odd(self) -> bool:
        """Whether something was left out for another reason than that a plain LoRA is for another model."""
        return any(why not in (ABSENT, SIZE) for why in self.left_out)

    def reasons(self) -> str:
        """Why modules were left out, in one line."""
        return "; ".join(f"{len(names)}: {why}" for why, names in self.left_out.items())


def fit(lora: Lora, sizes: Mapping[str, torch.Size]) -> Fit:
    """Compare a LoRA with the sizes of a model's weights by module, in the spelling of `lora.names`.

    A module is usable only with a change that is whole, of the weight's size, and of a kind that ComfyUI applies.
    """
    left_out: dict[str, list[str]] = {}
    for module in lora.modules:
        if why := ABSENT if module not in sizes else _misfit(lora, module, sizes[module]):
            left_out.setdefault(why, []).append(module)
    return without(lora, left_out)


def without(lora: Lora, left_out: Mapping[str, Collection[str]]) -> Fit:
    """The fit with these modules left out."""
    gone = {module for modules in left_out.values() for module in modules}
    usable = replace(
        lora,
        layers={module: layer for module, layer in lora.layers.items() if module not in gone},
        others={module: extra for module, extra in lora.others.items() if module not in gone},
        unknown={},
        embeddings={},
    )
    return Fit(usable, {why: tuple(modules) for why, modules in left_out.items()})


def fit_report(name: str, lora: Lora, found: Fit, strength_model: float, strength_clip: float, clip: bool) -> str:
    """What the file is, what of it was applied, and each thing that was not, with the reason."""
    modules = found.usable.modules
    in_model = sum(module.startswith("unet.") for module in modules)
    ranks = sorted({layer.rank for layer in lora.layers.values()})
    rank = f", rank {' to '.join(str(rank) for rank in dict.fromkeys((ranks[0], ranks[-1])))}" if ranks else ""
    others = ", ".join(kind for kind in dict.fromkeys(map(lora.kind, lora.modules)) if kind != kinds.LORA)
    lines = [
        f"{name}: {lora.spelling} format, made for {lora.family()}{rank}{f', {others}' if others else ''}",
        f"MODEL: {in_model} layers at strength {strength_model:g}",
        f"CLIP: {len(modules) - in_model} layers at strength {strength_clip:g}",
    ]
    if trigger := lora.metadata.get("modelspec.trigger_phrase"):
        lines.append(f"write in the prompt: {trigger}")
    lines += lora.notes
    told: dict[str, list[str]] = {}
    for why, names in found.left_out.items():
        for module in names:
            for_clip = why == ABSENT and not clip and not module.startswith("unet.")
            told.setdefault(NO_CLIP if for_clip else why, []).append(module)
    lines += [f"NOT USED: {len(what)}, since {why}: {some_keys(what)}" for why, what in sorted(told.items(), key=_rank)]
    lines += [f"NOT USED: {len(keys)}, since they {why}: {some_keys(keys)}" for why, keys in lora.unread().items()]
    return "\n".join(lines)


def carried(lora: Lora) -> str:
    """What is to be done with the embeddings that the file carries, "" where there are none."""
    if not lora.embeddings:
        return ""
    which = ", ".join(describe(word, tensors) for word, tensors in lora.embeddings.items())
    return f"it carries embeddings: {which}; it was trained together with them"


def _rank(reason: tuple[str, object]) -> int:
    """The usual reasons come first."""
    usual = (NO_CLIP, ABSENT, SIZE)
    return usual.index(reason[0]) if reason[0] in usual else len(usual)


def _misfit(lora: Lora, module: str, size: torch.Size) -> str:
    kind = lora.kind(module)
    if kind in kinds.NOT_APPLIED:
        return f"their change is {kind}, which ComfyUI does not apply"
    layer, extra = lora.layers.get(module), lora.others.get(module, {})
    if layer is not None and not layer.fits(size, extra.get("lora_mid.weight")):
        return SIZE
    return kinds.misfit(kind, extra, size)
