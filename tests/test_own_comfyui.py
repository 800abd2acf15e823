"""With COMFYUI_PATH the user's own ComfyUI is used as it is: nothing is written into its folder."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import comfyui_page
import pytest
from comfy_process import REPOSITORY, comfyui, comfyui_path

STARTS = """
import json, pathlib, sys
import part
pathlib.Path("ran.json").write_text(json.dumps(sys.argv[1:]))
"""
"""A ComfyUI of two files: what is asked is what Python, and not ComfyUI, leaves beside a module that it imports."""

THE_USERS = (".git", "__pycache__", "custom_nodes", "input", "models", "output", "temp", "user")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "ComfyUI"
    folder.mkdir()
    (folder / "main.py").write_text(STARTS)
    (folder / "part.py").write_text("whole = True\n")
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    return folder


def listing(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_the_page_is_started_without_a_trace_in_it(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, before = tmp_path / "home", listing(own)
    monkeypatch.setattr(comfyui_page, "PRIVATE_HOME", home)
    monkeypatch.setattr(sys, "argv", ["comfyui_page.py", "--port", "9000"])
    comfyui_page.main()
    assert "9000" in (home / "ran.json").read_text()  # it was this one that ran
    assert listing(own) == before


def test_a_process_that_imports_it_leaves_no_trace_either(own: Path) -> None:
    before = listing(own)
    code = "import comfy_process; comfy_process.let_import_comfyui(); import part; assert part.whole"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY / "scripts", check=True)
    assert listing(own) == before


def test_these_tests_themselves_import_it_so(comfy_modules: SimpleNamespace) -> None:
    assert importlib.import_module("folder_paths").__file__ == str(comfyui_path() / "folder_paths.py")
    assert sys.dont_write_bytecode


@pytest.mark.long
def test_a_whole_comfyui_is_untouched_after_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, own = comfyui_path(), tmp_path / "ComfyUI"
    own.mkdir()
    for path in (path for path in whole.iterdir() if path.name not in THE_USERS):
        if path.is_dir():
            shutil.copytree(path, own / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, own)
    before = listing(own)
    monkeypatch.setenv("COMFYUI_PATH", str(own))
    with comfyui(tmp_path / "home") as running:
        assert "FaceExprSampler" in running.object_info()
    assert listing(own) == before
