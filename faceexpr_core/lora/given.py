"""A LoRA as it is given by name, a file or the folder of a PEFT adapter: which files it is read from, and what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import FaceExprError
from ..files import digest_of_file, name_bytes
from .names import PARTS

PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"


def whole_of(given: Path) -> Path:
    """`given`, or the folder of the PEFT adapter whose weights it is: the text encoders' lie there too."""
    return given.parent if given.name == PEFT_WEIGHTS and given.is_file() else given


def is_adapter(folder: Path) -> bool:
    """Whether it is the folder of a PEFT adapter."""
    return bool(_adapter_weights(folder))


def adapter_weights(folder: Path) -> list[Path]:
    """The files of a PEFT adapter, with those of the text encoders in subfolders named after them. Raises FaceExprError without any."""
    files = _adapter_weights(folder)
    if not files:
        raise FaceExprError(f"The folder {folder} holds no {PEFT_WEIGHTS}; give a LoRA file or the folder of a PEFT adapter.")
    return files


def weights_of(given: Path) -> list[Path]:
    """The files that hold its tensors. Raises FaceExprError for a folder without any."""
    whole = whole_of(given)
    return adapter_weights(whole) if whole.is_dir() else [whole]


def files_of(given: Path) -> list[Path]:
    """All files that it is read from: weights, and PEFT's settings beside them. Raises as `weights_of`."""
    return [file for one in weights_of(given) for file in (one, one.with_name(PEFT_CONFIG)) if file == one or file.is_file()]


def digest_of_lora(given: Path) -> str:
    """Sixteen digits for what its files hold: of one file alone that file's. Raises FaceExprError for what cannot be read."""
    files, whole = files_of(given), whole_of(given)
    home = whole if whole.is_dir() else whole.parent
    try:
        if len(files) == 1:
            return digest_of_file(files[0])
        told = [f"{file.relative_to(home).as_posix()} {digest_of_file(file)}" for file in files]
    except OSError as reason:
        raise FaceExprError(f"the LoRA {given} cannot be read: {reason.strerror}.") from reason
    return hashlib.sha256(name_bytes("\n".join(told))).hexdigest()[:16]


def name_of_lora(given: Path) -> str:
    """What people call it: a file's name without its ending, an adapter's folder."""
    whole = whole_of(given)
    return whole.name if whole.is_dir() else whole.stem


def _adapter_weights(folder: Path) -> list[Path]:
    return [file for part in ("", *PARTS) if (file := folder / part / PEFT_WEIGHTS).is_file()]
