"""OpenCV and MediaPipe, imported late, with errors a user can act on and without their log lines."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import FaceExprError
from ..requirements import CLOSED, OLDEST_OPENCV, OPENCVS, numbers
from ..typed import installing, typed

_LOG_LINE = re.compile(
    rb"^([IW]\d{4} [\d:.]+ +\d+ \S+:\d+\]"  # absl
    rb"|WARNING: (Logging before InitGoogle|All log messages before)"
    rb"|INFO: Created TensorFlow Lite"
    rb"|\[ *(WARN|INFO):\d+@)"  # OpenCV
)
_stderr_lock = threading.Lock()

PLATFORM: str = sys.platform

NEEDED_OF_OPENCV = ("FaceDetectorYN", "FaceRecognizerSF", "resize", "warpAffine", "GaussianBlur", "convexHull", "fillConvexPoly")


def opencv() -> ModuleType:
    """The module `cv2`. Raises FaceExprError where it cannot load, is older than OLDEST_OPENCV, or lacks what is needed, saying which
    OpenCV it is, where it lies and what to install."""
    with _told_of_opencv():
        module = _load("cv2", OPENCVS[0])
    if module in _fit:
        return module
    version = str(getattr(module, "__version__", ""))
    lacks = [
        name for name in NEEDED_OF_OPENCV if not hasattr(getattr(module, name, None), "create" if name.startswith("Face") else "__call__")
    ]
    if lacks or numbers(version) < numbers(OLDEST_OPENCV):
        fault = f"lacks {', '.join(lacks)}" if lacks else f"is older than {OLDEST_OPENCV}"
        raise FaceExprError(f"The OpenCV that Python loads ({version or 'without a version'}, from {_place(module)}) {fault}. {_cure()}")
    _fit.append(module)
    return module


_fit: list[ModuleType] = []


def _place(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), "an unknown place"))


def installed_opencv() -> list[str]:
    """Name and version of each installed package that brings OpenCV."""
    found = []
    for name in OPENCVS:
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return found


def _cure() -> str:
    """What to do about an OpenCV that does not fit."""
    found = installed_opencv()
    state = (
        f"Installed are {' and '.join(found)}, which overwrite each other"
        if len(found) > 1
        else (f"Installed is {found[0]}, perhaps overwritten by another node pack" if found else "It is no package that pip knows")
    )
    remove = typed("-m", "pip", "uninstall", "-y", *OPENCVS)
    return f"{state}. {CLOSED}: {remove}; then: {installing(OPENCVS[0])}; then start ComfyUI again."


@contextmanager
def _told_of_opencv() -> Iterator[None]:
    """Turn what a mixture of two OpenCVs raises while it loads into one message; what `_load` says stays."""
    try:
        yield
    except FaceExprError:
        raise
    except Exception as error:  # AttributeError, RecursionError, SystemError ...: whatever its half-written files run into
        missing, cure = _missing_of_the_system(error), _cure()
        cure = f"{missing} If that does not help: {cure[0].lower()}{cure[1:]}" if missing else cure
        raise FaceExprError(f"OpenCV cannot load ({type(error).__name__}: {error}). {cure}") from error


def mediapipe() -> ModuleType:
    """The module `mediapipe` with its vision tasks. Raises FaceExprError where it, or the OpenCV it needs, cannot load."""
    opencv()
    _load("mediapipe.tasks.python.vision", "mediapipe")
    with suppress(ModuleNotFoundError, AttributeError, TypeError), _told("mediapipe"):  # older ones open theirs while they are imported
        import_module("mediapipe.tasks.python.core.mediapipe_c_bindings").load_raw_library()
    return _load("mediapipe", "mediapipe")


def network(factory: Any, model: Path, *rest: Any) -> Any:
    """OpenCV's `FaceDetectorYN` or `FaceRecognizerSF` of an ONNX file, `rest` being what `factory.create` takes after the file.

    From bytes, since OpenCV cannot open every path that Windows allows; OpenCV before 4.11 cannot always, and is given a path of plain
    letters. Raises FaceExprError where there is none such.
    """
    cv2: Any = opencv()
    with suppress(TypeError, cv2.error):
        return factory.create("onnx", np.frombuffer(model.read_bytes(), np.uint8), np.zeros(0, np.uint8), *rest)
    with tempfile.TemporaryDirectory(prefix="faceexpr_") as folder:
        plain = model if str(model).isascii() else Path(shutil.copy(model, Path(folder) / "model.onnx"))
        if not str(plain).isascii():
            raise FaceExprError(
                f"OpenCV {cv2.__version__} cannot open {model}, whose path has letters beyond a to z. Put the file into a folder without "
                f"them and set FACEEXPR_MODELS to that folder, or bring OpenCV up to date. {_cure()}"
            )
        try:
            return factory.create(str(plain), "", *rest)
        except cv2.error as error:
            raise FaceExprError(f"OpenCV {cv2.__version__} cannot read the model file {model}: {error}") from error


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
        with _told(package):
            return import_module(module)
    except ModuleNotFoundError as error:
        if not module.startswith(str(error.name)):
            raise
        raise FaceExprError(f"Finding faces needs the Python package {package}. Install it with: {installing(package)}") from error


@contextmanager
def _told(package: str) -> Iterator[None]:
    """Turn what keeps a package from loading into one message; a module that is not there stays, as does an OpenCV that is a mixture."""
    try:
        yield
    except ModuleNotFoundError:
        raise
    except (ImportError, OSError) as error:
        missing = _missing_of_the_system(error)
        if package == OPENCVS[0] and not (missing and PLATFORM == "linux"):
            raise  # two OpenCVs in one folder, or one made for another NumPy
        again = f"{CLOSED}: {installing('--force-reinstall', '--no-deps', package)}; then start ComfyUI again."
        raise FaceExprError(f"{package} is installed but cannot load: {error}. {missing or again}") from error


def _missing_of_the_system(error: Exception) -> str:
    """What to install where a package's own library cannot load for want of the system's; empty where it is something else."""
    if PLATFORM == "linux" and isinstance(error, (ImportError, OSError)) and ".so" in str(error):
        return (
            "On a slim Linux image it lacks system libraries: install them, for example with: "
            "apt-get install libgl1 libglib2.0-0 libegl1 libgles2"
        )
    if PLATFORM == "win32" and (isinstance(error, OSError) or "DLL load failed" in str(error)):
        return (
            "Windows may lack Microsoft's Visual C++ Redistributable: install it from https://aka.ms/vs/17/release/vc_redist.x64.exe, "
            "then start ComfyUI again."
        )
    return ""
