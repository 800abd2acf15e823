"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from faceexpr_core.files import replace_file, try_name, write_new

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
