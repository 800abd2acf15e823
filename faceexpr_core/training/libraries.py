"""Libraries that nothing here needs, but that diffusers and PEFT import where they find them: one that is broken, or too old for them."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from functools import cache
from importlib.util import find_spec

from ..typed import installing, typed

log = logging.getLogger(__name__)

OPTIONAL = {"xformers": "xformers.ops", "bitsandbytes": "bitsandbytes"}
"""What diffusers imports as soon as the package is there, by the package's name."""
REFUSED = ("torchao", "gptqmodel", "auto-gptq", "optimum", "bitsandbytes")
"""Packages of which PEFT refuses some versions."""


@cache
def leave_out_broken() -> None:
    """Tell diffusers and PEFT that a library that cannot be imported is not there, and log it in a line.

    Call it before the first import of diffusers' models, and before PEFT puts a LoRA anywhere: they fail where the library does.
    """
    for package, module in OPTIONAL.items():
        if find_spec(package) is None:
            continue
        try:
            importlib.import_module(module)
        except Exception as reason:  # whatever a library for another PyTorch, CUDA or Python raises
            log.warning("%s is installed, but cannot be imported (%s); it is not used.", package, " ".join(str(reason).split()))
            _leave_out(package)


def _leave_out(package: str) -> None:
    from diffusers.utils import import_utils

    setattr(import_utils, f"_{package}_available", False)
    if package == "bitsandbytes":
        from peft import import_utils as asked

        there = sys.modules.get(package)
        sys.modules[package] = None  # type: ignore[assignment]  # as Python marks what is not to be found; PEFT keeps the answer
        try:
            for question in (asked.is_bnb_available, asked.is_bnb_4bit_available):
                question.cache_clear()
                question()
        finally:
            del sys.modules[package]
            if there is not None:
                sys.modules[package] = there


def refusal(reason: BaseException) -> str:
    """Why PEFT puts no LoRA on a model here, with the package that it names and what to type: sentences."""
    told = " ".join(str(reason).split()) or type(reason).__name__
    named = next((name for name in REFUSED if re.search(rf"\b{name}\b", told)), None)
    if named is None:
        return f"PEFT cannot put a LoRA on a model here: {told.rstrip('.')}. Type: {installing('--upgrade', 'peft')}"
    return (
        f"PEFT cannot put a LoRA on a model beside the {named} that is installed: {told.rstrip('.')}. Take it out where nothing else needs "
        f"it, with: {typed('-m', 'pip', 'uninstall', named)}; or update it, with: {installing('--upgrade', named)}"
    )
