"""diffusers as a `training.host.Host`: a pipeline that a training run takes apart."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import mini
from ..errors import FaceExprError
from ..fusion.run import Run
from ..text import ExpressionPrompt
from ..training.fingerprint import text_digest, weights_digest
from ..training.memory import room_on
from ..training.plan import card_table, rest
from ..training.precision import best_dtype, compute_dtype
from ..training.prior import CLASS_CFG, CLASS_STEPS
from ..training.ram import short_of_ram
from ..training.text_encoders import TextEncoders
from . import encoding, pipeline, sampling
from .placement import manage

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel

    from ..training.host import Picture

log = logging.getLogger(__name__)

VAE_FIRST = "encoder.conv_in.weight"
"""A VAE's first weights, in diffusers' names and in the original ones."""


class DiffusersHost:
    """`Host` over a pipeline that nobody else uses."""

    interrupts: tuple[type[BaseException], ...] = ()
    draws_whole = True

    def __init__(self, pipe: StableDiffusionXLPipeline, device: torch.device) -> None:
        self.pipe, self.device = pipe, device
        self.full_size = pipe.unet.config.block_out_channels[0] == mini.FULL_WIDTH
        manage(pipe, device)

    def room(self) -> int | None:
        return room_on(self.device, rest())

    def prediction(self) -> dict[str, Any]:
        return pipeline.prediction_of(self.pipe)

    def encode_text(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        return encoding.encode_prompts(self.pipe, prompts)

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        return encoding.tokenize_prompts(self.pipe, prompts)

    def count_tokens(self, text: str) -> tuple[int, ...]:
        return encoding.count_tokens(self.pipe, text)

    def encode_images(self, images: Tensor) -> Tensor:
        return encoding.encode_images(self.pipe, images)

    def decode(self, latents: Tensor) -> Picture:
        picture = encoding.decode_latents(self.pipe, latents)[0].numpy()
        if self.device.type != "cpu":
            self.pipe.vae.to("cpu")
        return picture

    def text_encoders(self, dtype: torch.dtype) -> TextEncoders:
        return TextEncoders(self.pipe.text_encoder, self.pipe.text_encoder_2)

    def unet(self, dtype: torch.dtype) -> UNet2DConditionModel:
        return self.pipe.unet

    def draw(self, prompt: str, seed: int, side: int) -> Picture:
        words = ExpressionPrompt(prompt, (prompt,), (1.0,))
        drawn = sampling.generate(self.pipe, words, Run(seed, CLASS_STEPS, CLASS_CFG, side, side))
        return drawn[0].numpy()

    def parts(self) -> dict[str, str]:
        encoders = TextEncoders(self.pipe.text_encoder, self.pipe.text_encoder_2)
        return {"text_encoders": text_digest(encoders), "vae": weights_digest(self.pipe.vae.state_dict().items())}

    def recipe(self, side: int) -> dict[str, Any]:
        return {"resolution": side, "steps": CLASS_STEPS, "cfg": CLASS_CFG}

    def release(self, decode: bool) -> None:
        self.pipe.register_modules(text_encoder=None, text_encoder_2=None, unet=None)
        if not decode:
            self.pipe.register_modules(vae=None, tokenizer=None, tokenizer_2=None)
        elif self.device.type != "cpu":
            if best_dtype(self.device) == torch.bfloat16:  # a look needs no more, and it does not overflow
                torch.nn.Module.to(self.pipe.vae, torch.bfloat16)  # diffusers' own `to` warns about an empty list of float32 modules
            self.pipe.vae.to("cpu")


def open_host(model: str, vae: str, precision: str, device: torch.device, prediction: str = "") -> DiffusersHost:
    """The host of a run: `model` as `load_pipeline` takes it, with another VAE where `vae` is not "" (`load_vae`).

    Raises FaceExprError where either cannot be loaded.
    """
    # bfloat16 is too coarse for embeddings and latents that are computed once and used for the whole run
    half = torch.float32 if compute_dtype(precision, device) == torch.float32 else torch.float16
    if pipeline.is_full_size(model):
        weights = sum(card_table()["weights"].values()) * half.itemsize // 2
        if (short := short_of_ram("The model", weights)) is not None:
            log.warning(short)
    pipe = pipeline.load_pipeline(model, half, prediction=prediction)
    if vae:
        pipe.register_modules(vae=load_vae(vae, half))
    return DiffusersHost(pipe, device)


def load_vae(path: str, dtype: torch.dtype) -> AutoencoderKL:
    """A VAE from a folder (its own, or the pipeline's that holds it), or a .safetensors file with the names of diffusers or of the original
    SDXL; one that overflows in half precision, as its config says (`force_upcast`), in float32.

    A file is taken for SDXL's VAE, or Mini's where it is as narrow. Raises FaceExprError where there is none, or not all of one.
    """
    from diffusers import AutoencoderKL
    from safetensors import SafetensorError

    location = Path(path)
    try:
        folder = location / "vae" if (location / "vae").is_dir() else location
        if location.is_file():
            config = str(_vae_config(location))  # without it diffusers takes Stable Diffusion 1.5's, whose latents are scaled otherwise
            vae = AutoencoderKL.from_single_file(str(location), config=config, torch_dtype=dtype, local_files_only=True)
        elif (folder / "config.json").is_file():
            vae = pipeline.load_part(AutoencoderKL, folder, dtype)
        else:
            raise FaceExprError(f"There is no VAE at {path}; give a folder with its config.json, or a .safetensors file.")
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as reason:
        why = "weights of it are missing" if isinstance(reason, NotImplementedError) else reason  # torch's word for what was not filled
        raise FaceExprError(
            f"{path} cannot be read as a VAE ({why}); give the folder or the .safetensors file of one for SDXL."
        ) from reason
    return vae.to(torch.float32) if dtype == torch.float16 and vae.config.force_upcast else vae


def _vae_config(file: Path) -> Path:
    """The folder with the configuration of the VAE in a .safetensors file. Raises ValueError where none of the two fits."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        keys = set(opened.keys())
        first = next((name for name in (f"{before}{VAE_FIRST}" for before in ("", "first_stage_model.", "vae.")) if name in keys), None)
        if first is None:
            raise ValueError(f"it has no {VAE_FIRST}")
        width = opened.get_slice(first).get_shape()[0]
    configs = [folder / "vae" for folder in (pipeline.SDXL_CONFIGS, mini.path())]
    known = {json.loads((folder / "config.json").read_text(encoding="utf-8"))["block_out_channels"][0]: folder for folder in configs}
    if width not in known:
        raise ValueError(f"its first layer has {width} channels, SDXL's has 128")
    return known[width]
