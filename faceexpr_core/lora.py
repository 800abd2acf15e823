"""LoRA files: kohya's keys, which ComfyUI, diffusers and most other tools read."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import __version__
from .errors import FaceExprError

if TYPE_CHECKING:
    from .subject import Subject
    from .train_settings import TrainSettings
    from .training import TrainResult

SAVE_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}


def to_kohya(layers: Mapping[str, tuple[Tensor, Tensor]], alpha: float) -> dict[str, Tensor]:
    """(down, up) by the U-Net's module names in diffusers -> kohya's keys, float32 on the CPU.

    `mid_block.attentions.0...attn1.to_out.0` becomes `lora_unet_mid_block_attentions_0_..._attn1_to_out_0` with
    `.lora_down.weight` [rank, in], `.lora_up.weight` [out, rank] and `.alpha`; the delta is (alpha / rank) up @ down.
    """
    state = {}
    for name, (down, up) in layers.items():
        key = "lora_unet_" + name.replace(".", "_")
        state[f"{key}.lora_down.weight"] = down.detach().to("cpu", torch.float32).clone()
        state[f"{key}.lora_up.weight"] = up.detach().to("cpu", torch.float32).clone()
        state[f"{key}.alpha"] = torch.tensor(float(alpha))
    return state


def training_metadata(
    name: str, result: TrainResult, settings: TrainSettings, subject: Subject, background_weight: float
) -> dict[str, str]:
    """What the file says of itself: kohya's `ss_*` and Stability's `modelspec.*`, as other tools read them, and our `faceexpr.*`.

    No date and no path: the same run says the same, and a shared file tells nothing of the computer it was made on.
    """
    instance = f"{subject.trigger} {subject.class_word}".strip()
    captions = [photo.caption for photo in subject.photos]
    side = subject.resolution
    used = {**asdict(settings), "alpha": settings.effective_alpha, "background_weight": background_weight, "resolution": side}
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(settings.rank),
        "ss_network_alpha": f"{settings.effective_alpha:g}",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_output_name": name,
        "ss_steps": str(result.steps),
        "ss_max_train_steps": str(settings.steps),
        "ss_seed": str(settings.seed),
        "ss_learning_rate": f"{settings.learning_rate:g}",
        "ss_lr_scheduler": settings.schedule,
        "ss_optimizer": "torch.optim.AdamW",
        "ss_mixed_precision": settings.precision,
        "ss_min_snr_gamma": f"{settings.min_snr_gamma:g}",
        "ss_gradient_accumulation_steps": str(settings.accumulation),
        "ss_num_train_images": str(len(captions)),
        "ss_resolution": f"({side}, {side})",
        "ss_tag_frequency": json.dumps({subject.class_word: {instance: len(captions)}}),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": name,
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.prediction_type": "epsilon",
        "modelspec.trigger_phrase": instance,
        "modelspec.usage_hint": f"Write '{instance}' in the prompt.",
        "faceexpr.version": __version__,
        "faceexpr.trigger": subject.trigger,
        "faceexpr.class_word": subject.class_word,
        "faceexpr.steps": str(result.steps),
        "faceexpr.interrupted": "true" if result.interrupted else "false",
        "faceexpr.seed": str(settings.seed),
        "faceexpr.settings": json.dumps(used),
        "faceexpr.captions": json.dumps(captions, ensure_ascii=False),
        "faceexpr.losses": json.dumps([float(f"{loss:.6g}") for loss in result.losses]),
    }


def save_result(
    path: Path,
    result: TrainResult,
    settings: TrainSettings,
    subject: Subject,
    *,
    background_weight: float,
    precision: str = "fp16",
    fallbacks: tuple[Path, ...] = (),
) -> Path:
    """Save what a run gave, as `name_interrupted_step<N>` when it was stopped early. Returns and raises as `save_lora` does.

    float16 (`precision` fp16) is what LoRAs are passed around in: half the size, and its rounding moves epsilon by less than a thousandth.
    """
    if result.interrupted:
        path = path.with_name(f"{path.stem}_interrupted_step{result.steps}{path.suffix}")
    metadata = training_metadata(path.stem, result, settings, subject, background_weight)
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
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str], dtype: torch.dtype, fallbacks: tuple[Path, ...] = ()
) -> Path:
    """Write `state` as safetensors to `path`, or beside it as `name_00001_.safetensors` when the name is taken; return where it lies.

    The file appears whole or not at all, and nothing that exists is overwritten. When `path`'s folder takes no more, the file goes to
    the first of `fallbacks` that does, and the FaceExprError that is raised says where.
    """
    from safetensors.torch import save

    content = save({key: value.to(dtype).contiguous() for key, value in state.items()}, dict(metadata))
    try:
        return _write(path, content)
    except OSError as reason:
        why = "the disk is full" if reason.errno in (errno.ENOSPC, errno.EDQUOT) else reason.strerror or str(reason)
        problem = f"The LoRA ({len(content) / 2**20:.1f} MB) could not be saved in {path.parent}: {why}."
        for folder in fallbacks:
            try:
                rescued = _write(folder / path.name, content)
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


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return _publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> Path:
    for candidate in _names(path):
        try:
            os.link(temporary, candidate)  # fails when the name exists, unlike os.replace
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links
            if candidate.exists():
                continue
            os.replace(temporary, candidate)
        return candidate
    raise AssertionError("the names never end")


def _names(path: Path) -> Iterator[Path]:
    yield path
    number = 1
    while True:
        yield path.with_name(f"{path.stem}_{number:05}_{path.suffix}")
        number += 1
