"""What the tests share: a real ComfyUI process, and ComfyUI's own modules in this process."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from comfy_process import REPOSITORY, ComfyProcess, comfyui, comfyui_path, make_home, models_path
from prepared import prepare_here

from faceexpr_core.photos import subject_process

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


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The folder with MediaPipe's, YuNet's and SFace's files."""
    return models_path()


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
    sys.path.insert(0, str(comfyui_path()))
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


def _import_package(name: str, folder: Path) -> ModuleType:
    """The package in `folder` under `name`, without its parent on `sys.path`: this repository's `nodes` would hide ComfyUI's."""
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
    return package


_import_package("lab", REPOSITORY / "lab")
