"""What a file is, told by its first bytes and not by its ending, and which pictures cannot be read here and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

PICTURE, HEIF, RAW, UNREADABLE, OTHER = "picture", "HEIF", "raw", "unreadable", "other"
"""What a file can be: a picture that Pillow reads, one that needs pillow-heif, a camera's raw file, a picture that nothing here reads,
no picture at all."""

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif",
    ".hif", ".jp2", ".j2k", ".jpx", ".jxl", ".tga", ".psd", ".qoi", ".ppm", ".pgm",
)  # fmt: skip
"""Files that end so, whatever the case, are meant as pictures, even if what is in them is none."""

CAPTION_SUFFIXES = (".txt", ".caption")
"""Endings of the text file beside a picture, in place of its own or after it, that holds its caption; the first there is counts."""

RAW_SUFFIXES = (".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PSD", "QOI", "PPM", "HEIF")
"""Pillow's readers that a picture is given to: none that starts another program, as the one of EPS does. TGA, which has no first bytes
of its own, is added for files that end so."""

HEIF_READERS = ("pillow_heif", "pi_heif")

_HEAD = 64
_NOT_IN_TEXT = {*range(9), *range(14, 32), 127, *range(128, 256)}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}


class Kind(NamedTuple):
    """`what` is one of the constants above; `words` say what the file is, and of an unreadable picture what to do."""

    what: str
    words: str = ""


def kind_of(path: Path) -> Kind:
    """What a file holds. Raises OSError where it cannot be opened."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    suffix = path.suffix.lower()
    if not head:
        return Kind(UNREADABLE if is_meant_as_picture(path) else OTHER, "is empty")
    if (suffix in RAW_SUFFIXES and _is_raw(head)) or head[:10] == b"II*\0\x10\0\0\0CR" or head[4:12] == b"ftypcrx ":
        return Kind(RAW, "is a camera's raw file; develop it and save it as JPEG")
    if suffix in CAPTION_SUFFIXES and not set(head) & _NOT_IN_TEXT:
        return Kind(OTHER, "text")
    kind = next((kind for fits, kind in _SIGNATURES if fits(head)), None)
    if kind is not None:
        return kind
    if suffix == ".tga":
        return Kind(PICTURE)
    if suffix in (".heic", ".heif", ".hif"):
        return Kind(UNREADABLE, "is damaged or no picture; if other programs open it, save it as JPEG")
    return Kind(UNREADABLE, "is damaged or no picture") if is_meant_as_picture(path) else Kind(OTHER, "no picture")


def without_reader(path: Path) -> str:
    """Why an intact picture cannot be read: the Pillow that is installed lacks its reader; "" where it has it. Raises OSError."""
    import PIL
    from PIL import Image

    with path.open("rb") as file:
        head = file.read(_HEAD)
    name = next((name for name, fits in _OPTIONAL.items() if fits(head)), None)
    if name is None or name in Image.OPEN:
        return ""
    return f"is a picture of the kind {name}, which this Pillow ({PIL.__version__}) does not read; update Pillow, or save it as JPEG"


def is_meant_as_picture(path: Path) -> bool:
    """Whether the file ends as pictures do."""
    return path.suffix.lower() in (*SUFFIXES, *RAW_SUFFIXES)


@cache
def heif_reader() -> bool:
    """Whether HEIC can be read: Pillow is told of the first of HEIF_READERS that is installed."""
    for name in HEIF_READERS:
        try:
            import_module(name).register_heif_opener()
        except Exception:  # not there, or its library cannot load
            continue
        return True
    return False


HEIF_PROBLEM = (
    "is a HEIC picture, which needs the Python package pillow-heif: install it into ComfyUI's Python with "
    "'python -m pip install pillow-heif', or save the picture as JPEG"
)


def _is_raw(head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"IIU\0", b"IIRO", b"IIRS", b"FUJI") or head[4:8] == b"ftyp"


def _brands(head: bytes) -> set[bytes]:
    """Major and compatible brands of an ISO media file; empty for any other."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(len(head), max(16, int.from_bytes(head[:4], "big")))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}


def _starts(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signatures)


_is_jpeg_2000 = _starts(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")


def _is_avif(head: bytes) -> bool:
    return bool(_brands(head) & _AVIF_BRANDS)


def _is_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


_OPTIONAL = {"AVIF": _is_avif, "JPEG2000": _is_jpeg_2000, "WEBP": _is_webp}
"""Kinds that Pillow is built without in places."""

_SIGNATURES: tuple[tuple[Callable[[bytes], bool], Kind], ...] = (
    (_starts(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"8BPS", b"qoif"), Kind(PICTURE)),
    (_starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), Kind(PICTURE)),
    (_is_webp, Kind(PICTURE)),
    (lambda head: head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS, Kind(PICTURE)),
    (lambda head: re.match(rb"P[1-6]\s+[\d#]", head) is not None, Kind(PICTURE)),
    (_is_jpeg_2000, Kind(PICTURE)),
    (_starts(b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"), Kind(UNREADABLE, "is a JPEG XL picture, not read here; save it as JPEG")),
    (_is_avif, Kind(PICTURE)),
    (lambda head: bool(_brands(head) & _HEIF_BRANDS), Kind(HEIF, HEIF_PROBLEM)),
    (lambda head: bool(_brands(head)), Kind(OTHER, "a video")),
    (_starts(b"\x1aE\xdf\xa3", b"\0\0\x01\xba"), Kind(OTHER, "a video")),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ", Kind(OTHER, "a video")),
    (_starts(b"%PDF"), Kind(OTHER, "a PDF; save its picture as JPEG")),
    (_starts(b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf"), Kind(OTHER, "an archive; unpack it")),
    (
        lambda head: re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)", head, re.IGNORECASE) is not None,
        Kind(OTHER, "a web page, not the picture itself"),
    ),
)
