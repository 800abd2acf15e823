"""Photos and a Subject as files, to hand them from one process to another: NumPy's .npz without pickle, words as JSON in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..faces.detector import Face
from ..faces.images import SourceImage
from .subject import Photo, Subject
from .verdicts import Verdict


def write_sources(path: Path, images: Sequence[SourceImage]) -> None:
    """Photos as they were read, to `path` (.npz)."""
    words = [{name: getattr(one, name) for name in ("name", "caption", "problem", "notes", "photo")} for one in images]
    _write(path, words, {f"rgb.{number}": one.rgb for number, one in enumerate(images) if one.rgb is not None})


def read_sources(path: Path) -> list[SourceImage]:
    """What `write_sources` wrote."""
    words, arrays = _read(path)
    return [SourceImage(rgb=arrays.get(f"rgb.{number}"), notes=tuple(one.pop("notes")), **one) for number, one in enumerate(words)]


def write_subject(path: Path | BinaryIO, subject: Subject) -> None:
    """A subject to `path` (.npz), the masks of its faces with it."""
    arrays: dict[str, NDArray[Any]] = {}
    photos = []
    for number, photo in enumerate(subject.photos):
        words = {name: getattr(photo, name) for name in ("name", "caption", "expression", "turned", *_SIZES)}
        photos.append({**words, "box": photo.face.box, "blendshapes": photo.face.blendshapes})
        arrays |= {f"image.{number}": photo.image, f"landmarks.{number}": photo.face.landmarks, f"mask.{number}": photo.mask()}
    whole = {name: getattr(subject, name) for name in ("trigger", "class_word", "resolution", "report")}
    verdicts = [
        {name: getattr(one, name) for name in ("name", "verdict", "words", "caption", "given", "notes")} for one in subject.verdicts
    ]
    arrays |= {f"verdict.{number}": one.picture for number, one in enumerate(subject.verdicts) if one.picture is not None}
    _write(path, {"subject": whole, "photos": photos, "verdicts": verdicts}, arrays)


def read_subject(path: Path | BinaryIO) -> Subject:
    """What `write_subject` wrote."""
    words, arrays = _read(path)
    photos = []
    for number, one in enumerate(words["photos"]):
        face = Face(tuple(one.pop("box")), arrays[f"landmarks.{number}"], one.pop("blendshapes"))
        sizes: dict[str, Any] = {name: tuple(one.pop(name)) for name in _SIZES}
        photos.append(Photo(image=arrays[f"image.{number}"], face=face, drawn_mask=arrays[f"mask.{number}"], **one, **sizes))
    verdicts = tuple(
        Verdict(picture=arrays.get(f"verdict.{number}"), notes=tuple(one.pop("notes")), **one)
        for number, one in enumerate(words["verdicts"])
    )
    return Subject(tuple(photos), verdicts=verdicts, **words["subject"])


_SIZES = ("original_size", "crop_top_left", "target_size")


def _write(path: Path | BinaryIO, words: Any, arrays: Mapping[str, Any]) -> None:
    np.savez(path, words=np.array(json.dumps(words)), **arrays)


def _read(path: Path | BinaryIO) -> tuple[Any, dict[str, NDArray[Any]]]:
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["words"])), {name: file[name] for name in file.files if name != "words"}
