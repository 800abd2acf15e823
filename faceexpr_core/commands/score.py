"""`faceexpr score`: pictures of a person measured and sorted by how well they show an expression, as the node FaceExpr Score does."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError
from ..expressions import NONE, names
from ..files import try_name, write_new
from .flags import TellsDefaults, refuse_idle_intensity

if TYPE_CHECKING:
    from ..measure.judges import Looks, Seen
    from ..measure.picture_score import Asked, PictureScore

SIDE = 512
"""Pixels along the square that is cut around the face of each of the person's photos."""


def add_score_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `score` to the `faceexpr` command."""
    parser = subparsers.add_parser(
        "score",
        help="sort pictures by how well they show a person and an expression",
        description="Measure pictures of a person: which expression two judges read, how strong it is, how alike the face is to "
        "the photos. Prints a line a picture, the best first.",
        formatter_class=TellsDefaults,
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="picture files")
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="folder with photos of the person")
    parser.add_argument("--expression", required=True, metavar="E", help=f"what was asked, one of: {', '.join((NONE, *names()))}")
    parser.add_argument("--intensity", type=float, default=1.0, help="how strongly, 0 to 1.5")
    parser.add_argument("--action_units", default="", help="FACS action units that were asked, such as AU1+AU2")
    parser.add_argument("--neutral", type=Path, metavar="PICTURE", help="the picture of the same seed without the expression")
    parser.add_argument("--best", type=int, default=0, metavar="K", help="print only the paths of the K best")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measures here too; a number is added when the name is taken")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> None:
    """Measure and print. Raises FaceExprError for what cannot be read or written."""
    from ..faces.images import read_rgb
    from ..measure.judges import Judges
    from ..measure.picture_score import Asked, best_first, require_neutral_face, told
    from ..photos.dataset import read_dataset
    from ..photos.subject import SubjectSettings, prepare_subject
    from .given_picture import read_given, require_file
    from .telling import say

    if arguments.best < 0:
        raise FaceExprError(f"--best {arguments.best}: give how many of the pictures you want, from 1.")
    asked = Asked(arguments.expression, arguments.intensity, arguments.action_units)
    refuse_idle_intensity(arguments, [asked.expression])
    for path in (*arguments.pictures, *([] if arguments.neutral is None else [arguments.neutral])):
        require_file(path)
    if arguments.json is not None:
        _check_json(arguments.json)
    photos = read_dataset(arguments.photos)
    with Judges() as judges:
        subject = prepare_subject(photos, SubjectSettings(resolution=SIDE, drop_small=False), detector=judges.detector)
        say(f"the person: {subject.shortened()}")
        person = judges.looks([photo.image for photo in subject.photos], [photo.face for photo in subject.photos])
        neutral = None
        if arguments.neutral is not None:
            neutral = require_neutral_face(judges.see(read_given(arguments.neutral, read_rgb)), f"--neutral {arguments.neutral}")
        scores = [_scored(path, judges.see(read_given(path, read_rgb)), asked, person, neutral) for path in arguments.pictures]
    if arguments.best:
        print("\n".join(str(arguments.pictures[number]) for number in best_first(scores)[: arguments.best]))
    else:
        print(told(scores, [str(path) for path in arguments.pictures]))
    if arguments.json is not None:
        rows = [{"picture": str(path), **asdict(one)} for path, one in zip(arguments.pictures, scores, strict=True)]
        try:
            written = write_new(arguments.json, (json.dumps(rows, indent=1) + "\n").encode())
        except OSError as reason:
            raise _unwritten(arguments.json, reason) from reason
        say(f"all measures: {written}")


def _scored(path: Path, seen: Seen, asked: Asked, person: Looks, neutral: Seen | None) -> PictureScore:
    from ..measure.picture_score import score_picture

    try:
        return score_picture(seen, asked, person, neutral)
    except FaceExprError as reason:
        raise FaceExprError(f"{path}: {reason}") from reason


def _check_json(path: Path) -> None:
    """Raise FaceExprError, before the work, for a file of measures that cannot be written."""
    if path.is_dir():
        raise FaceExprError(f"--json {path} is a folder; give the name of a file in it, such as {path / 'scores.json'}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try_name(path)
    except OSError as reason:
        raise _unwritten(path, reason) from reason


def _unwritten(path: Path, reason: OSError) -> FaceExprError:
    why = reason.strerror or reason
    return FaceExprError(f"the measures cannot be written to --json {path} ({why}). Make room, or give another place or a shorter name.")
