"""Files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from faceexpr_core.files import replace_file, try_name, write_new


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
