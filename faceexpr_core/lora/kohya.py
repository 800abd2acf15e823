"""The LoRA of a run as a file: kohya's keys, which ComfyUI, diffusers and most other tools read, and what it says of itself."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import __version__
from .files import SAVE_DTYPES, save_lora
from .formats import Layer, Lora, encode
from .names import PARTS, TEXT_WIDTHS

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from ..photos.subject import Subject
    from ..training.result import TrainResult
    from ..training.settings import TrainSettings

log = logging.getLogger(__name__)

BASE_MODELS = {
    "SDXL": ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"),
    "FaceExpr Mini": ("faceexpr_mini", "faceexpr-mini/lora"),
}
"""kohya's `ss_base_model_version` and Stability's `modelspec.architecture` for the families that we train on."""


def to_kohya(layers: Mapping[str, tuple[Tensor, Tensor]], alpha: float) -> dict[str, Tensor]:
    """(down, up) by module names in diffusers -> kohya's keys, float32 on the CPU; names without their part are the U-Net's.

    `mid_block.attentions.0...attn1.to_out.0` becomes `lora_unet_mid_block_attentions_0_..._attn1_to_out_0` with
    `.lora_down.weight` [rank, in], `.lora_up.weight` [out, rank] and `.alpha`; the delta is (alpha / rank) up @ down.
    """
    return encode(_table(layers, alpha), "kohya").state


def _table(layers: Mapping[str, tuple[Tensor, Tensor]], alpha: float) -> Lora:
    named = {name if name.startswith(PARTS) else f"unet.{name}": pair for name, pair in layers.items()}
    wide = {name: [side.detach().to("cpu", torch.float32) for side in pair] for name, pair in named.items()}
    return Lora({name: Layer(down, up, float(alpha)) for name, (down, up) in wide.items()}, {}, {}, {}, "kohya")


def base_model_hash(unet: UNet2DConditionModel) -> str:
    """SHA-256 of a U-Net's weights by name, rounded to bfloat16, so that one checkpoint has one hash whatever it is loaded in.

    To be taken before an adapter is put on. (A float32 checkpoint that was loaded in float16 first may be rounded otherwise.)
    """
    total = hashlib.sha256()
    for name, value in sorted(unet.state_dict().items()):
        total.update(f"{name} {tuple(value.shape)}\n".encode())
        total.update(value.detach().to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def training_metadata(
    name: str,
    result: TrainResult,
    settings: TrainSettings,
    subject: Subject,
    background_weight: float,
    *,
    preset: str = "",
    base_hash: str = "",
    started_from: str = "",
) -> dict[str, str]:
    """What the file says of itself: kohya's `ss_*` and Stability's `modelspec.*`, as other tools read them, and our `faceexpr.*`.

    The base model's family is told by the width of its text, its weights by `base_hash` (see `base_model_hash`).
    No date and no path: the same run says the same, and a shared file tells nothing of the computer it was made on.
    """
    family = TEXT_WIDTHS.get(_table(result.layers, result.alpha).text_width() or 0, "")
    version, architecture = BASE_MODELS.get(family, ("", ""))
    instance = f"{subject.trigger} {subject.class_word}".strip()
    captions = subject.learned_captions(settings.captions)
    side = subject.resolution
    used = {**settings.used(), "alpha": settings.effective_alpha, "background_weight": background_weight, "resolution": side}
    told = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(settings.rank),
        "ss_network_alpha": f"{settings.effective_alpha:g}",
        "ss_base_model_version": version,
        "ss_output_name": name,
        "ss_steps": str(result.steps),
        "ss_max_train_steps": str(settings.steps),
        "ss_seed": str(settings.seed),
        "ss_learning_rate": f"{settings.learning_rate:g}",
        "ss_text_encoder_lr": f"{settings.text_encoder_learning_rate or settings.learning_rate:g}" if settings.text_encoder else "",
        "ss_network_args": json.dumps({"conv_dim": str(settings.rank), "conv_alpha": f"{settings.effective_alpha:g}"})
        if settings.convolutions
        else "",
        "ss_lr_scheduler": settings.schedule,
        "ss_optimizer": result.optimizer,
        "ss_mixed_precision": {"fp32": "no"}.get(result.precision, result.precision),
        "ss_min_snr_gamma": f"{settings.min_snr_gamma:g}",
        "ss_gradient_accumulation_steps": str(settings.accumulation),
        "ss_num_train_images": str(len(captions)),
        "ss_resolution": f"({side}, {side})",
        "ss_tag_frequency": json.dumps({subject.class_word: {instance: len(captions)}}),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": architecture,
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": name,
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.prediction_type": "v" if settings.prediction == "v_prediction" else settings.prediction,
        "modelspec.trigger_phrase": instance,
        "modelspec.usage_hint": f"Write '{instance}' in the prompt.",
        "faceexpr.version": __version__,
        "faceexpr.preset": preset,
        "faceexpr.base_model": family,
        "faceexpr.base_model_hash": base_hash,
        "faceexpr.trigger": subject.trigger,
        "faceexpr.class_word": subject.class_word,
        "faceexpr.started_from": started_from,
        "faceexpr.steps": str(result.steps),
        "faceexpr.interrupted": "true" if result.interrupted else "false",
        "faceexpr.text_encoder": "true" if settings.text_encoder else "",
        "faceexpr.seed": str(settings.seed),
        "faceexpr.settings": json.dumps(used),
        "faceexpr.captions": json.dumps(captions, ensure_ascii=False),
        "faceexpr.run": json.dumps(dict(result.run)) if result.run else "",
        "faceexpr.losses": json.dumps([float(f"{loss:.6g}") for loss in result.losses]),
    }
    return {key: _writable(value) for key, value in told.items() if value}


def _writable(text: str) -> str:
    """What is no Unicode (bytes of a shell or a file system in another encoding) would keep the whole file from being written."""
    return text.encode("utf-8", "replace").decode("utf-8")


def interrupted(path: Path, steps: int) -> Path:
    """The file of a run for `path` that was stopped after so many steps."""
    return path.with_name(f"{path.stem}_interrupted_step{steps}{path.suffix}")


def save_result(
    path: Path,
    result: TrainResult,
    settings: TrainSettings,
    subject: Subject,
    *,
    background_weight: float,
    precision: str = "fp16",
    fallbacks: tuple[Path, ...] = (),
    preset: str = "",
    base_hash: str = "",
    started_from: str = "",
) -> Path:
    """Save what a run gave, as `name_interrupted_step<N>` when it was stopped early. Returns and raises as `save_lora` does.

    float16 (`precision` fp16) is what LoRAs are passed around in: half the size, and its rounding moves epsilon by less than a thousandth.
    """
    if result.interrupted:
        path = interrupted(path, result.steps)
    try:
        told = {"preset": preset, "base_hash": base_hash, "started_from": started_from}
        metadata = training_metadata(path.stem, result, settings, subject, background_weight, **told)
    except Exception as reason:  # a field is not worth the run
        log.warning("%s could not be told of its training (%s: %s); the LoRA itself is whole.", path.name, type(reason).__name__, reason)
        metadata = {"ss_network_module": "networks.lora", "ss_network_dim": str(settings.rank)}
    return save_lora(path, to_kohya(result.layers, result.alpha), metadata, SAVE_DTYPES[precision], fallbacks)
