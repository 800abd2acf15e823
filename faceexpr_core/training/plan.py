"""What a run of SDXL will take, before its first step: memory of the card by part, time, disk.

The figures come from a table that was simulated at SDXL's size (card_table.json; `lab.card.table` makes it and says what it holds). It
knows the presets; other settings are reckoned from the nearest row: what learns goes with the rank, activations with batch and area.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bits import unusable
from .memory import card_name, first_line, free_memory, give_back
from .precision import whole_on_this_card
from .progress import duration
from .settings import KEEP, PRESETS, PRIOR_IMAGES, TrainSettings, preset_settings

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

log = logging.getLogger(__name__)

GB = 1 << 30
"""A GB of a graphics card."""
EIGHT_BIT, WHOLE = 2.1, 8.0
"""Bytes of AdamW's two moments for a number that learns."""
FEWER_BITS = {"nf4": 0.14 + 0.86 * 0.26, "int8": 0.14 + 0.86 * 0.5}
"""What the U-Net takes of its bytes in 16 bits, by arithmetic, where the table has no row: linear layers hold 86 % of its numbers."""
TIMED_ON_A_CPU = 256
"""Pixels of the call that is timed where there is no card."""
PNG = 1.6
"""Bytes of a picture's pixel in a PNG file, about."""
PASSING = ("activations", "gradients")
"""What is gone after a step."""
PASSES = {"off": (1, 0), "noise": (2, 0), "model": (2, 1), "distill": (2, 1)}
"""Of each prior, of pictures by what they teach: passes of a step that learn, and calls of the U-Net to compare with."""
LEARNING = ("LoRA", "gradients", "optimiser", "EMA")
"""What goes with the rank. The last good weights lie on the host."""


@dataclass(frozen=True)
class Need:
    """What a run takes. Bytes of a card: `parts` at the peak of training, their sum `allocated`, `needed` with what the allocator cannot
    use; `drawing` while the base model draws the class, 0 where it does not; `preview` while a preview is drawn; `generate` for a picture
    with the LoRA on the command line. `tflop` of all its steps. Bytes on the disk: `lora` (fp16), `states`,
    `pictures`."""

    parts: Mapping[str, int]
    allocated: int
    needed: int
    drawing: int
    preview: int
    generate: int
    tflop: float
    lora: int
    states: int
    pictures: int

    def peak(self, draws: bool) -> int:
        """With the pictures of the class, where the run draws them with the whole U-Net on the card. Previews may be left out."""
        return max(self.needed, self.drawing if draws else 0)


@cache
def card_table() -> dict[str, Any]:
    """The table as it is shipped."""
    table: dict[str, Any] = json.loads((Path(__file__).parent / "card_table.json").read_text(encoding="utf-8"))
    return table


def rest() -> int:
    """Bytes of a card that CUDA, its kernels and the desktop take beside: a guess."""
    return int(card_table()["rest"])


def need_of(settings: TrainSettings, side: int, *, prior_images: int = PRIOR_IMAGES) -> Need:
    """What SDXL takes with `settings` and photos of `side` pixels on a card."""
    row = _nearest(settings, side)
    parts = {name: size for name, size in row["parts"].items() if size}
    made = preset_settings(row["preset"], **row["changes"])
    learning = settings.rank / made.rank
    trained = row["trained"] * learning
    for name in LEARNING:
        parts[name] = round(parts.get(name, 4 * row["trained"]) * learning)
    parts["optimiser"] = round(trained * (EIGHT_BIT if _eight_bit(settings) else WHOLE))
    if not settings.ema:
        del parts["EMA"]
    if not settings.text_encoder:
        parts.pop("text encoders", None)
    parts["activations"] = round(parts["activations"] * (settings.batch_size / made.batch_size) * (side / row["side"]) ** 2)
    if settings.base != row["base"] == "full":
        parts["U-Net"] = round(parts["U-Net"] * FEWER_BITS[settings.base])
    if settings.precision == "fp32" or (settings.precision == "auto" and whole_on_this_card()):
        parts = {name: size if name in LEARNING else 2 * size for name, size in parts.items()}
    allocated = sum(parts.values())
    crafting = row["tflop"]["crafting"] / settings.crafting_every if settings.crafting_weight else 0.0
    batches = settings.batch_size * settings.accumulation / (made.batch_size * made.accumulation)
    once = forward_tflop(row["side"]) * made.batch_size * made.accumulation
    (learned, compared), (made_learned, made_compared) = PASSES[_prior(settings)], PASSES[_prior(made)]
    denoising = learned * (row["tflop"]["step"] - made_compared * once) / made_learned + compared * once
    step = (denoising + crafting) * batches * (side / row["side"]) ** 2
    state = trained * (4 + (EIGHT_BIT if _eight_bit(settings) else WHOLE) + (4 if settings.ema else 0))
    draws = settings.draws_class
    return Need(
        dict(sorted(parts.items(), key=lambda part: -part[1])),
        allocated,
        round(allocated * row["needed"] / row["allocated"]),
        drawing_peak(side) if draws else 0,
        preview_peak(parts, side),
        drawing_peak(side),
        step * settings.steps,
        round(2 * trained),
        round(state * (KEEP + 1)),
        round(prior_images * side**2 * PNG) if draws else 0,
    )


def drawing_peak(side: int) -> int:
    """Bytes while the base model draws a picture on the command line, where the card is short: the parts that are not in use are off it,
    and the VAE decodes in tiles."""
    weights = card_table()["weights"]
    sampling = weights["unet"] + call_bytes("unet, 1 with guidance", side**2)
    return int(max(sampling, weights["vae"] + call_bytes("vae decode tiled float32", side**2)))


def preview_peak(parts: Mapping[str, int], side: int) -> int:
    """Bytes while a preview is drawn beside what lies on the card for the whole run, of the `parts` of a `Need`: the U-Net's call with the
    LoRA, or the VAE in 16 bits, in tiles."""
    stay = sum(size for name, size in parts.items() if name not in PASSING)
    vae = card_table()["weights"]["vae"] // 2 + call_bytes("vae decode tiled float16", side**2)
    return stay + max(call_bytes("preview, 1 with guidance", side**2), vae)


def call_bytes(call: str, pixels: int) -> int:
    """What one call of SDXL's parts works in, over their weights, at a picture of so many pixels; `call` as the table names it."""
    rows = [row for row in card_table()["drawing"] if call in row] or card_table()["drawing"]
    row = min(rows, key=lambda one: abs(one["side"] ** 2 - pixels))
    known = row[call] if call in row else {"bytes": row[call.replace("float16", "float32")]["bytes"] / 2}
    return round(known["bytes"] * pixels / row["side"] ** 2)


def decodes_in_tiles(device: torch.device, dtype: torch.dtype, pixels: int) -> bool:
    """Whether a card has less free than the VAE in this dtype works in for a whole picture; False where that is not known."""
    free = free_memory(device)
    return free is not None and free < call_bytes("vae decode float16" if dtype.itemsize == 2 else "vae decode float32", pixels)


def forward_tflop(side: int) -> float:
    """Of one call of SDXL's U-Net with one latent."""
    row = _at(side)
    return float(row["unet, 1 with guidance"]["tflop"]) / 2 * (side / row["side"]) ** 2


def measured_tflops(unet: UNet2DConditionModel, device: torch.device, side: int) -> float:
    """TFLOP a second of one timed call of a U-Net of SDXL's shape on a device, where it then lies; a first call warms up."""
    import torch

    torch.nn.Module.to(unet, device)
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, unet.dtype)

    pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    latent, words = drawn(1, unet.config.in_channels, side // 8, side // 8), drawn(1, 77, unet.config.cross_attention_dim)
    added = {"text_embeds": drawn(1, pooled), "time_ids": torch.full((1, 6), float(side), device=device, dtype=unet.dtype)}
    seconds = 0.0
    with torch.no_grad():
        for _ in range(2):
            started = time.perf_counter()
            answer = unet(latent, torch.tensor(500, device=device), words, added_cond_kwargs=added).sample
            answer.float().sum().item()  # waits for the device
            seconds = time.perf_counter() - started
    return forward_tflop(side) / seconds


def plan_on(
    device: torch.device, unet: UNet2DConditionModel, preset: str, settings: TrainSettings, side: int, prior_images: int = PRIOR_IMAGES
) -> str:
    """What a run will take on a device, one call of its U-Net timed (it is on the CPU afterwards); on a CPU how long that would be.

    Where the whole U-Net does not fit, which a run with a packed base does not need, no time is told.
    """
    need, free, tflops = need_of(settings, side, prior_images=prior_images), free_memory(device), None
    card = free is not None
    if free is None or sum(one.nbytes for one in unet.parameters()) + call_bytes("unet, 1 with guidance", side**2) // 2 <= free:
        try:
            tflops = measured_tflops(unet, device, side if card else TIMED_ON_A_CPU)
        except (RuntimeError, MemoryError) as reason:  # a card that is short says so in many words, and its plan is not worth the run
            log.warning("The call of the U-Net could not be timed: %s", first_line(reason))
    unet.to("cpu")
    give_back(device)
    if card:
        return told(preset, settings, side, need, card_name(device), tflops)
    return slow(settings, need, device, tflops)


def told(preset: str, settings: TrainSettings, side: int, need: Need, where: str, tflops: float | None = None) -> str:
    """A plan in a few lines; `where` names the card, `tflops` its measured speed."""
    on = "on" if settings.gradient_checkpointing is not False else "off"
    base = "" if settings.base == "full" else f", base in {settings.base}"
    named = f"preset {preset}, " if preset else ""
    parts = ", ".join(f"{name} {size / GB:.1f}" for name, size in need.parts.items() if size >= 0.05 * GB)
    drawing = [f"pictures of the class {need.drawing / GB:.1f} GB"] if need.drawing else []
    drawing += [f"a preview {need.preview / GB:.1f} GB", f"faceexpr generate {need.generate / GB:.1f} GB"]
    work = f"{need.tflop / 1000:.0f} PFLOP"
    long = f"{work}; the first steps will tell how long"
    if tflops is not None:
        long = f"about {spoken(need.tflop / tflops)} ({work} at {tflops:.3g} TFLOP/s: one call of the U-Net, timed)"
    disk = [f"LoRA {size_of(need.lora)}", f"states {size_of(need.states)}"]
    if need.pictures:
        disk.append(f"pictures of the class {size_of(need.pictures)}")
    return "\n".join(
        [
            f"plan: {named}photos at {side} px, {settings.steps} steps, gradient checkpointing {on}{base}, on {where}",
            f"  memory: {need.needed / GB:.1f} GB of the card, simulated ({parts}; the rest the allocator's)",
            f"  drawing: {', '.join(drawing)}",
            f"  time: {long}",
            f"  disk: {', '.join(disk)}",
        ]
    )


def slow(settings: TrainSettings, need: Need, device: torch.device, tflops: float | None) -> str:
    """The warning that SDXL learns where there is no card, or one whose memory is not known."""
    import torch

    long = "" if tflops is None else f" and takes about {spoken(need.tflop / tflops)} (one call of the U-Net, timed)"
    built = ""
    if device.type == "cpu" and torch.version.cuda is None:
        built = (
            " This PyTorch is built without CUDA, as pip installs it on Windows: with an NVIDIA card, install the build for CUDA that "
            "https://pytorch.org/get-started/locally shows."
        )
    work = f"{settings.steps} steps of {need.tflop / settings.steps:.0f} TFLOP"
    return f"SDXL learns on {device.type} here{long}: {work}.{built}"


def size_of(number: float) -> str:
    """`140 MB`, `1.2 GB`."""
    return f"{number / GB:.1f} GB" if number >= GB else f"{number / 2**20:.0f} MB"


def spoken(seconds: float) -> str:
    """As `duration`, with days."""
    return f"{seconds / 86400:.0f} days" if seconds > 2 * 86400 else duration(seconds)


def _nearest(settings: TrainSettings, side: int) -> dict[str, Any]:
    on = settings.gradient_checkpointing is not False

    def apart(row: Mapping[str, Any]) -> tuple[float, ...]:
        made = preset_settings(row["preset"])
        kind = (
            8 * (made.text_encoder != settings.text_encoder)
            + 4 * (made.convolutions != settings.convolutions)
            + 2 * ((made.crafting_weight > 0) != (settings.crafting_weight > 0))
            + (made.prior != settings.prior)  # PASSES reckons it
        )
        others = 2 * (row["base"] != settings.base) + (row["ema"] != bool(settings.ema)) + (row["optimizer"] != settings.optimizer)
        return (row["checkpointing"] != on, kind, abs(row["side"] - side), others, abs(made.rank - settings.rank))

    return min((row for row in card_table()["rows"] if row["preset"] in PRESETS), key=apart)


def _at(side: int) -> dict[str, Any]:
    return min(card_table()["drawing"], key=lambda row: abs(row["side"] - side))


def _prior(settings: TrainSettings) -> str:
    return settings.prior_target if settings.draws_class else settings.prior


def _eight_bit(settings: TrainSettings) -> bool:
    return settings.optimizer == "adamw8bit" and unusable() is None
