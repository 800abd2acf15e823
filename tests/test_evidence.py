"""`make evidence`: pieces that are run once, stopped in good order, and gone on with."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.benchmarks import arms, evidence
from lab.benchmarks.pieces import PIECES, Piece

QUICK = Piece("quick", "a line", "platform", ("--terse",), 0.1)
ENDLESS = Piece("endless", "runs until it is ended", "http.server", ("0", "--bind", "127.0.0.1", "--directory", "{work}"), 1.0)
FAILS = Piece("fails", "no such module", "lab.no_such_piece", (), 0.1)


def progress_of(work: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((work / evidence.PROGRESS).read_text())
    return found


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> tuple[Piece, ...]:
    chosen = (QUICK, ENDLESS)
    monkeypatch.setattr(evidence, "PIECES", chosen)
    return chosen


def test_a_piece_that_is_done_is_not_run_again_until_its_command_changes(
    tmp_path: Path, pieces: tuple[Piece, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--work_dir", str(tmp_path), "--only", "quick"]
    assert evidence.main(words) == 0
    table = tmp_path / "evidence" / "quick.md"
    assert table.read_text().strip() == platform.platform(terse=True)
    table.write_text("as it was")
    assert evidence.main(words) == 0
    assert table.read_text() == "as it was"
    monkeypatch.setattr(evidence, "PIECES", (Piece("quick", "a line", "platform", (), 0.1),))
    assert evidence.main(words) == 0
    assert table.read_text().strip() == platform.platform()


@pytest.fixture
def in_the_background() -> Iterator[None]:
    """Without Ctrl-C, as shells start what ends with &."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_hours_end_a_piece_in_good_order_and_are_added_up(
    tmp_path: Path, pieces: tuple[Piece, ...], monkeypatch: pytest.MonkeyPatch, in_the_background: None
) -> None:
    monkeypatch.delattr(subprocess.Popen, "kill")  # which would be no good order
    assert evidence.main(["--work_dir", str(tmp_path), "--only", "quick"]) == 0
    progress = evidence.Progress(tmp_path)
    for hours in (0.5, 0.25):
        progress.add(ENDLESS, hours, done=False)
    assert progress_of(tmp_path)["endless"]["hours"] == 0.75
    assert evidence.main(["--work_dir", str(tmp_path), "--hours", "0.0005"]) == 3
    known = progress_of(tmp_path)
    assert known["quick"]["done"] and known["endless"]["done"] is None
    assert 0.75 <= float(str(known["endless"]["hours"])) < 1
    assert (tmp_path / "evidence" / "endless.txt").exists() and not (tmp_path / "evidence" / "endless.md").exists()


def test_a_piece_that_fails_is_told_and_left_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "PIECES", (FAILS,))
    with pytest.raises(SystemExit, match="fails ended with 1"):
        evidence.main(["--work_dir", str(tmp_path)])
    assert progress_of(tmp_path)["fails"]["done"] is None


@pytest.mark.parametrize("piece", [one for one in PIECES if one.module == "lab.benchmarks.fusion_sites"], ids=lambda piece: piece.name)
def test_the_arms_of_every_piece_can_be_read_and_differ(piece: Piece) -> None:
    words = piece.arguments[piece.arguments.index("--arms") + 1 :]
    read = arms.parse_arms(words, "neutral" if "--target_text" in piece.arguments else "expression")
    assert len({repr(replace(one, name="")) for one in read}) == len(read) > len(words)


class Parsed(Exception):
    pass


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.name)
def test_every_piece_is_a_command_that_there_is(piece: Piece, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = piece.command(tmp_path)

    def parse(self: argparse.ArgumentParser, args: list[str] | None = None, namespace: object = None) -> None:
        _, left = self.parse_known_args(sys.argv[1:] if args is None else args)
        assert not left
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(sys, "argv", command[1:])
    with pytest.raises(Parsed):
        importlib.import_module(piece.module).main()
