"""A pytest plugin: the project's own tests in ComfyUI run on a machine that seems to have a card (numbers are the CPU's).

    COMFYUI_PATH=... python -m pytest -p lab.pretended.plugin tests/test_sampler.py

ComfyUI's `--cpu`, which the tests' conftest asks for, is taken back, so that models are loaded, patched and moved as on an NVIDIA card.
PRETENDED_GB is the card's memory (24), PRETENDED_LINES how many of the host's waits are told at the end (0).
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.pretended.card import PretendedCard

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CARD = PretendedCard("values", total=int(os.environ.get("PRETENDED_GB", "24")) << 30)


def pytest_configure(config: pytest.Config) -> None:
    CARD.__enter__()
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    importlib.import_module("comfy_process").let_import_comfyui()
    module = importlib.import_module("comfy.cli_args")

    class OnACard(type(module.args)):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, False if name == "cpu" else value)

    module.args.__class__ = OnACard
    module.args.cpu = False
    module.args.disable_pinned_memory = True  # it asks CUDA's library itself


def pytest_unconfigure(config: pytest.Config) -> None:
    CARD.__exit__(None, None, None)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    ledger = CARD.ledger
    terminalreporter.write_line(f"pretended card: {ledger.operations} operations, peak {ledger.peak / 2**20:.0f} MiB")
    for (what, where), count in ledger.waits.most_common(int(os.environ.get("PRETENDED_LINES", "0"))):
        terminalreporter.write_line(f"{count:7d} {what:40s} {where}")
