"""Pictures as people have them (any file type, any mode, rotated, damaged) to uint8 RGB."""

from __future__ import annotations

import codecs
import io
import os
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceExprError
from ..files import CONTROL, one_line
from .kinds import CAPTION_SUFFIXES, FORMATS, HEIF, OTHER, PICTURE, Kind, heif_reader, is_meant_as_picture, kind_of, without_reader

if TYPE_CHECKING:
    from PIL import Image

_WHITE = (255, 255, 255)
_DAMAGED = "its EXIF data is damaged and was not used"


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One picture as given: `rgb` uint8 [H, W, 3], or None with the `problem` that kept it from being read.

    `caption` is the text of the file beside it, or None; `notes` are for the report. `photo` False: a file of the folder that is no
    picture, named so that the report is whole.
    """

    name: str
    rgb: NDArray[np.uint8] | None
    caption: str | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()
    photo: bool = True


def picture_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The pictures directly in a folder, sorted by name: by what they hold, or by their ending; hidden files are left out."""
    return sorted(path for path in Path(folder).iterdir() if not path.name.startswith(".") and path.is_file() and _is_picture(path))


def shown_name(path: Path) -> str:
    """A file's name for a line of text: without line breaks of any kind and what cannot be written as UTF-8."""
    return CONTROL.sub("?", path.name.encode("utf-8", "replace").decode("utf-8"))


def caption_files(picture: Path) -> list[Path]:
    """The text files beside a picture that may hold its caption; the first of them counts. One whose name is only spelled in another way
    (capitals, accents composed or not) is the picture's, where it is no other's."""
    names = [name for suffix in CAPTION_SUFFIXES for name in (picture.with_suffix(suffix), picture.with_name(picture.name + suffix))]
    spelled, owners = _captions_in(picture.parent, picture.parent.stat().st_mtime_ns)

    def meant(name: Path) -> Path:
        other = spelled.get(plain_name(name.name), name)
        return name if name.is_file() or (other.stem != name.stem and other.stem in owners) else other

    found = [meant(name) for name in names]
    return [name for name in dict.fromkeys(found) if name != picture and name.is_file() and not _is_picture(name)]


def plain_name(name: str) -> str:
    """A name as disks and systems may spell it otherwise: without capitals, accents composed."""
    return unicodedata.normalize("NFC", name).casefold()


@lru_cache(maxsize=8)
def _captions_in(folder: Path, changed: int) -> tuple[dict[str, Path], set[str]]:
    """Captions of a folder by their plain names, and the stems that other files have for their own, as it was when it `changed`."""
    paths = [path for path in folder.iterdir() if path.is_file()]
    captions = {plain_name(path.name): path for path in paths if path.suffix.lower() in CAPTION_SUFFIXES}
    others = [path for path in paths if path.suffix.lower() not in CAPTION_SUFFIXES]
    return captions, {name for path in others for name in (path.name, path.stem)}


def read_images(folder: str | os.PathLike[str], reading: Callable[[str], None] | None = None) -> list[SourceImage]:
    """Read every picture of a folder, in the order of their names; one that cannot be read comes with its `problem`.

    `reading` is told each one's name before it is read, and may raise to stop. Raises FaceExprError for a folder that does not exist or
    holds no pictures.
    """
    if not Path(folder).is_dir():
        raise FaceExprError(f"There is no folder {folder}. Make it and put photos of one person into it (six to twenty are best).")
    files = picture_files(folder)
    if not files:
        raise FaceExprError(
            f"The folder {folder} holds no pictures. Put photos of one person into it (six to twenty are best), as JPEG, PNG, WebP, TIFF, "
            "HEIC or another usual kind."
        )
    found = []
    for path in files:
        if reading is not None:
            reading(shown_name(path))
        found.append(read_source(path))
    return found


def pixels_in(path: Path) -> int:
    """Width x height of a picture file by its header; 0 for what is none or cannot be opened."""
    try:
        with _unread(path) as opened:
            return int(opened.width) * int(opened.height)
    except Exception:  # Pillow's plugins raise anything on a damaged file, which reading it tells
        return 0


def images_from_batches(batches: Iterable[Any], name: str = "image") -> list[SourceImage]:
    """Float batches [N, H, W, 1, 3 or 4] in 0..1, each of its own size (ComfyUI's IMAGE, single or as a list, or arrays), as sources
    called `image 1`, `image 2` ...

    A fourth channel is taken for alpha, over white. Raises FaceExprError for other shapes.
    """
    pictures = [one for batch in batches for one in _pixels(batch)]
    return [SourceImage(f"{name} {number}", one) for number, one in enumerate(pictures, start=1)]


def _pixels(batch: Any) -> list[NDArray[np.uint8]]:
    if hasattr(batch, "detach"):
        batch = batch.detach().cpu().float().numpy()
    pixels = np.asarray(batch, np.float32)
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3, 4) or 0 in pixels.shape[1:]:
        raise FaceExprError(f"An IMAGE of shape {tuple(pixels.shape)} was given; [N, H, W, 3] is needed.")
    pixels = np.clip(np.nan_to_num(pixels), 0, 1)
    if pixels.shape[3] == 4:
        pixels = pixels[..., :3] * pixels[..., 3:] + (1 - pixels[..., 3:])
    rgb = np.broadcast_to(np.round(pixels * 255).astype(np.uint8), (*pixels.shape[:3], 3))
    return [np.ascontiguousarray(one) for one in rgb]


def read_rgb(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """One picture file as uint8 [H, W, 3] in sRGB, turned upright by its EXIF orientation; of several frames the first.

    Transparent parts become white. 16-bit grey is scaled to 8 bits. Colours are converted from an embedded profile (CMYK, Display P3 ...).
    What kind of picture it is is told by what it holds. Raises OSError, SyntaxError, ValueError or Image.DecompressionBombError for what
    cannot be read, as Pillow does.
    """
    return _read(Path(path))[0]


def read_rgb_and_alpha(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """The colours alone, as `read_rgb` has them where nothing is transparent, and the alpha channel uint8 [H, W], None without one. Raises
    as `read_rgb` does."""
    colours, alpha = _apart(_opened(Path(path))[0])
    return np.array(colours, np.uint8), None if alpha is None else np.array(alpha, np.uint8)


def centre_square(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest square in the middle."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return rgb[top : top + side, left : left + side]


def crop_resized(rgb: NDArray[np.uint8], left: int, top: int, side: int, resolution: int) -> NDArray[np.uint8]:
    """The square of `side` pixels at (`left`, `top`) resized to uint8 [resolution, resolution, 3] (Lanczos, antialiased)."""
    from PIL import Image

    cut = Image.fromarray(rgb[top : top + side, left : left + side])
    return np.array(cut.resize((resolution, resolution), Image.Resampling.LANCZOS), np.uint8)


def likeness(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Correlation (-1..1) of the two pictures' brightness at 32 x 32 pixels; about 1 for copies of one picture."""
    first, second = _thumbnail(a), _thumbnail(b)
    return float((first * second).sum() / max(1e-9, float(np.linalg.norm(first) * np.linalg.norm(second))))


def _is_picture(path: Path) -> bool:
    try:
        return is_meant_as_picture(path) or kind_of(path).what != OTHER
    except OSError:
        return False


def _read(path: Path) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The first frame over white, and what is to be said of it."""
    from PIL import Image

    upright, notes = _opened(path)
    colours, alpha = _apart(upright)
    white = Image.new("RGB", colours.size, _WHITE)
    return np.array(colours if alpha is None else Image.composite(colours, white, alpha), np.uint8), notes


def _opened(path: Path) -> tuple[Image.Image, tuple[str, ...]]:
    """The first frame, upright, and what is to be said of it."""
    with _unread(path) as opened:
        notes = _frames(opened)
        opened.load()
        upright, damaged = _upright(opened)
        return upright, (*notes, *damaged)


def notes_of(path: Path) -> tuple[str, ...]:
    """What is to be said of a picture file by its header: that it holds more pictures than the one that is read, and EXIF data that are
    damaged. Raises as `read_rgb`."""
    with _unread(path) as opened:
        return (*_frames(opened), *_damaged_exif(opened))


def _frames(opened: Image.Image) -> tuple[str, ...]:
    frames = 1 if opened.format in ("MPO", "PSD", "HEIF") else int(getattr(opened, "n_frames", 1))
    return (f"the first of its {frames} pictures was taken",) if frames > 1 else ()


def _unread(path: Path) -> Image.Image:
    """A picture file whose header alone has been read."""
    from PIL import Image

    heif_reader()
    known = [*FORMATS, *(["TGA"] if path.suffix.lower() == ".tga" else [])]
    Image.preinit()
    Image.init()
    return Image.open(path, formats=[name for name in known if name in Image.OPEN])


def _upright(opened: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """The picture turned as its EXIF data says; as it is stored, with a note, where those cannot be read."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(opened), ()
    except Exception:  # whatever a parser meets in bytes that are no EXIF
        return opened, (_DAMAGED,)


def _damaged_exif(opened: Image.Image) -> tuple[str, ...]:
    """The note of `_upright`, by the header alone."""
    from PIL.ExifTags import Base

    try:
        opened.getexif().get(Base.Orientation)
    except Exception:  # as there
        return (_DAMAGED,)
    return ()


def read_source(path: Path) -> SourceImage:
    """A picture file with the caption beside it. What cannot be read is no error: `rgb` is None then, and `problem` says why."""
    from PIL import Image, UnidentifiedImageError

    caption, notes, problem = _read_caption(path)
    what = ""  # a file that cannot be opened does not tell
    try:
        kind = kind_of(path)
        what, problem = kind.what, problem or _unreadable(kind)
        if not problem:
            rgb, told = _read(path)
            return SourceImage(shown_name(path), rgb, caption, notes=(*notes, *told))
    except Image.DecompressionBombError:
        problem = "is too large; make it smaller than 100 megapixels"
    except Exception as error:  # Pillow's plugins raise anything on a damaged file
        if what == HEIF:
            problem = "is a HEIC picture, but damaged or of an unknown kind; if other programs open it, save it as JPEG"
        elif isinstance(error, UnidentifiedImageError):
            problem = without_reader(path) or "is damaged or no picture"
        else:
            problem = f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"
    return SourceImage(shown_name(path), None, caption, problem, notes)


def _unreadable(kind: Kind) -> str:
    """Why a picture cannot be read, told by its first bytes; "" where it may be."""
    if kind.what == PICTURE or (kind.what == HEIF and heif_reader()):
        return ""
    return f"is no picture but {kind.words}" if kind.what == OTHER else kind.words


def _read_caption(picture: Path) -> tuple[str | None, tuple[str, ...], str]:
    """Caption, notes, and the problem of a caption that cannot be read: without it the photo would be learned with other words."""
    files = caption_files(picture)
    if not files:
        return None, (), ""
    file, notes = files[0], [f"{other.name} was not used" for other in files[1:]]
    try:
        content = file.read_bytes()
        text = content.decode("utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds zeros, as UTF-16 does")
    except (OSError, ValueError) as reason:
        return None, tuple(notes), f"its caption {file.name} cannot be read ({reason}). Save it as UTF-8 text, or take it away"
    caption = one_line(text)
    if not caption:
        notes.append(f"{file.name} is empty")
    return caption or None, tuple(notes), ""


def _apart(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours in sRGB, and the alpha channel where anything may be transparent."""
    from PIL import Image

    if picture.mode == "F" or picture.mode.startswith("I"):
        grey = np.asarray(picture, np.float64)
        top = 65535.0 if picture.mode.startswith("I;16") else _white_of(grey)
        return Image.fromarray(np.clip(np.round(grey / top * 255), 0, 255).astype(np.uint8)).convert("RGB"), None
    profile = picture.info.get("icc_profile")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return _in_srgb(picture.convert("RGB"), profile), picture.getchannel("A")
    return _in_srgb(picture.convert("RGB") if picture.mode == "P" else picture, profile), None


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB, converted from the profile where it is one of the picture's colours."""
    from PIL import ImageCms

    if profile and picture.mode in ("RGB", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile, or one of other colours: the plain conversion below
    return picture.convert("RGB")


def _white_of(grey: NDArray[np.float64]) -> float:
    """The usual white (1, 255 or 65535) that holds the brightest pixel."""
    brightest = float(grey.max())
    return next((white for white in (1.0, 255.0, 65535.0) if brightest <= white), brightest)


def _thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    from PIL import Image

    small = Image.fromarray(rgb).convert("L").resize((32, 32), Image.Resampling.BOX)
    values = np.asarray(small, np.float64)
    return values - values.mean()
