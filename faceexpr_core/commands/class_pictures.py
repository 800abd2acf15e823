"""The user's own pictures of the class: a folder of them, or kohya's folders of regularisation pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError

if TYPE_CHECKING:
    from ..training.prior import ClassImage
    from ..training.run import ClassPictures

NAMED = 3
"""Pictures that cannot be read, of which a message gives the reasons."""


def class_files(folder: Path) -> list[Path]:
    """The pictures directly in a folder; where there are none, those of its `1_woman` folders; [] where it has none of the user's."""
    from ..faces.images import picture_files
    from ..photos.folder import kohya_folders

    if not folder.is_dir():
        return []
    return picture_files(folder) or [path for inside in kohya_folders(folder) for path in picture_files(inside)]


def own_pictures(wanted: ClassPictures, side: int, prompt: str, say: Callable[[str], None]) -> tuple[ClassImage, ...]:
    """`wanted.count` of the user's pictures that can be read, evenly from all that there are, cut to squares of `side` pixels; () where
    there are none.

    `prompt` is what those without a caption show. `say` is told what was not used. One file is read at a time.
    Raises FaceExprError for fewer than asked, and where only folders of other names in it hold some.
    """
    from ..faces.images import centre_square, crop_resized, read_source
    from ..training.prior import ClassImage

    pictures: dict[Path, ClassImage] = {}
    unread: list[str] = []
    files = class_files(wanted.folder)
    if not files:
        _refuse_others(wanted.folder)
    for path in _spread(files, wanted.count):
        if len(pictures) == wanted.count:
            break
        source = read_source(path)
        if source.rgb is None:
            unread.append(f"{source.name} {source.problem}")
            continue
        square = centre_square(source.rgb)
        image = crop_resized(square, 0, 0, len(square), side)
        pictures[path] = ClassImage(image, source.caption or prompt, (len(square), len(square)))
    left_out = "; ".join([*unread[:NAMED], *([f"and {len(unread) - NAMED} more"] if len(unread) > NAMED else [])])
    if files and len(pictures) < wanted.count:
        raise FaceExprError(
            f"The class folder {wanted.folder} holds {len(pictures)} readable pictures, {wanted.count} are asked for. Ask for "
            f"{len(pictures)}, add pictures, or give an empty folder, into which the base model draws them."
            + (f" Not readable: {left_out}." if unread else "")
        )
    if len(files) - len(unread) > len(pictures):
        say(f"of the {len(files)} pictures of the class {len(pictures)} are used, evenly from all; ask for more to use more")
    if unread:
        say(f"of the pictures of the class were left out: {left_out}")
    if files and files[0].parent != wanted.folder:
        say(f"pictures of the class are those of kohya's folders in {wanted.folder}; the numbers and words of their names are not used")
    return tuple(pictures[path] for path in files if path in pictures)


def _spread(files: Sequence[Path], count: int) -> list[Path]:
    """All of the files, first `count` of them evenly from the first to the last."""
    chosen = [files[number * len(files) // count] for number in range(count)] if count < len(files) else []
    return [*chosen, *(path for path in files if path not in chosen)]


def _refuse_others(folder: Path) -> None:
    """Raise FaceExprError where folders in a class folder hold pictures that the base model did not draw."""
    from ..faces.images import picture_files
    from ..training.prior import is_drawn

    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")] if folder.is_dir() else []
    others = [path.name for path in inside if not is_drawn(path) and picture_files(path)]
    if others:
        raise FaceExprError(
            f"The class folder {folder} holds no pictures, but folders in it do ({', '.join(others[:NAMED])}). Give one of these, name "
            "them as kohya does (1_woman), or give an empty folder, into which the base model draws pictures."
        )
