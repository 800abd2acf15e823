"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceexpr_core import files
from faceexpr_core.files import part_beside, replace_file, try_name, write_new
from faceexpr_core.training.state import StateFolder

JOURNALLED = os.name == "nt"
"""Windows opens no folders: there the rename itself is journalled."""


@pytest.mark.parametrize("name", [f"{'a' * 243}.safetensors", f"{'安' * 83}a.png", f".{'a' * 254}"], ids=["long", "wide", "no ending"])
def test_whatever_name_the_disk_takes_can_be_written(tmp_path: Path, name: str) -> None:
    assert write_new(tmp_path / name, b"first") == tmp_path / name
    replace_file(tmp_path / name, b"second")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(name, b"second")]


def test_a_name_is_tried_with_its_number_and_nothing_is_left(tmp_path: Path) -> None:
    try_name(tmp_path / f"{'a' * 244}.png")
    with pytest.raises(OSError, match="File name too long"):
        try_name(tmp_path / f"{'a' * 245}.png")
    assert not list(tmp_path.iterdir())
    there = tmp_path / "a_00001_.png"
    there.write_bytes(b"mine")
    try_name(tmp_path / "a.png")
    assert there.read_bytes() == b"mine"


@pytest.mark.skipif(JOURNALLED, reason="the system syncs no folders")
@pytest.mark.parametrize("write", [write_new, replace_file])
@pytest.mark.parametrize("links", [True, False], ids=["", "without hard links"])
def test_a_file_that_was_written_is_on_the_disk_with_its_name_and_the_folders_that_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], object], links: bool
) -> None:
    """What lies in each folder when it is brought to the disk, last of all with the file and without what it was written as."""
    plain, synced, path = os.fsync, dict[str, list[str]](), tmp_path / "new" / "folder" / "a.safetensors"

    def sync(handle: int) -> None:
        for folder in (tmp_path, *tmp_path.rglob("*")):
            if folder.is_dir() and os.path.samestat(folder.stat(), os.fstat(handle)):
                synced[folder.name] = sorted(os.listdir(folder))
        plain(handle)

    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fsync", sync)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    write(path, b"weights")
    write(path, b"other weights")
    names = ["a.safetensors", "a_00001_.safetensors"] if write is write_new else ["a.safetensors"]
    assert synced == {tmp_path.name: ["new"], "new": ["folder"], "folder": names}


def held(code: int = 32) -> PermissionError:
    """What Windows says of a file that a virus scanner reads."""
    error = PermissionError(13, "The process cannot access the file")
    error.winerror = code  # type: ignore[attr-defined,unused-ignore]
    return error


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, error: OSError, times: int | None) -> list[Path]:
    """`os.name` raises `error` the first `times` (None: always); what it was asked for."""
    plain, asked = getattr(os, name), list[Path]()

    def refused(first: Any, *rest: Any, **more: Any) -> Any:
        asked.append(Path(first))
        if times is None or len(asked) <= times:
            raise error
        return plain(first, *rest, **more)

    monkeypatch.setattr(os, name, refused)
    return asked


@pytest.mark.parametrize("code", [5, 32, 33])
@pytest.mark.parametrize(
    ("write", "refused"), [(replace_file, "replace"), (write_new, "link"), (write_new, "unlink"), (try_name, "unlink")]
)
def test_a_file_that_a_scanner_holds_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., object], refused: str, code: int
) -> None:
    asked = refuse(monkeypatch, refused, held(code), times=3)
    monkeypatch.setattr(os, "replace" if refused == "link" else "nothing", None, raising=False)  # it may not go round
    write(tmp_path / "a.safetensors", *([] if write is try_name else [b"weights"]))
    assert len(asked) == 4 and len({*asked}) == 1
    assert [file.name for file in tmp_path.iterdir()] == ([] if write is try_name else ["a.safetensors"])


def test_a_file_that_is_saved_is_told_so_though_what_it_was_written_as_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was once told as not saved, and written again elsewhere."""
    monkeypatch.setattr(files, "PATIENCE", 0.1, raising=False)
    asked = refuse(monkeypatch, "unlink", held(), times=None)
    assert write_new(tmp_path / "a.safetensors", b"weights") == tmp_path / "a.safetensors"
    assert (tmp_path / "a.safetensors").read_bytes() == b"weights" and len(asked) > 1


def test_what_keeps_a_file_from_its_place_is_told_and_not_what_keeps_the_rest_from_being_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.1, raising=False)
    refuse(monkeypatch, "unlink", held(), times=None)
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "a.csv", b"table")


def test_what_does_not_pass_is_not_waited_for_and_what_does_not_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.1, raising=False)
    with monkeypatch.context() as patch:
        asked = refuse(patch, "replace", PermissionError(13, "Permission denied"), times=None)
        with pytest.raises(PermissionError):
            replace_file(tmp_path / "a.csv", b"table")
        assert len(asked) == 1
    asked = refuse(monkeypatch, "replace", held(), times=None)
    with pytest.raises(PermissionError):
        replace_file(tmp_path / "a.csv", b"table")
    assert len(asked) > 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["1.png", "results.csv", "anna.safetensors", "step00000008.safetensors", "a" * 255, f"{'安' * 83}a.png"])
def test_what_a_file_is_written_as_has_no_longer_a_name_than_the_file(name: str) -> None:
    """Windows counts the letters of a whole path. Fifteen it may have, so that no two are the same."""
    part = part_beside(Path("out") / name)
    assert part.parent == Path("out") and part.name.startswith(".") and part.suffix == ".part"
    assert len(part.name) == max(len(name), 15) and len(part.name.encode()) <= max(len(name.encode()), 15)
    assert part_beside(Path("out") / name) != part


def test_a_killed_run_leaves_no_half_written_state(tmp_path: Path) -> None:
    part_beside(tmp_path / "step00000008.safetensors").touch()
    other = part_beside(tmp_path / "anna.safetensors")
    other.touch()
    StateFolder(tmp_path).clear()
    assert list(tmp_path.iterdir()) == [other]


def test_a_file_that_cannot_be_opened_is_told_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / f"{'a' * 300}.csv"
    with pytest.raises(OSError, match="File name too long") as caught:
        replace_file(path, b"table")
    assert caught.value.filename == str(path)
