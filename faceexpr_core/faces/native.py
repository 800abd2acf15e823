"""OpenCV and MediaPipe, imported late, with errors a user can act on and without their log lines."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from ..errors import FaceExprError

_LOG_LINE = re.compile(
    rb"^([IW]\d{4} [\d:.]+ +\d+ \S+:\d+\]"  # absl
    rb"|WARNING: (Logging before InitGoogle|All log messages before)"
    rb"|INFO: Created TensorFlow Lite"
    rb"|\[ *(WARN|INFO):\d+@)"  # OpenCV
)
_stderr_lock = threading.Lock()


def opencv() -> ModuleType:
    """The module `cv2`. Raises FaceExprError where it cannot load."""
    return _load("cv2", "opencv-python")


def mediapipe() -> ModuleType:
    """The module `mediapipe` with its vision tasks. Raises FaceExprError where it, or the OpenCV it needs, cannot load."""
    opencv()
    _load("mediapipe.tasks.python.vision", "mediapipe")
    return _load("mediapipe", "mediapipe")


@contextmanager
def without_log_lines() -> Iterator[None]:
    """Keep native libraries' information and warning lines off the console; whatever else was written to stderr is passed on."""
    with _stderr_lock, tempfile.TemporaryFile() as caught:
        try:
            sys.stderr.flush()
            console = os.dup(2)
        except (OSError, AttributeError):  # no console at all
            yield
            return
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(console, 2)
            caught.seek(0)
            for line in caught:
                if not _LOG_LINE.match(line):
                    os.write(console, line)
            os.close(console)


def _load(module: str, package: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not module.startswith(str(error.name)):
            raise
        raise FaceExprError(f"Finding faces needs the Python package {package}. Install it with: pip install {package}") from error
    except (ImportError, OSError) as error:
        raise FaceExprError(
            f"{package} is installed but cannot load: {error}. On a slim Linux image it lacks system libraries: install them, for "
            f"example with: apt-get install libgl1 libglib2.0-0 libegl1 libgles2"
        ) from error
