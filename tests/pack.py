"""The pack's modules as ComfyUI imports them; the fixture `comfy_modules` must have been asked for first."""

from __future__ import annotations

import importlib
from types import ModuleType, SimpleNamespace
from typing import Any

HOST = ("conditioning", "encoding", "folders", "mini", "models", "progress", "sampling", "weights", "widgets")


def node(name: str) -> ModuleType:
    """A module of `nodes/`: `sampler`, `host.fusion`."""
    return importlib.import_module(f"faceexpr_pack.nodes.{name}")


def host() -> SimpleNamespace:
    """The names of HOST's files in `nodes/host/`, in one."""
    return SimpleNamespace(**{key: value for name in HOST for key, value in vars(node(f"host.{name}")).items()})


def mini_asked_to_smile(person: str) -> dict[str, Any]:
    """ComfyUI's Mini and the conditionings of a prompt: `model`, `clip`, `vae`, `positive` (happy), `neutral` and `negative`."""
    here = host()
    model, clip, vae = here.load_mini()
    encode = node("expression_text_encode").ExpressionTextEncode.execute
    positive, neutral = encode(clip, person, "happy", 1.0, "none", 0.5, "").args
    negative = here.encode_conditioning(clip, "blurry")
    return {"model": model, "clip": clip, "vae": vae, "positive": positive, "neutral": neutral, "negative": negative}
