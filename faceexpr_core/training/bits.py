"""Whether bitsandbytes, which keeps numbers in 8 and 4 bits, can be used here."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NOT_INSTALLED = "is not installed"
NOT_TRIED = "was not tried on cards of this kind"
_STANDS_IN = "ErrorHandlerMockBNBNativeLibrary"
"""What bitsandbytes from 0.45.2 on puts in the place of a CUDA library that does not load: importing works, the first call raises."""


def unusable(device: torch.device | None = None) -> str | None:
    """Why bitsandbytes cannot be used on `device`, to follow its name in a sentence; None where it can.

    Without a device the card of this machine is meant; where it has none, as on a Mac, a card elsewhere, for which being installed is
    enough.
    """
    import torch

    if importlib.util.find_spec("bitsandbytes") is None:
        return NOT_INSTALLED
    if device is not None and device.type == "mps":
        return NOT_TRIED
    if device is None and not torch.cuda.is_available():
        return NOT_TRIED if torch.xpu.is_available() else None
    try:
        import bitsandbytes

        library: Any = bitsandbytes.cextension.lib
    except Exception as reason:  # whatever a library for another CUDA raises
        return _broken(str(reason))
    if (device is None or device.type == "cuda") and (library is None or type(library).__name__ == _STANDS_IN):
        return _broken(getattr(library, "error_msg", "its CUDA library did not load"))
    return None


def _broken(reason: str) -> str:
    return f"is installed, but cannot be used ({' '.join(reason.split())}; 'python -m bitsandbytes' says more)"
