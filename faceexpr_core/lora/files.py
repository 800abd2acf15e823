"""Files of tensors, written whole or not at all and read with clear words: what every LoRA file goes through."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FaceExprError
from ..files import make_folder, try_name, write_new

SAVE_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}


def require_space(folder: Path, size: int) -> None:
    """Make sure, before the training, that `folder` can take a file of `size` bytes. Raises FaceExprError."""
    try:
        make_folder(folder)
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


def require_name(path: Path) -> None:
    """Make sure, before the training, that `path`'s folder takes the name, with a number too. Raises FaceExprError."""
    try:
        try_name(path)
    except OSError as reason:
        raise FaceExprError(
            f"The LoRA's file may have to be called {path.name}, with a number, which {path.parent} does not take "
            f"({reason.strerror}). Choose a shorter name."
        ) from reason


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
        needed = "Choose a shorter name" if reason.errno == errno.ENAMETOOLONG else "Free some space or choose another folder"
        raise FaceExprError(f"{problem} {needed}, then the same again.") from reason


def read_lora(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a LoRA file. Raises FaceExprError when it is missing or not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            # copies: what `get_tensor` gives lies in the file, which then could not be replaced on Windows
            return {key: file.get_tensor(key).clone() for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as reason:
        raise FaceExprError(f"{path} cannot be read as a LoRA ({reason}); it needs to be a whole .safetensors file.") from reason
