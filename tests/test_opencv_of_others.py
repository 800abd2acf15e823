"""OpenCV as other packages leave it: too old, half overwritten, unable to open a path; each told in one message."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from comfy_process import REPOSITORY
from skimage import data

from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces import native
from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.faces.images import SourceImage
from faceexpr_core.measure.identity import IdentityMeter
from faceexpr_core.photos.settings import SubjectSettings
from faceexpr_core.photos.subject_process import prepare_apart

CURE = "uninstall -y opencv-contrib-python opencv-contrib-python-headless opencv-python opencv-python-headless"


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A copy of the module `cv2` that may be spoilt."""
    module = ModuleType("cv2")
    module.__dict__.update(vars(cv2))
    monkeypatch.setitem(sys.modules, "cv2", module)
    yield module


@pytest.mark.parametrize("name", native.NEEDED_OF_OPENCV)
def test_an_opencv_without_what_is_needed_is_told(another: ModuleType, name: str) -> None:
    delattr(another, name)
    with pytest.raises(FaceExprError) as caught:
        FaceDetector()
    told = str(caught.value)
    assert f"The OpenCV that Python loads ({cv2.__version__}, from {cv2.__file__}) lacks {name}." in told
    assert "Installed is opencv-contrib-python 5" in told and CURE in told and "then start ComfyUI again" in told
    assert "Close ComfyUI, then type: " in told  # Windows replaces no file that it has open


@pytest.mark.parametrize(("version", "fits"), [("4.7.0", False), ("4.5.5.64", False), ("3.4", False), ("4.8.1", True), ("5.0.0-dev", True)])
def test_an_opencv_before_4_8_is_told(another: ModuleType, version: str, fits: bool) -> None:
    another.__version__ = version  # type: ignore[attr-defined]
    if fits:
        assert native.opencv() is another
        return
    with pytest.raises(FaceExprError, match=rf"\({version}, from .*\) is older than 4\.8\."):
        native.opencv()


def test_an_empty_folder_left_of_opencv_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("cv2")
    module.__path__ = ["somewhere/cv2"]
    monkeypatch.setitem(sys.modules, "cv2", module)
    with pytest.raises(
        FaceExprError, match=r"loads \(without a version, from somewhere/cv2\) lacks FaceDetectorYN, FaceRecognizerSF, resize"
    ):
        native.opencv()


def test_two_opencvs_are_named(another: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    del another.FaceDetectorYN
    monkeypatch.setattr(native, "installed_opencv", lambda: ["opencv-python 4.6.0.66", "opencv-contrib-python 5.0.0.93"])
    with pytest.raises(
        FaceExprError, match=r"Installed are opencv-python 4\.6\.0\.66 and opencv-contrib-python 5.*, which overwrite each other"
    ):
        native.opencv()


@pytest.mark.parametrize(
    "line",
    [
        "raise AttributeError(\"partially initialized module 'cv2' has no attribute 'gapi_wip_gst_GStreamerPipeline'\")",
        "raise ImportError('numpy.core.multiarray failed to import')",
        "raise ImportError('ERROR: recursion is detected during loading of \"cv2\" binary extensions. Check OpenCV installation.')",
        "import cv2.typing_that_is_gone",
        "raise RecursionError",
    ],
)
def test_what_a_mixture_raises_while_it_loads_is_one_message(tmp_path: Path, line: str) -> None:
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text(line + "\n")
    script = (
        f"import sys; sys.path[:0] = {[str(tmp_path), str(REPOSITORY)]!r}\n"
        "from faceexpr_core.errors import FaceExprError\nfrom faceexpr_core.faces import native\n"
        "try: native.opencv()\nexcept FaceExprError as error: print(error)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("OpenCV cannot load (") and CURE in ended.stdout


def cannot_load(monkeypatch: pytest.MonkeyPatch, platform: str, name: str, error: Exception) -> None:
    """The module `name` raises `error` on import, on a system that Python calls `platform`."""
    plain = native.import_module

    def load(module: str) -> ModuleType:
        if module == name:
            raise error
        return plain(module)

    monkeypatch.setattr(native, "import_module", load)
    monkeypatch.setattr(native, "PLATFORM", platform, raising=False)


NO_DLL = "DLL load failed while importing cv2: The specified module could not be found."
NO_DYLIB = "dlopen(/lib/cv2/cv2.abi3.so, 0x0002): Library not loaded: @rpath/libjpeg.dylib"
NO_SO = "libGL.so.1: cannot open shared object file: No such file or directory"
VISION = "mediapipe.tasks.python.vision"


@pytest.mark.parametrize("name", ["cv2", VISION])
def test_on_windows_what_is_missing_of_the_system_is_visual_c(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    cannot_load(monkeypatch, "win32", name, ImportError(NO_DLL))
    with pytest.raises(FaceExprError) as caught:
        native.mediapipe()
    told = str(caught.value)
    assert NO_DLL in told and "Visual C++ Redistributable" in told and "apt-get" not in told
    assert (CURE in told) == (name == "cv2")  # it may be other packs all the same
    if name == "cv2":
        assert told.index("Visual C++") < told.index(CURE)


@pytest.mark.parametrize(("platform", "line"), [("darwin", NO_DYLIB), ("win32", "cannot import name 'x' from 'numpy'")])
@pytest.mark.parametrize("name", ["cv2", VISION])
def test_where_no_library_of_the_system_is_missing_the_package_is_to_be_installed_again(
    monkeypatch: pytest.MonkeyPatch, platform: str, line: str, name: str
) -> None:
    cannot_load(monkeypatch, platform, name, ImportError(line))
    with pytest.raises(FaceExprError) as caught:
        native.mediapipe()
    told = str(caught.value)
    assert line in told and "Visual C++" not in told and "Linux" not in told
    assert "lose ComfyUI, then type: " in told and (CURE if name == "cv2" else "install --force-reinstall --no-deps mediapipe") in told


@pytest.mark.parametrize("name", ["cv2", VISION])
def test_on_linux_the_systems_libraries_are_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    cannot_load(monkeypatch, "linux", name, ImportError(NO_SO))
    with pytest.raises(FaceExprError, match=rf"cannot load: {NO_SO}\. On a slim Linux image .* apt-get install libgl1"):
        native.mediapipe()


@pytest.mark.parametrize(
    ("platform", "error", "named"),
    [
        ("linux", OSError("libEGL.so.1: cannot open shared object file: No such file or directory"), "apt-get install libgl1"),
        (
            "win32",
            FileNotFoundError("Could not find module 'libmediapipe.dll' (or one of its dependencies)."),
            "Visual C++ Redistributable",
        ),
    ],
)
def test_the_library_that_mediapipe_opens_late_is_told_as_well(
    monkeypatch: pytest.MonkeyPatch, platform: str, error: OSError, named: str
) -> None:
    """MediaPipe opens it with its first network, not while it is imported."""
    from mediapipe.tasks.python.core import mediapipe_c_bindings

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(mediapipe_c_bindings, "_shared_lib", None)
    monkeypatch.setattr("ctypes.CDLL", refuse)
    monkeypatch.setattr(native, "PLATFORM", platform, raising=False)
    with pytest.raises(FaceExprError) as caught:
        FaceDetector()
    assert (
        "mediapipe is installed but cannot load: " in str(caught.value) and str(error) in str(caught.value) and named in str(caught.value)
    )


OLDER = """
import sys
from importlib.machinery import PathFinder

class Older:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "cv2":
            return None
        sys.meta_path.remove(cls)
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def without_faces(module):
            load(module)
            del module.FaceDetectorYN, module.FaceRecognizerSF

        spec.loader.exec_module = without_faces
        return spec

sys.meta_path.insert(0, Older)
"""


def test_the_process_that_prepares_the_photos_tells_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It once ended with a traceback, and the command with the guess that memory was short."""
    (tmp_path / "sitecustomize.py").write_text(OLDER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    photo = SourceImage("a.png", np.asarray(data.astronaut())[:256, 96:352])
    with pytest.raises(FaceExprError, match=r"The OpenCV that Python loads \(.*\) lacks FaceDetectorYN, FaceRecognizerSF\."):
        prepare_apart([photo], SubjectSettings(resolution=64))


class OfWindows:
    """OpenCV's networks as an older OpenCV on Windows has them: from a path alone, of plain letters."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory

    def create(self, *given: Any) -> Any:
        if given[0] == "onnx":
            raise TypeError("create() takes at most 8 arguments")
        if not given[0].isascii():
            raise cv2.error(f"Can't read ONNX file: {given[0]}")
        return self.factory.create(*given)


@pytest.fixture
def foreign_folder(tmp_path: Path, model_folder: Path) -> Path:
    folder = tmp_path / "Модели 模型 é"
    folder.mkdir()
    for file in model_folder.glob("face*"):
        (folder / file.name).symlink_to(file)
    return folder


@pytest.mark.parametrize("windows", [False, True])
def test_model_files_under_any_path_are_read(
    foreign_folder: Path, monkeypatch: pytest.MonkeyPatch, another: ModuleType, windows: bool
) -> None:
    if windows:
        for name in ("FaceDetectorYN", "FaceRecognizerSF"):
            setattr(another, name, OfWindows(getattr(cv2, name)))
    else:  # as a new OpenCV on Windows: no path with such letters may reach it

        def refuse(*given: Any) -> None:
            raise AssertionError(given)

        for name in ("FaceDetectorYN", "FaceRecognizerSF"):
            one = getattr(cv2, name)
            by_bytes = SimpleNamespace(create=lambda *given, one=one: one.create(*given) if given[0] == "onnx" else refuse(*given))
            setattr(another, name, by_bytes)
    monkeypatch.delenv("FACEEXPR_MODELS")
    picture = np.asarray(data.astronaut())[:256, 96:352]
    with IdentityMeter([foreign_folder]) as meter:
        vector = meter.embed(picture)
    assert vector is not None and np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)


def test_a_folder_for_copies_that_cannot_be_opened_either_is_told(
    foreign_folder: Path, another: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FACEEXPR_MODELS")
    monkeypatch.setattr(native.tempfile, "tempdir", str(foreign_folder))
    another.FaceDetectorYN = OfWindows(cv2.FaceDetectorYN)  # type: ignore[attr-defined]
    with pytest.raises(FaceExprError, match=r"cannot open .*Модели.* set FACEEXPR_MODELS to that folder"):
        FaceDetector([foreign_folder])
