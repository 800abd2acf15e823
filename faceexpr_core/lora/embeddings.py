"""Embeddings that a LoRA file carries beside its layers (`bundle_emb.<name>.<encoder>`, as OneTrainer writes them), and files of them.

Such a LoRA was trained together with new words: its trigger is the embedding, without which the LoRA shows half of what it learned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..errors import FaceExprError
from ..files import write_once

_KEY = re.compile(r"bundle_emb\.(?P<name>.+?)\.(?P<what>string_to_param\.\*|[^.]+)")
_ONLY = "emb_params"
"""What ComfyUI and A1111 call the tensor of an embedding of one text encoder."""


def read_key(key: str) -> tuple[str, str] | None:
    """(name of the embedding, which tensor of it), None for another key."""
    match = _KEY.fullmatch(key)
    return None if match is None else (match["name"], match["what"])


def key_of(name: str, what: str) -> str:
    """The key of the tensor `what` of an embedding; `read_key` takes it apart."""
    return f"bundle_emb.{name}.{what}"


def describe(name: str, tensors: Mapping[str, Tensor]) -> str:
    """`anna (2 vectors)`."""
    count = max((len(tensor) for tensor in tensors.values() if tensor.ndim), default=0)
    return f"{name} ({count} vector{'' if count == 1 else 's'})"


def save_embeddings(embeddings: Mapping[str, Mapping[str, Tensor]], folder: Path) -> dict[str, Path]:
    """Write each embedding as a file of its own into `folder`, as ComfyUI and A1111 read it; where it lies, by name.

    A file that already holds the same, numbered or not, is left as it is; one of that name that holds something else too: a number is
    added. A name that is no file name, or no word of a prompt, loses what makes it none. Raises FaceExprError when the folder cannot be
    written.
    """
    from safetensors.torch import save

    saved = {}
    for name, tensors in embeddings.items():
        content = save({_ONLY if what.startswith("string_to_param") else what: one.contiguous() for what, one in tensors.items()})
        path = folder / f"{_file_name(name)}.safetensors"
        try:
            saved[name] = write_once(path, content)
        except OSError as reason:
            raise FaceExprError(
                f"The embedding {name} could not be saved in {folder} ({reason.strerror or reason}). Free some space, or change its rights."
            ) from reason
    return saved


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name.strip()).strip(".") or "embedding"
