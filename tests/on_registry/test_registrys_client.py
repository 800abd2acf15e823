"""The ComfyUI registry's own client, comfy-cli: what it says of this pack, and what it would upload. Run by `make registry`.

The client stands in an environment of its own (build/comfy-cli); nothing is sent: every proxy leads nowhere.
"""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from comfy_process import REPOSITORY

CLIENT = REPOSITORY / "build" / "comfy-cli" / "bin" / "comfy"
NOWHERE = {name: "http://127.0.0.1:9" for one in ("http_proxy", "https_proxy", "all_proxy") for name in (one, one.upper())}
USED = ("__init__.py", "nodes/", "faceexpr_core/", "web/", "locales/", "workflows/", "subgraphs/", "requirements.txt", "LICENSE")
NOT_USED = ("tests/", "lab/", "scripts/", "page/", ".github/", "docs/images/", "Makefile")
MOST_BYTES = 40_000_000


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is committed, since the client packs that."""
    folder = tmp_path_factory.mktemp("clone") / "faceexpr"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY.as_uri(), str(folder)], check=True)
    return folder


def comfy(folder: Path, *words: str) -> str:
    environment = {**os.environ, **NOWHERE, "HOME": str(folder.parent), "PATH": f"{CLIENT.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [str(CLIENT), "--skip-prompt", "--no-enable-telemetry", "node", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_client_finds_nothing_to_say(clone: Path) -> None:
    said = comfy(clone, "validate")
    assert "All validation checks passed successfully" in said
    assert "warning" not in said.lower() and "error" not in said.lower()


def test_what_eval_would_be_said(clone: Path) -> None:
    added = clone / "nodes" / "added.py"
    added.write_text("print(eval('1'))\n")
    try:
        assert "S307" in comfy(clone, "validate")
    finally:
        added.unlink()


def test_the_archive_holds_what_users_need_and_nothing_else(clone: Path) -> None:
    comfy(clone, "pack")
    with zipfile.ZipFile(clone / "node.zip") as archive:
        names = archive.namelist()
    assert [start for start in USED if not any(name.startswith(start) for name in names)] == []
    assert [name for name in names if name.startswith(NOT_USED)] == []
    assert any(name.endswith("unet/diffusion_pytorch_model.safetensors") for name in names)
    assert (clone / "node.zip").stat().st_size < MOST_BYTES
