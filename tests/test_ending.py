"""How a command ends where a file cannot be written: which file, why, and what to do, in one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from faceexpr_core.commands.ending import status_of
from faceexpr_core.files import replace_file


def told(capsys: pytest.CaptureFixture[str], error: OSError, windows: bool = False) -> str:
    """The one line after an error."""

    def fails() -> None:
        raise error

    assert status_of(fails, windows) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_table_that_is_open_elsewhere_is_named_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It once named the part beside it, which is gone, and told to make room."""
    table = tmp_path / "results.csv"

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Access is denied", str(source), None, str(target))

    monkeypatch.setattr(os, "replace", refuse)
    assert status_of(lambda: replace_file(table, b"a,b")) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"faceexpr: {table}: Access is denied.") and ".part" not in line and "room" not in line
    assert "open in another program" in line and line.endswith("then the same command again.\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ENOTDIR])
def test_a_full_disk_and_a_wrong_place_are_told_as_such(capsys: pytest.CaptureFixture[str], number: int) -> None:
    line = told(capsys, OSError(number, os.strerror(number), "a.csv"))
    assert line == f"faceexpr: a.csv: {os.strerror(number)}. Make room or give another place, then the same command again."


def test_a_long_name_is_told_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / f"{'a' * 300}.csv"
    assert status_of(lambda: replace_file(table, b"a,b")) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"faceexpr: {table}: File name too long.") and "shorter" in line and "room" not in line


@pytest.mark.parametrize("length", [251, 260, 300])
def test_a_path_that_windows_does_not_take_is_told_as_too_long(capsys: pytest.CaptureFixture[str], length: int) -> None:
    """What is written beside a short name has fifteen letters, which may be too many where the name itself is not."""
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", f"/{'a' * (length - 7)}/a.csv")
    line = told(capsys, error, windows=True)
    assert line.startswith(f"faceexpr: {error.filename}: the path is too long for Windows") and "shorter" in line
    with pytest.raises(FileNotFoundError):
        told(capsys, error)


@pytest.mark.parametrize("names", [(f"/{'a' * 242}/a.csv",), ("/",), (), (3,)])
def test_what_is_missing_for_another_reason_is_ours_to_mend(capsys: pytest.CaptureFixture[str], names: tuple[str | int, ...]) -> None:
    with pytest.raises(FileNotFoundError):
        told(capsys, FileNotFoundError(errno.ENOENT, "No such file or directory", *names), windows=True)


def test_a_folder_that_windows_does_not_take_is_told_as_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    """A folder may have less than a file: Windows says so itself."""
    error = FileNotFoundError(errno.ENOENT, "The filename or extension is too long", "a" * 250)
    error.winerror = 206  # type: ignore[attr-defined,unused-ignore]
    assert "too long for Windows" in told(capsys, error)
