"""ComfyUI as a `training.host.Host`, and its page as the `Watcher`: the base model's parts out of MODEL, CLIP and VAE."""

from __future__ import annotations

import gc
import logging
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch
from torch import Tensor

from ...faceexpr_core.mini import FULL_WIDTH
from ...faceexpr_core.training.fingerprint import weights_digest
from ...faceexpr_core.training.memory import room_on
from ...faceexpr_core.training.plan import decodes_in_tiles, rest
from ...faceexpr_core.training.prior import CLASS_CFG, CLASS_STEPS
from ...faceexpr_core.training.progress import progress_text
from ...faceexpr_core.training.ram import short_of_ram, weights_bytes
from .conditioning import Conditioning, count_tokens, encode_conditioning
from .encoding import decode_latents, encode_images, encode_text
from .models import require_sdxl_clip
from .pixels import to_bytes
from .predictions import prediction_of
from .progress import Interrupted, Progress, say, say_and_keep, say_or_stop, show, stop_if_cancelled
from .sampling import sample
from .text_encoders import SDXL_LAYER, export_text_encoders, tokenize
from .weights import empty_unet, export_unet, load_to_read, read_weight, require_loras_in_weights, weights_alone

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from ...faceexpr_core.training.host import Picture
    from ...faceexpr_core.training.result import Step
    from ...faceexpr_core.training.text_encoders import TextEncoders

CLASS_PICTURES: dict[str, Any] = {"steps": CLASS_STEPS, "cfg": CLASS_CFG, "sampler": "euler", "scheduler": "normal"}
"""How the MODEL draws the pictures of the class, by its weights alone: these are what it learns on, and what the pictures are known by."""


class TrainingHost:
    """`Host` over what is connected to the node `node`; what it does before the first step raises `Interrupted` once the user pressed
    cancel. Raises FaceExprError for a MODEL or CLIP that is not SDXL's, or not to be trained on (`predictions.prediction_of`,
    `weights.empty_unet`, `weights.require_loras_in_weights`)."""

    interrupts: tuple[type[BaseException], ...] = (Interrupted,)
    draws_whole = False

    def __init__(self, model: Any, clip: Any, vae: Any, node: str) -> None:
        self.model, self.clip, self.vae, self.node = model, clip, vae, node
        self._prediction = prediction_of(model, node)
        require_sdxl_clip(clip, node)
        self._shape = empty_unet(model, node)  # here already: before the photos are encoded
        require_loras_in_weights(model, "MODEL", node)
        require_loras_in_weights(clip.patcher, "CLIP", node)
        self._base = weights_alone(model)
        self._texts: dict[str, Conditioning] = {}
        self.device: torch.device = comfy.model_management.get_torch_device()
        self.full_size = model.model.model_config.unet_config["model_channels"] == FULL_WIDTH

    def room(self) -> int | None:
        if self.device.type != "cpu":
            _clear()
        return room_on(self.device, max(rest(), int(comfy.model_management.extra_reserved_memory())))  # --reserve-vram

    def prediction(self) -> dict[str, Any]:
        return self._prediction

    def encode_text(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        stop_if_cancelled()
        return encode_text(self.clip, prompts)

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        return tokenize(self.clip, prompts, self.node)

    def count_tokens(self, text: str) -> tuple[int, ...]:
        return count_tokens(self.clip, text)

    def encode_images(self, images: Tensor) -> Tensor:
        latents = []
        for image in images.split(1):
            stop_if_cancelled()
            latents.append(encode_images(self.model, self.vae, image))
        with torch.inference_mode(False):
            return torch.cat(latents)

    def decode(self, latents: Tensor) -> Picture:
        height, width = latents.shape[-2:]
        tiled = decodes_in_tiles(self.device, self.vae.vae_dtype, 64 * height * width)
        try:
            return to_bytes(decode_latents(self.model, self.vae, latents, tiled)[0])
        finally:
            if self.device.type != "cpu":  # the training needs the card again
                _clear()

    def text_encoders(self, dtype: torch.dtype) -> TextEncoders:
        stop_if_cancelled()
        return export_text_encoders(self.clip, dtype, self.node)

    def unet(self, dtype: torch.dtype) -> UNet2DConditionModel:
        stop_if_cancelled()
        _clear()
        short = short_of_ram("The training's own copy of the U-Net, beside ComfyUI's,", weights_bytes(self._shape, dtype))
        if short is not None:
            logging.warning("%s: %s", self.node, short)
            say_and_keep(short)
        unet = export_unet(self.model, dtype)
        _clear()  # ComfyUI's own is loaded now: what is planned and measured next would count it as the card's other work
        return unet

    def draw(self, prompt: str, seed: int, side: int) -> Picture:
        empty = {"samples": torch.zeros(1, 4, side // 8, side // 8)}
        positive, negative = self._said(prompt), self._said("")
        drawn = sample(self._base, positive, negative, empty, seed=seed, denoise=1.0, **CLASS_PICTURES)
        decoded = self.vae.decode(drawn["samples"])[0]
        # not rounded: earlier runs keep and learn them so, as the command does
        picture: Picture = (decoded.clamp(0, 1) * 255).to(torch.uint8).cpu().numpy()
        show(picture)
        return picture

    def _said(self, prompt: str) -> Conditioning:
        """Encoded once: on a small card CLIP and U-Net push each other off it."""
        if prompt not in self._texts:
            self._texts[prompt] = encode_conditioning(self.clip, prompt)
        return self._texts[prompt]

    def parts(self) -> dict[str, str]:
        stop_if_cancelled()
        load_to_read(self.clip.patcher)
        names = self.clip.cond_stage_model.state_dict()
        layer = "" if self.clip.layer_idx in (None, SDXL_LAYER) else f" layer {self.clip.layer_idx}"
        text = weights_digest((name, read_weight(self.clip.patcher, name)) for name in names)
        return {"text_encoders": f"{text}{layer}", "vae": weights_digest(self.vae.first_stage_model.state_dict().items())}

    def recipe(self, side: int) -> dict[str, Any]:
        return {"side": side, "host": "comfyui", **CLASS_PICTURES}

    def release(self, decode: bool) -> None:
        stop_if_cancelled()
        comfy.model_management.unload_all_models()


def _clear() -> None:
    """Take ComfyUI's models off the card, and give what they had there back to it."""
    comfy.model_management.unload_all_models()
    give_back()


def give_back() -> None:
    """What nothing refers to any more goes back to the card: also what refers to itself, which ComfyUI looks for after the whole graph."""
    gc.collect()
    comfy.model_management.soft_empty_cache()


class Page:
    """`Watcher` on ComfyUI's page: the node's progress bar, its text, previews, the cancel button; and a line in the log."""

    def __init__(self, steps: int, node: str) -> None:
        self._node = node
        self._progress = Progress(steps)
        self._progress.update(0)
        self._told = 0.0
        self._kept: dict[str, str] = {}

    def say(self, text: str) -> None:
        logging.info("%s: %s", self._node, text)
        say(text)

    def warn(self, text: str) -> None:
        logging.info("%s: %s", self._node, text)
        kind = re.sub(r"\d+", "", text)  # of previews that fail one after the other the last is told
        say_and_keep(text, self._kept.get(kind))
        self._kept[kind] = text

    def drawing(self, number: int, of: int, prompt: str) -> None:
        say_or_stop(f"picture {number} of {of} of the class: {prompt}")

    def ready(self) -> None:
        stop_if_cancelled()

    def step(self, step: Step, sheet: Picture | None) -> None:
        from PIL import Image

        if time.monotonic() - self._told > 1 or step.number == step.total:
            self._told = time.monotonic()
            say(progress_text(step))
        self._progress.update(step.number, None if sheet is None else Image.fromarray(sheet))
