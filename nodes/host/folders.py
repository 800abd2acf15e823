"""ComfyUI's folders that the pack reads and writes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import folder_paths

from ...faceexpr_core.errors import FaceExprError
from ...faceexpr_core.faces import models


def model_folders() -> list[Path]:
    """Where the pack's own model files (MediaPipe, YuNet, SFace) may lie: `faceexpr` of extra_model_paths.yaml, then models/faceexpr."""
    return _registered("faceexpr")


def _registered(name: str) -> list[Path]:
    """What extra_model_paths.yaml has under a name that ComfyUI itself does not know, then the folder of that name in its models."""
    registered, _ = folder_paths.folder_names_and_paths.get(name, ([], set()))
    return [Path(folder) for folder in (*registered, os.path.join(folder_paths.models_dir, name))]


def missing_models() -> str:
    """Which of those files are not there now, for the fingerprint of a node that makes do without: once one is brought, it runs again.

    A fingerprint says nothing of where files lie: ComfyUI writes it into the pictures that it saves.
    """
    missing = []
    for row in models.MODEL_FILES:
        try:
            models.find(row.name, model_folders())
        except models.MissingModelFile:
            missing.append(f"{row.name} is missing")
    return ", ".join(missing)


def loras_folder() -> Path:
    """The first of ComfyUI's loras folders, absolute; LoRA files are saved there."""
    return Path(os.path.abspath(folder_paths.get_folder_paths("loras")[0]))


def stamp_of(path: Path) -> tuple[int, int]:
    """When a file was written (in ns) and its bytes, (0, 0) without one, for the fingerprint of a node that reads it: replaced under its
    name, the node runs again."""
    found = path.stat() if path.is_file() else None
    return (0, 0) if found is None else (found.st_mtime_ns, found.st_size)


def stamp_of_lora(name: str | None) -> tuple[int, ...]:
    """The same of all files that a LoRA of the loras folders is read from; None comes by a link, and may be any of them."""
    from ...faceexpr_core.lora.given import files_of

    if name is None:
        known = (folder_paths.get_full_path("loras", one) for one in folder_paths.get_filename_list("loras"))
        return (stamp_of_all(file for one in known if one is not None for file in files_of(Path(one))),)
    found = folder_paths.get_full_path("loras", name)
    return () if found is None else tuple(number for file in files_of(Path(found)) for number in stamp_of(file))


def stamp_of_all(files: Iterable[Path], names: Iterable[Path] = ()) -> int:
    """The same of many files in one number, which does not say where they lie; of `names` it counts only that they are there."""
    told = sorted({*(f"{file} {stamp_of(file)}" for file in files), *map(str, names)})
    return int(hashlib.sha256("\n".join(told).encode("utf-8", "surrogateescape")).hexdigest()[:12], 16)


def embeddings_folder() -> Path:
    """The first of ComfyUI's embeddings folders."""
    return Path(folder_paths.get_folder_paths("embeddings")[0])


def input_folder() -> Path:
    return Path(folder_paths.get_input_directory())


def features_folders() -> list[Path]:
    """Where expression features are looked for: `faceexpr_features` of extra_model_paths.yaml, then models/faceexpr_features. They are
    saved in the first."""
    return _registered("faceexpr_features")


def features_files(suffix: str) -> list[str]:
    """The files in those folders by their names from there, folders behind links too, as ComfyUI lists models."""
    found = {name for folder in features_folders() for name in folder_paths.recursive_search(str(folder), [".git"])[0]}
    return sorted(Path(name).as_posix() for name in found if name.endswith(suffix))


def within_comfyui(text: str) -> str:
    """The text without the folders of ComfyUI that files and folders named in it lie in: where they are on the disk is nobody else's."""
    registered = (folder for folders, _ in folder_paths.folder_names_and_paths.values() for folder in folders)
    home = folder_paths.base_path, folder_paths.models_dir, folder_paths.get_user_directory()
    written = folder_paths.get_output_directory(), folder_paths.get_temp_directory(), folder_paths.get_input_directory()
    known = {name for one in (*registered, *home, *written) for name in _names_of(str(one))}
    for folder in sorted(known, key=len, reverse=True):
        text = text.replace(folder, "")
    return text


@cache
def _names_of(folder: str) -> tuple[str, ...]:
    """As it is written, and as links lead to it; asked once, since a disk far away is slow to say."""
    return tuple(f"{path}{os.sep}" for path in (os.path.abspath(folder), os.path.realpath(folder)))


_NO_FILE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[1-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices, whatever ending they have."""


def file_in(folder: Path, name: str, suffix: str, argument: str, windows: bool = os.name == "nt") -> Path:
    """The file in `folder` that `name`, with or without its suffix, means, absolute; links in the folder may lead elsewhere, as ComfyUI
    takes them. Raises FaceExprError for no file name, one that leads out by itself, or on Windows one that no file can have there."""
    root = os.path.abspath(folder)
    cleaned = name.strip().removesuffix(suffix).replace("\\", "/")
    if not Path(cleaned).name or re.search(r'[<>:"|?*\x00-\x1f]', cleaned) or cleaned.endswith(("/", ".")):
        raise FaceExprError(f"{argument} {name!r} is no file name; give one such as smiles/wide.")
    parts = cleaned.split("/")
    ends_badly = any(part.endswith((".", " ")) and part.strip(".") for part in parts[:-1])
    if windows and (ends_badly or any(map(_NO_FILE.fullmatch, parts))):
        raise FaceExprError(f"{argument} {name!r}: Windows takes no file or folder of that name; give another such as smiles/wide.")
    path = Path(os.path.abspath(os.path.join(root, f"{cleaned}{suffix}")))
    if not path.is_relative_to(root):
        raise FaceExprError(f"{argument} {name!r} leads out of {root}; give a name inside it, such as smiles/wide.")
    return path
