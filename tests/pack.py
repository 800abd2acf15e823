"""The pack's modules as ComfyUI imports them; the fixture `comfy_modules` must have been asked for first."""

from __future__ import annotations

import importlib
from types import ModuleType, SimpleNamespace

HOST = ("conditioning", "encoding", "folders", "mini", "models", "progress", "sampling", "weights", "widgets")


def node(name: str) -> ModuleType:
    """A module of `nodes/`: `sampler`, `host.fusion`."""
    return importlib.import_module(f"faceexpr_pack.nodes.{name}")


def host() -> SimpleNamespace:
    """The names of HOST's files in `nodes/host/`, in one."""
    return SimpleNamespace(**{key: value for name in HOST for key, value in vars(node(f"host.{name}")).items()})
