"""Photos to a Subject in a process of its own: what finds faces (MediaPipe, OpenCV) is then not in the memory of the one that trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError

if TYPE_CHECKING:
    from ..faces.images import SourceImage
    from .subject import Subject, SubjectSettings

_SETTINGS, _PHOTOS, _SUBJECT, _ERROR = "settings.json", "photos.npz", "subject.npz", "error.txt"
_REFUSED = 2
_START = (
    "import pathlib, sys; sys.path.insert(0, sys.argv[1]); from faceexpr_core.photos.subject_process import main; "
    "sys.exit(main(pathlib.Path(sys.argv[2])))"
)
"""Not `-m`: the Python of ComfyUI's portable looks neither into the current folder nor at PYTHONPATH."""


def prepare_apart(images: Sequence[SourceImage], settings: SubjectSettings, centre_crop: bool = False) -> Subject:
    """`prepare_centred` or `prepare_subject`, in a process that ends with it; the subject is the same to the bit.

    Raises FaceExprError as they do, and where the process ended without a subject.
    """
    from .subject_files import read_subject, write_sources

    package = Path(__file__).resolve().parent.parent
    paths = os.pathsep.join(filter(None, [str(package.parent), os.environ.get("PYTHONPATH")]))
    try:
        with tempfile.TemporaryDirectory(prefix="faceexpr_") as name:
            folder = Path(name)
            (folder / _SETTINGS).write_text(json.dumps({"centre_crop": centre_crop, "subject": asdict(settings)}))
            write_sources(folder / _PHOTOS, images)
            command = [sys.executable, "-c", _START, str(package.parent), name]
            # no modules from the folder that it is started in; Ctrl-C reaches this process alone, which then ends the other
            environment = {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
            ended = subprocess.run(command, env=environment, start_new_session=True, check=False)
            if ended.returncode == _REFUSED and (folder / _ERROR).is_file():
                raise FaceExprError((folder / _ERROR).read_text(encoding="utf-8"))
            if ended.returncode:
                raise FaceExprError(
                    f"The process that looks for faces ended with status {ended.returncode}; what it said stands above. "
                    "If it said nothing, memory was short: close other programs, or give fewer or smaller photos."
                )
            return read_subject(folder / _SUBJECT)
    except OSError as reason:
        raise FaceExprError(f"The photos could not be prepared in {tempfile.gettempdir()} ({reason}); free some space there.") from reason


def prepare_centred(images: Sequence[SourceImage], settings: SubjectSettings) -> Subject:
    """`prepare_subject` of the largest square in the middle of each photo, with the size ids of the whole photo."""
    from ..faces.images import centre_square
    from .subject import prepare_subject

    cut = [source if source.rgb is None else replace(source, rgb=centre_square(source.rgb)) for source in images]
    subject = prepare_subject(cut, settings, framing="whole picture")
    sizes = {source.name: source.rgb.shape[:2] for source in images if source.rgb is not None}
    photos = []
    for photo in subject.photos:
        if photo.turned % 90:  # a square of its own
            photos.append(photo)
            continue
        height, width = sizes[photo.name][:: -1 if photo.turned % 180 else 1]
        scale = subject.resolution / min(height, width)
        top, left = (height - min(height, width)) // 2, (width - min(height, width)) // 2
        photos.append(replace(photo, original_size=(height, width), crop_top_left=(round(top * scale), round(left * scale))))
    return replace(subject, photos=tuple(photos))


def main(folder: Path) -> int:
    """Prepare what lies in `folder`, and put the subject, or the error that the user can mend, beside it. Returns the exit status."""
    from .subject import SubjectSettings, prepare_subject
    from .subject_files import read_sources, write_subject

    if not (folder / _SETTINGS).is_file():
        return _REFUSED  # stopped while this process was being made, so that nobody could end it
    asked = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
    prepare = prepare_centred if asked["centre_crop"] else prepare_subject
    try:
        subject = prepare(read_sources(folder / _PHOTOS), SubjectSettings(**asked["subject"]))
    except FaceExprError as error:
        (folder / _ERROR).write_text(str(error), encoding="utf-8")
        return _REFUSED
    write_subject(folder / _SUBJECT, subject)
    return 0
