"""A run that starts from a LoRA: its layers in place of the first weights, at the run's own rank and scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import FaceExprError
from .text_encoders import TextEncoders, unread_layer

Pairs = Mapping[str, tuple[torch.nn.Parameter, torch.nn.Parameter]]


@dataclass(frozen=True, eq=False)
class Start:
    """The LoRA `name`: (down [r, in, ...], up [out, r, ...], alpha) by module, with its part's name before diffusers' path."""

    name: str
    layers: Mapping[str, tuple[Tensor, Tensor, float]]

    def pieces(self) -> list[bytes]:
        """What decides the first weights, for a digest."""
        found = []
        for module, (down, up, alpha) in sorted(self.layers.items()):
            found.append(f"{module} {tuple(down.shape)} {alpha}".encode())
            found += [side.detach().to("cpu", torch.float32).contiguous().numpy().tobytes() for side in (down, up)]
        return found


def check_start(start: Start, learned: Mapping[str, torch.Size], rank: int) -> None:
    """Raise FaceExprError where a run of this rank cannot start from `start`: it has layers that the run does not learn (`learned`: the
    shapes of the layers' own weights, by `lora_layers`' names), of another size, or of more rank."""
    missing = [module for module in start.layers if module not in learned]
    if missing:
        raise FaceExprError(
            f"{start.name} changes {len(missing)} layers that this run would not learn ({missing[0]} ...); {_advice(missing, learned)}."
        )
    for module, (down, up, _) in start.layers.items():
        shape = learned[module]
        if down.shape[1:] != shape[1:] or up.shape[0] != shape[0]:
            raise FaceExprError(f"{start.name} was made for another model: {module} has another size here. Take a LoRA of this one.")
        if len(down) > rank:
            raise FaceExprError(f"{start.name} has rank {len(down)}, and the run rank {rank}; give rank {max(_ranks(start))} or more.")


def begin_from(start: Start, pairs: Pairs, alpha: float) -> None:
    """Give the pairs that a run learns (`lora_layers`' names; scale `alpha` / rank) the change that `start` makes, exactly; `check_start`
    has seen that it can be.

    A file of less rank leaves the other rows of down as they were drawn, beside columns of 0 in up. Modules that the file lacks stay as
    they are.
    """
    for module, (down, up, own) in start.layers.items():
        first, second = pairs[module]
        rank = len(down)
        scale = (own / rank) / (alpha / len(first))
        with torch.no_grad():
            first[:rank] = down.to(first)
            second.zero_()
            second[:, :rank] = scale * up.to(second)


def without_unread(start: Start, encoders: TextEncoders | None) -> tuple[Start, str | None]:
    """`start` without the layers in the first text encoder's last layer, whose output SDXL does not read, and a note of them; where the
    text encoders do not learn, as it is."""
    unread = [] if encoders is None else [module for module in start.layers if module.startswith(unread_layer(encoders))]
    if not unread:
        return start, None
    kept = {module: pair for module, pair in start.layers.items() if module not in unread}
    why = "they lie in the last layer of the first text encoder, which SDXL does not read"
    return replace(start, layers=kept), f"{len(unread)} layers of {start.name} were left out: {why}."


def _is_text(module: str) -> bool:
    return not module.startswith("unet.")


def _ranks(start: Start) -> list[int]:
    return [len(down) for down, _, _ in start.layers.values()]


def _advice(missing: Iterable[str], learned: Iterable[str]) -> str:
    """What would learn them: a switch, unless layers of its kind are learned already."""
    if any(map(_is_text, missing)) and not any(map(_is_text, learned)):
        return "switch train_text_encoder on"
    if any(".resnets." in name for name in missing) and not any(".resnets." in name for name in learned):
        return "switch convolutions on (in the node: more, convolutions=on)"
    return "learn the same blocks, or take a LoRA of the attention layers of this kind of model"
