"""ComfyUI's progress bar and the user's cancel button."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.model_management
import comfy.utils

if TYPE_CHECKING:
    from PIL import Image


Interrupted = comfy.model_management.InterruptProcessingException
"""Raised by `Progress.update` when the user pressed cancel."""

PREVIEW_SIDE = 512


def stop_if_cancelled() -> None:
    """Raise `Interrupted` when the user pressed cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


class Progress:
    """ComfyUI's progress bar of the running node, with preview pictures and the user's cancel button."""

    def __init__(self, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total)
        self._total = total

    def update(self, value: int, preview: Image.Image | None = None) -> None:
        """Show `value` of the total and, if given, a picture. Raises `Interrupted` when the user pressed cancel."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(value, self._total, None if preview is None else ("JPEG", preview, PREVIEW_SIDE))
