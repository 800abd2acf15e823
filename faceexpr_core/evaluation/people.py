"""The people of an evaluation: one folder of photos, or a folder of people's folders."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FaceExprError
from ..faces.images import picture_files, shown_name
from ..files import name_bytes
from ..photos.dataset import has_photos, holds_photos, photo_files

ANYBODY = "person"


@dataclass(frozen=True)
class Person:
    """Photos in `folder`; `trigger` and `class_word` are the words for the person."""

    name: str
    folder: Path
    trigger: str
    class_word: str

    @property
    def words(self) -> str:
        """The person in a prompt of a model that learned the trigger word."""
        return f"{self.trigger} {self.class_word}".strip()

    @property
    def anybody(self) -> str:
        """The class in a prompt of a model that did not; `a person` for who has no class word."""
        word = self.class_word or ANYBODY
        return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"

    def meaning(self, kept: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Trigger, class word, and a digest of the photos' files: nothing else in their folder, where an output may lie, counts. `kept`:
        what an earlier run kept of the person, whose digest may be of all pictures that lie beside those of metadata.jsonl."""
        known, photos = (kept or {}).get("photos"), self._digest()
        if known not in (None, photos) and known == self._digest(beside=True):
            photos = known
        return {"trigger": self.trigger, "class_word": self.class_word, "photos": photos}

    def _digest(self, beside: bool = False) -> str:
        digest = hashlib.sha256()
        for path in sorted(photo_files(self.folder, beside=beside)):
            digest.update(name_bytes(path.relative_to(self.folder).as_posix()) + b"\0" + path.read_bytes())
        return digest.hexdigest()[:16]


def find_people(folder: Path, trigger: str, class_word: str, class_words: Mapping[str, str] | None = None) -> list[Person]:
    """The person whose photos lie in `folder` as `read_dataset` finds them, or else one for each folder in it that holds photos, by name.

    `class_words` says for some names another class word than `class_word`. Raises FaceExprError where there are no photos, where pictures
    lie beside several folders of pictures, for two people of one name, and for a class word of a name that nobody has.
    """
    if not folder.is_dir():
        raise FaceExprError(f"There is no folder {folder}. Give a folder of one person's photos, or of people's folders.")
    inside = [one for one in _inside(folder) if holds_photos(one)]
    alone = has_photos(folder) or (holds_photos(folder) and len(inside) == 1)
    folders = [folder] if alone else inside
    if not folders:
        raise FaceExprError(
            f"{folder} holds no photos, nor does a folder in it. Give a folder of one person's photos, or of people's folders."
        )
    if folders == [folder] and len(beside := _not_read(folder)) > 1:
        raise FaceExprError(
            f"{folder} holds {picture_files(folder)[0].name} and folders of pictures ({', '.join(one.name for one in beside)}): is this "
            "one person or several? Move the pictures or the folders elsewhere."
        )
    given = dict(class_words or {})
    names = [_name_of(one) for one in folders]
    _require_distinct(folder, names)
    if unknown := [name for name in given if name not in names]:
        raise FaceExprError(f"A class word is given for '{unknown[0]}', but the people are: {', '.join(names)}.")
    return [Person(name, one, trigger, given.get(name, class_word)) for name, one in zip(names, folders, strict=True)]


def passed_over(folder: Path, people: Sequence[Person]) -> list[str]:
    """What in `folder` is nobody's: of people's folders those without photos, of one person's those whose pictures are not looked at."""
    known = [one.folder for one in people]
    if folder in known:
        return [f"{one.name} (a folder beside the person's photos)" for one in _not_read(folder)]
    return [f"{one.name} (no photos)" for one in _inside(folder) if one not in known]


def parse_class_words(words: Sequence[str]) -> dict[str, str]:
    """`anna=woman ben=man` by name. Raises FaceExprError."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value.strip()):
            raise FaceExprError(f"--class_words {word}: write NAME=WORD, such as anna=woman, NAME being the person's folder.")
        found[name] = value.strip()
    return found


def _name_of(folder: Path) -> str:
    """A link's own name, as it can be shown: those that it leads to may all be called `selected`. Only `.` and `..` have to be asked where
    they are."""
    return shown_name(folder if folder.name not in ("", "..") else folder.resolve())


def _require_distinct(folder: Path, names: Sequence[str]) -> None:
    """Raise FaceExprError for names that a page shows alike, or that a disk without capitals takes for one: files are named after them."""
    known: dict[str, str] = {}
    for name in names:
        plain = unicodedata.normalize("NFC", name).casefold()
        if plain in known:
            raise FaceExprError(
                f"Two people in {folder} have one name, capitals aside: '{known[plain]}' and '{name}'. Rename one of the two folders, or, "
                "if they are one person, put the photos into one."
            )
        known[plain] = name


def _not_read(folder: Path) -> list[Path]:
    """The folders of pictures in a person's folder that `read_dataset` leaves alone."""
    read = {path.parent for path in photo_files(folder)}
    return [one for one in _inside(folder) if one not in read and picture_files(one)] if picture_files(folder) else []


def _inside(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
