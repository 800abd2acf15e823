"""What of the Python packages that FaceExpr needs is missing or too old here, and what to type; nothing of them is imported."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from .typed import installing

OPENCVS = ("opencv-contrib-python", "opencv-contrib-python-headless", "opencv-python", "opencv-python-headless")
"""Distributions that all write into the one folder `cv2`: each installed over another leaves a mixture. First what mediapipe brings."""
OLDEST_OPENCV = "4.8"
CLOSED = "Close ComfyUI, then type"
"""Before what is to be typed: Windows replaces no file of a package that is in use."""


@dataclass(frozen=True)
class Package:
    """A package by its `module`; `distributions` are what may bring it, the first to be installed; `least` is the oldest that works."""

    module: str
    distributions: tuple[str, ...]
    least: str
    purpose: str


NEEDED = (
    Package("cv2", OPENCVS, OLDEST_OPENCV, "finding faces, masks and likeness"),
    Package("mediapipe", ("mediapipe",), "0.10.14", "finding faces and reading expressions"),
    Package("diffusers", ("diffusers",), "0.32", "training and the command line"),
    Package("peft", ("peft",), "0.14", "training"),
    Package("accelerate", ("accelerate",), "1.0", "training"),
    Package("transformers", ("transformers",), "4.50", "training and the command line"),
    Package("safetensors", ("safetensors",), "0", "LoRA files"),
    Package("scipy", ("scipy",), "0", "telling people apart in photos"),
    Package("matplotlib", ("matplotlib",), "0", "the picture of the loss"),
    Package("psutil", ("psutil",), "0", "the memory that is left for photos and a training"),
    Package("jinja2", ("jinja2",), "0", "the page of evaluate and the card of dataset"),
    Package("rich", ("rich",), "13", "the command line's progress"),
)
OPTIONAL = (Package("bitsandbytes", ("bitsandbytes",), "0.45.2", "8-bit AdamW and a base in fewer bits"),)
"""What training does without where it is not there."""


def lacking(
    there: Callable[[str], bool] = lambda module: find_spec(module) is not None, installed: Callable[[str], str | None] | None = None
) -> tuple[str, ...]:
    """What is wrong with each package, in a sentence with what to type: () where all is well.

    `there` says whether a module can be found, `installed` which version of a distribution is there (None: not at all).
    """
    found = installed or _installed
    told = []
    for package in (*NEEDED, *OPTIONAL):
        versions = {name: number for name in package.distributions if (number := found(name)) is not None}
        wanted = package.distributions[0] if package.least == "0" else f"{package.distributions[0]}>={package.least}"
        if not there(package.module):
            if package in OPTIONAL:
                continue
            told.append(f"{package.distributions[0]} is missing ({package.purpose}). {CLOSED}: {installing(wanted)}")
        elif versions and all(numbers(number) < numbers(package.least) for number in versions.values()):
            name, number = next(iter(versions.items()))
            newer = wanted.replace(package.distributions[0], name)
            told.append(f"{name} {number} is older than {package.least} ({package.purpose}). {CLOSED}: {installing(newer)}")
        elif package.module == "cv2" and len(set(versions.values())) > 1:
            several = ", ".join(f"{name} {number}" for name, number in versions.items())
            told.append(
                f"several packages bring OpenCV and overwrite each other: {several}. If faces cannot be found, "
                f"{CLOSED[0].lower()}{CLOSED[1:]}: {installing('--force-reinstall', '--no-deps', next(iter(versions)))}"
            )
    return tuple(told)


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def numbers(text: str) -> tuple[int, ...]:
    """`4.8.1.78` -> (4, 8, 1, 78); what follows the numbers (rc1, +cu128) does not count."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
