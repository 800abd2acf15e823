"""Models by their names in the Hub's cache on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import FaceExprError


def local_model(name: str, revision: str | None, cache: str | None) -> str:
    """`name` as it is for mini, a file or a folder; for a name of the Hub (owner/name) its folder in the local cache. Downloads nothing.

    Raises FaceExprError where there is neither, and for a `revision` of what is no name of the Hub.
    """
    if not is_looked_up(name):
        if revision is not None:
            raise FaceExprError(f"--revision belongs to a name in the Hub's cache, and {name} is here; leave it out.")
        return name
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise FaceExprError(f"There is no model {name}. Give a folder or a .safetensors file.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return str(snapshot_download(name, revision=revision, cache_dir=cache, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError) as reason:
        raise FaceExprError(
            f"{name} is neither a folder here nor in the Hub's cache, and training downloads nothing. Fetch it first (hf download {name}), "
            "or give the folder or .safetensors file."
        ) from reason


def is_looked_up(name: str) -> bool:
    """Whether the name of a model stands for none that is here."""
    return name not in ("", "mini") and not Path(name).exists()
