"""LoRA files as we write them: kohya's keys, which ComfyUI, diffusers and most other tools read, and what the file says of itself."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import __version__
from ..errors import FaceExprError
from ..files import write_new
from .names import PARTS, TEXT_WIDTHS, kohya_module

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from ..photos.subject import Subject
    from ..training.run import TrainResult
    from ..training.settings import TrainSettings

SAVE_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
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
    state = {}
    for name, (down, up) in layers.items():
        key = kohya_module(name if name.startswith(PARTS) else f"unet.{name}")
        state[f"{key}.lora_down.weight"] = down.detach().to("cpu", torch.float32).clone()
        state[f"{key}.lora_up.weight"] = up.detach().to("cpu", torch.float32).clone()
        state[f"{key}.alpha"] = torch.tensor(float(alpha))
    return state


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
) -> dict[str, str]:
    """What the file says of itself: kohya's `ss_*` and Stability's `modelspec.*`, as other tools read them, and our `faceexpr.*`.

    The base model's family is told by the width of its text, its weights by `base_hash` (see `base_model_hash`).
    No date and no path: the same run says the same, and a shared file tells nothing of the computer it was made on.
    """
    version, architecture = BASE_MODELS.get(_family(result.lora), ("", ""))
    instance = f"{subject.trigger} {subject.class_word}".strip()
    captions = [photo.caption for photo in subject.photos]
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
        "ss_lr_scheduler": settings.schedule,
        "ss_optimizer": "torch.optim.AdamW",
        "ss_mixed_precision": settings.precision,
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
        "faceexpr.base_model": _family(result.lora),
        "faceexpr.base_model_hash": base_hash,
        "faceexpr.trigger": subject.trigger,
        "faceexpr.class_word": subject.class_word,
        "faceexpr.steps": str(result.steps),
        "faceexpr.interrupted": "true" if result.interrupted else "false",
        "faceexpr.text_encoder": "true" if settings.text_encoder else "",
        "faceexpr.seed": str(settings.seed),
        "faceexpr.settings": json.dumps(used),
        "faceexpr.captions": json.dumps(captions, ensure_ascii=False),
        "faceexpr.losses": json.dumps([float(f"{loss:.6g}") for loss in result.losses]),
    }
    return {key: value for key, value in told.items() if value}


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
) -> Path:
    """Save what a run gave, as `name_interrupted_step<N>` when it was stopped early. Returns and raises as `save_lora` does.

    float16 (`precision` fp16) is what LoRAs are passed around in: half the size, and its rounding moves epsilon by less than a thousandth.
    """
    if result.interrupted:
        path = path.with_name(f"{path.stem}_interrupted_step{result.steps}{path.suffix}")
    metadata = training_metadata(path.stem, result, settings, subject, background_weight, preset=preset, base_hash=base_hash)
    return save_lora(path, result.lora, metadata, SAVE_DTYPES[precision], fallbacks)


def require_space(folder: Path, size: int) -> None:
    """Make sure, before the training, that `folder` can take a file of `size` bytes. Raises FaceExprError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as reason:
        raise FaceExprError(f"The folder {folder} cannot be written ({reason.strerror}); choose another or change its rights.") from reason
    if free < size:
        raise FaceExprError(
            f"The LoRA needs {size / 2**20:.0f} MB, but the disk of {folder} has {free / 2**20:.0f} MB free. "
            "Free some space, or lower the rank."
        )


def save_lora(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str], dtype: torch.dtype | None, fallbacks: tuple[Path, ...] = ()
) -> Path:
    """Write `state` as safetensors to `path`, or beside it as `name_00001_.safetensors` when the name is taken; return where it lies.

    `dtype` None keeps every tensor as it is.

    The file appears whole or not at all, and nothing that exists is overwritten. When `path`'s folder takes no more, the file goes to
    the first of `fallbacks` that does, and the FaceExprError that is raised says where.
    """
    from safetensors.torch import save

    content = save({key: (value if dtype is None else value.to(dtype)).contiguous() for key, value in state.items()}, dict(metadata))
    try:
        return write_new(path, content)
    except OSError as reason:
        why = "the disk is full" if reason.errno in (errno.ENOSPC, errno.EDQUOT) else reason.strerror or str(reason)
        problem = f"The LoRA ({len(content) / 2**20:.1f} MB) could not be saved in {path.parent}: {why}."
        for folder in fallbacks:
            try:
                rescued = write_new(folder / path.name, content)
            except OSError:
                continue
            raise FaceExprError(f"{problem} It was saved as {rescued} instead; move it to your loras folder.") from reason
        raise FaceExprError(f"{problem} Free some space or choose another folder, then train again.") from reason


def read_lora(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a LoRA file. Raises FaceExprError when it is missing or not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as reason:
        raise FaceExprError(f"{path} cannot be read as a LoRA ({reason}); it needs to be a whole .safetensors file.") from reason


def _family(state: Mapping[str, Tensor]) -> str:
    """The kind of model that a LoRA in kohya's keys fits, by the width of the text its U-Net takes; "" where no layer tells."""
    width = next((value.shape[1] for key, value in state.items() if key.endswith("_attn2_to_k.lora_down.weight")), 0)
    return TEXT_WIDTHS.get(width, "")
