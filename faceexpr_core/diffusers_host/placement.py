"""Which parts of a pipeline lie on the card: those that are in use, and the others as long as there is room beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from ..training.memory import free_memory, give_back
from ..training.plan import call_bytes

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

PARTS = ("unet", "text_encoder", "text_encoder_2", "vae")
TEXTS = ("text_encoder", "text_encoder_2")
TEXT_ROOM = 256 << 20
"""Bytes that both text encoders work in."""
LARGE = 1280 * 1280
"""Pixels above which the VAE works in tiles, card or not: 3 GB for each 1024 x 1024 otherwise."""
TILE = 512

_devices: WeakKeyDictionary[Any, torch.device] = WeakKeyDictionary()


def manage(pipe: StableDiffusionXLPipeline, device: torch.device) -> None:
    """From here on each part of the pipeline is brought to `device` when it is needed, and the others leave it where room is short."""
    _devices[pipe] = device


def device_of(pipe: StableDiffusionXLPipeline) -> torch.device:
    """Where the pipeline computes."""
    return _devices.get(pipe, pipe.device)


def bring(pipe: StableDiffusionXLPipeline, parts: tuple[str, ...], room: int = 0) -> None:
    """Put `parts` on the pipeline's device, with `room` bytes beside them to work in; nothing where the pipeline is not managed."""
    device = _devices.get(pipe)
    if device is None:
        return
    wanted = [part for name in parts if (part := getattr(pipe, name)) is not None]
    away = [part for part in wanted if part.device.type != device.type]
    others = [part for name in PARTS if name not in parts and (part := getattr(pipe, name)) is not None and part.device.type == device.type]
    if others and not _fits(device, sum(map(_size, away)) + room):
        for part in others:
            part.to("cpu")
        give_back(device)
    for part in away:
        part.to(device)


def bring_vae(pipe: StableDiffusionXLPipeline, call: str, height: int, width: int) -> None:
    """The VAE, for a `call` (decode or encode) of one picture: in tiles where that is large, or the device too small for it whole."""
    kind = "float32" if pipe.vae.dtype == torch.float32 else "float16"
    room = call_bytes(f"vae {call} {kind}", height * width)
    bring(pipe, ("vae",), room)
    device = _devices.get(pipe)
    if height * width > LARGE or (device is not None and not _fits(device, room)):
        small = TILE // 8
        pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = TILE, small
        pipe.vae.enable_tiling()
    else:
        pipe.vae.disable_tiling()


def fitting(pipe: StableDiffusionXLPipeline, count: int, rows: int, height: int, width: int) -> int:
    """How many of `count` pictures the U-Net can draw at once, each in `rows` rows; all of them where there is no card, one at a time on
    a card that does not say what is free."""
    device = _devices.get(pipe)
    bring(pipe, ("unet",), sampling_room(rows, height, width))
    free = None if device is None else free_memory(device)
    if free is None:
        return count if device is None or device.type == "cpu" else 1
    return max(1, min(count, free // sampling_room(rows, height, width)))


def sampling_room(rows: int, height: int, width: int) -> int:
    """Bytes that the U-Net works in for so many rows."""
    return call_bytes("unet, 1 with guidance", height * width) * rows // 2


def _fits(device: torch.device, needed: int) -> bool:
    """Whether so many bytes are free there; False on a card that does not say, as Apple's and some of Intel's."""
    free = free_memory(device)
    return device.type == "cpu" if free is None else needed <= free


def _size(part: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in part.parameters())
