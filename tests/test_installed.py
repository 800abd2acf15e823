"""What users get: a clone, the registry's archive and the wheel hold what is needed, nothing of the lab, and draw the same in ComfyUI."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from comfy_process import REPOSITORY, Graph, comfyui
from pathspec import GitIgnoreSpec

NOT_INSTALLED = ("lab", "tests", "scripts", "benchmarks", ".ci")


def repository_files() -> list[str]:
    """The files that a clone of this work tree would hold."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return sorted(name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file())


def archive_files() -> list[str]:
    """Those of them that the registry packs: `.comfyignore` is read as a .gitignore."""
    ignored = GitIgnoreSpec.from_lines((REPOSITORY / ".comfyignore").read_text().splitlines())
    return [name for name in repository_files() if not ignored.match_file(name)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that no build folder is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    copy(repository_files(), folder / "source")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*build, str(folder / "source")], check=True)
    return next(folder.glob("*.whl"))


def copy(files: list[str], target: Path) -> Path:
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, target / name)
    return target


def smoke() -> Graph:
    """Mini, an expression in words, one fused picture."""
    words = {"prompt": "a photo of a woman", "expression": "happy", "intensity": 1.0, "action_units": ""}
    words |= {"second_expression": "none", "second_weight": 0.5}
    how = {"seed": 1, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    wires = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    wires |= {"base_model": ["1", 0], "neutral": ["2", 1]}
    return {
        "1": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "2": {"class_type": "FaceExprExpressionTextEncode", "inputs": {"clip": ["1", 1], **words}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": {"class_type": "FaceExprSampler", "inputs": {**wires, **how}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "smoke"}},
    }


def test_neither_archive_nor_wheel_holds_anything_of_the_lab_or_the_tests(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in archive_files()}
    assert tops.isdisjoint(NOT_INSTALLED)
    assert {"__init__.py", "nodes", "faceexpr_core", "web", "workflows", "locales", "pyproject.toml", "requirements.txt", "LICENSE"} <= tops
    with zipfile.ZipFile(wheel) as held:
        names = [name for name in held.namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"faceexpr_core"}
    missing = {name for name in archive_files() if name.startswith("faceexpr_core/")} - set(names)
    assert not missing


@pytest.mark.long
def test_clone_archive_and_wheel_draw_the_same_picture_in_comfyui(wheel: Path, tmp_path: Path) -> None:
    clone, archive = copy(repository_files(), tmp_path / "clone"), copy(archive_files(), tmp_path / "archive")
    from_wheel = copy([name for name in archive_files() if not name.startswith("faceexpr_core/")], tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as held:
        held.extractall(from_wheel)
    drawn = []
    for pack in (clone, archive, from_wheel):
        with comfyui(tmp_path / f"home_{pack.name}", pack=pack) as running:
            picture = running.run(smoke())["7"]["images"][0]
            drawn.append(running.view(picture))
            assert "IMPORT FAILED" not in running.log()
    assert drawn[0] == drawn[1] == drawn[2]
