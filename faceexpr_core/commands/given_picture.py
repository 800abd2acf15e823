"""A picture file that a command was given by its path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..errors import FaceExprError
from ..faces.images import notes_of
from .telling import say

Read = TypeVar("Read")


def require_file(path: Path) -> None:
    """Raise FaceExprError for the path of a picture under which there is no file."""
    if path.is_dir():
        raise FaceExprError(f"{path} is a folder. Give the path of a picture file.")
    if not path.is_file():
        raise FaceExprError(f"there is no picture {path}. Give the path of a picture file.")


def read_given(path: Path, read: Callable[[Path], Read]) -> Read:
    """What `read`, one of the readers of `faces.images`, makes of the file; on stderr what is to be said of it. Raises FaceExprError for
    what is no file or cannot be read."""
    require_file(path)
    try:
        made, notes = read(path), notes_of(path)
    except Exception as error:  # Pillow's plugins raise anything on a damaged file
        raise FaceExprError(f"the picture {path} cannot be read ({error}). Save it as JPEG or PNG and try again.") from error
    for note in notes:
        say(f"{path}: {note}")
    return made
