"""The autograd engine's share: backward passes ask CUDA for streams and contexts in C++, which `pretended_cuda.cpp` answers.

Compiled with g++ where it is first needed (5 s), for each version of PyTorch and of the source once; Itanium ABI (Linux, macOS).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "pretended_cuda.cpp"
CACHE = HERE.parent.parent / "build" / "pretended"


class NoCompiler(RuntimeError):
    """g++ is missing, or it could not compile `pretended_cuda.cpp`."""


@functools.cache
def pretend() -> None:
    """Have the engine find one CUDA device: for the whole process, and before its first backward pass, on whatever device.

    Raises NoCompiler.
    """
    ctypes.CDLL(str(library())).pretend_cuda()


def library() -> Path:
    """The compiled file, made unless it is there: in build/pretended, or the temporary folder where that cannot be written."""
    made_of = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode() + torch.__file__.encode()).hexdigest()[:16]
    name = f"pretended_cuda-{torch.__version__}-{made_of}.so"
    folder = _writable(CACHE) or Path(tempfile.gettempdir())
    if not (folder / name).is_file():
        _compile(folder / name)
    return folder / name


def _writable(folder: Path) -> Path | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _compile(target: Path) -> None:
    if shutil.which("g++") is None:
        raise NoCompiler("The pretended card needs g++ to compile lab/pretended/pretended_cuda.cpp; install it (Debian: apt install g++).")
    root = Path(torch.__file__).parent
    includes = [f"-I{root}/include", f"-I{root}/include/torch/csrc/api/include"]
    unfinished = target.with_suffix(f".{os.getpid()}.part")  # several processes may compile at once
    libraries = [f"-L{root}/lib", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{root}/lib"]
    command = ["g++", "-O1", "-std=c++20", "-shared", "-fPIC", *includes, str(SOURCE), "-o", str(unfinished), *libraries]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NoCompiler(f"g++ could not compile {SOURCE.name} for PyTorch {torch.__version__}:\n{done.stderr[-3000:]}")
    unfinished.replace(target)
