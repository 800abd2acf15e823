"""What the tests share: a real ComfyUI process, and ComfyUI's own modules in this process."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from comfy_process import REPOSITORY, ComfyProcess, comfyui, let_import_comfyui, make_home, models_path
from numpy.typing import NDArray
from prepared import prepare_here

from faceexpr_core import mini
from faceexpr_core.photos import subject_process

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline
    from playwright.sync_api import Page

    from faceexpr_core.faces.detector import FaceDetector
    from faceexpr_core.measure.identity import IdentityMeter

LONGEST = (Path(__file__).parent / "longest.txt").read_text().split()
"""The files of tests that take more than some ten seconds, about the longest first: `pytest --durations=0` tells."""
TEST_NODES = Path(__file__).parent / "comfy_nodes" / "faceexpr_test_nodes.py"
os.environ.setdefault("FACEEXPR_MODELS", str(models_path()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: when they come last, one of several processes is left alone with them for minutes."""
    if gone := [name for name in LONGEST if not (Path(__file__).parent / name).is_file()]:
        raise pytest.UsageError(f"tests/longest.txt names files that are not there: {' '.join(gone)}")
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture
def prepared_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`faceexpr train` prepares its photos in this process; test_train_memory.py has whole commands with the process of its own."""
    monkeypatch.setattr(subject_process, "prepare_apart", prepare_here)


@pytest.fixture
def usual_signals() -> Iterator[None]:
    """As a terminal starts a program: `nohup` and a shell's & have some signals ignored, and what is started inherits that."""
    usual: dict[str, Any] = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}
    numbers = {getattr(signal, name): handler for name, handler in usual.items() if hasattr(signal, name)}
    before = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with one photo of Mini's person."""
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(mini.subject_path() / "photo_1.png", folder)
    return folder


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The folder with MediaPipe's, YuNet's and SFace's files."""
    return models_path()


@pytest.fixture(scope="session")
def detector(model_folder: Path) -> Iterator[FaceDetector]:
    from faceexpr_core.faces.detector import FaceDetector

    with FaceDetector([model_folder]) as one:
        yield one


@pytest.fixture(scope="session")
def meter(model_folder: Path, detector: FaceDetector) -> IdentityMeter:
    from faceexpr_core.measure.identity import IdentityMeter

    return IdentityMeter([model_folder], detector)


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A photograph of 512 x 512 with one smiling face of about 105 pixels (NASA, public domain)."""
    from skimage.data import astronaut

    picture: NDArray[np.uint8] = astronaut()
    picture.flags.writeable = False
    return picture


@pytest.fixture(scope="session")
def pipe() -> StableDiffusionXLPipeline:
    """Mini in diffusers, one for all tests: they change nothing about it."""
    from faceexpr_core.diffusers_host.pipeline import load_pipeline

    return load_pipeline("mini")


@pytest.fixture(scope="session")
def lora_pipe() -> StableDiffusionXLPipeline:
    """Mini in diffusers for tests that load LoRAs, and unload them."""
    from faceexpr_core.diffusers_host.pipeline import load_pipeline

    return load_pipeline("mini")


@pytest.fixture(scope="session")
def loaded_pipes() -> dict[tuple[object, ...], StableDiffusionXLPipeline]:
    return {}


@pytest.fixture
def loaded_once(loaded_pipes: dict[tuple[object, ...], StableDiffusionXLPipeline], monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that draw load a model once for all tests; the LoRAs of one command are gone before the next."""
    from faceexpr_core.commands import change, extract, generate

    load = generate.open_pipeline

    def opened(arguments: Namespace) -> StableDiffusionXLPipeline:
        asked = tuple(getattr(arguments, name) for name in ("model", "device", "dtype", "prediction_type"))
        if asked not in loaded_pipes:
            loaded_pipes[asked] = load(arguments)
        loaded_pipes[asked].unload_lora_weights()
        return loaded_pipes[asked]

    for command in (change, extract, generate):
        monkeypatch.setattr(command, "open_pipeline", opened)


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyProcess]:
    """A running ComfyUI on CPU with this pack and `comfy_nodes`; its folders are temporary. One for the whole session."""
    home = make_home(tmp_path_factory.mktemp("comfyui"))
    (home / "custom_nodes" / TEST_NODES.name).symlink_to(TEST_NODES)
    with comfyui(home) as running:
        yield running


@pytest.fixture(scope="session")
def comfy_modules(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """ComfyUI's modules in this process, on CPU and with temporary folders: `.comfy`, `.folder_paths`, `.nodes`, `.pack`, `.core`, `.home`.

    `.pack` is this repository imported as ComfyUI does, as the package `faceexpr_pack`; `.core` is its `faceexpr_core`, which is another
    copy than the installed `faceexpr_core`: take classes that nodes raise or return (`core.errors.FaceExprError`) from there.
    """
    home = make_home(tmp_path_factory.mktemp("comfy_modules"))
    let_import_comfyui()
    options = importlib.import_module("comfy.cli_args").args
    options.cpu = True
    options.base_directory = str(home)
    folder_paths = importlib.import_module("folder_paths")
    importlib.import_module("comfy.utils")
    importlib.import_module("comfy.sd")
    nodes = importlib.import_module("nodes")
    pack = _import_package("faceexpr_pack", REPOSITORY)
    core = importlib.import_module("faceexpr_pack.faceexpr_core")
    importlib.import_module("faceexpr_pack.faceexpr_core.errors")
    return SimpleNamespace(comfy=sys.modules["comfy"], folder_paths=folder_paths, nodes=nodes, pack=pack, core=core, home=home)


@pytest.fixture(scope="module")
def opened(comfy: ComfyProcess) -> Iterator[tuple[Page, list[str]]]:
    """ComfyUI's page, and the errors that it did not catch: at the end of a file there is none."""
    from browser import comfyui_page

    with comfyui_page(comfy) as (page, errors):
        yield page, errors
        assert errors == []


def _import_package(name: str, folder: Path) -> ModuleType:
    """The package in `folder` under `name`, without its parent on `sys.path`: this repository's `nodes` would hide ComfyUI's."""
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
    return package


_import_package("lab", REPOSITORY / "lab")
