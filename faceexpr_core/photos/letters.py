"""Words written on a picture, each letter in a font that has it: names of files and captions are in any script."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

FONTS = (
    "msyh", "YuGothM", "msgothic", "malgun", "simsun",
    "PingFang", "Hiragino Sans GB", "AppleSDGothicNeo", "Arial Unicode",
    "NotoSansCJK-Regular", "NotoSansCJKsc-Regular", "NotoSansCJKjp-Regular", "NotoSansCJKkr-Regular", "NotoSansSC-Regular",
    "NotoSansJP-Regular", "NotoSansKR-Regular", "wqy-microhei", "wqy-zenhei", "DroidSansFallbackFull", "DroidSansFallback",
    "ipaexg", "ipag", "NanumGothic",
)  # fmt: skip
"""Files of fonts for Chinese, Japanese and Korean, without their endings: of Windows, of macOS, of Linux."""

LEFT_OUT = "..."
"""Stands where letters are that no font has."""

_NO_LETTER = "\U0010ffff"


class Pen:
    """Writes at `size` pixels: in DejaVu Sans, which comes with matplotlib, and what that lacks in the first of FONTS that has it.

    Those are looked for in the system's folders, the first time that a letter is lacking.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._fonts = [_own_font(size)]
        self._others = iter(FONTS)
        self._known: dict[str, ImageFont.FreeTypeFont | None] = {}

    def lacks(self, text: str) -> bool:
        """Whether the text has letters that no font has."""
        return any(self._font_of(letter) is None for letter in text)

    def readable(self, text: str) -> str:
        """The text, with LEFT_OUT where it has such letters."""
        runs = groupby(text, lambda letter: self._font_of(letter) is None)
        return "".join(LEFT_OUT if lacking else "".join(letters) for lacking, letters in runs)

    def length(self, text: str) -> float:
        """Pixels along the line."""
        return sum(font.getlength(part) for font, part in self._runs(text))

    def write(self, draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, ink: tuple[int, int, int]) -> None:
        """The text on one line, `place` being its left upper corner."""
        left, line = place[0], place[1] + self._fonts[0].getmetrics()[0]
        for font, part in self._runs(text):
            draw.text((left, line), part, fill=ink, font=font, anchor="ls")
            left += font.getlength(part)

    def _runs(self, text: str) -> Iterator[tuple[ImageFont.FreeTypeFont, str]]:
        for font, letters in groupby(text, lambda letter: self._font_of(letter) or self._fonts[0]):
            yield font, "".join(letters)

    def _font_of(self, letter: str) -> ImageFont.FreeTypeFont | None:
        if letter not in self._known:
            self._known[letter] = next((font for font in self._found() if _has(font, letter)), None)
        return self._known[letter]

    def _found(self) -> Iterator[ImageFont.FreeTypeFont]:
        """The fonts that were opened, and then one more after the other."""
        from PIL import ImageFont

        yield from self._fonts
        for name in self._others:
            with suppress(OSError):
                self._fonts.append(ImageFont.truetype(name, self._size))
                yield self._fonts[-1]


def _own_font(size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    found = find_spec("matplotlib")
    path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf" if found is not None and found.origin else None
    return ImageFont.truetype(str(path), size) if path is not None and path.is_file() else ImageFont.load_default(size)  # type: ignore[return-value]


def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    """Whether a font draws something else for the letter than for one that no font has. Spaces, joiners and marks may be blank."""
    kind = unicodedata.category(letter)
    if kind in ("Zs", "Zl", "Zp", "Cc", "Cf"):
        return True
    drawn, none = font.getmask(letter), font.getmask(_NO_LETTER)
    if not drawn.getbbox():
        return kind[0] == "M"
    return drawn.size != none.size or bytes(drawn) != bytes(none)  # type: ignore[call-overload]
