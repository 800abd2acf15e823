"""What albums are sorted by, measured on people of the world: YuNet's score by roll, SFace between people, and the score of covered faces.

    python -m lab.benchmarks.album_faces --people 100000-100007

The numbers in `faces/upright.py`, `photos/people.py` and `photos/conditions.py` were chosen on such renders, on those of an older world
without photographic skins, and on seven photographs of three people.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceexpr_core.faces.detector import Face, FaceDetector
from faceexpr_core.faces.upright import turned_upright
from faceexpr_core.measure.identity import IdentityMeter
from faceexpr_core.photos.conditions import COVERED_SCORE
from faceexpr_core.photos.people import Sighting, who_is_who
from lab.world.dataset import subject_photos

from .albums import PHOTO_SIDE
from .subjects import seeds

PHOTOS = 5
ROLLS = (90, 180, 270, 45, 135, 225, 315)
ALBUMS = 1000
_LOWER = (234, 93, 58, 172, 150, 152, 379, 397, 288, 323, 454, 280, 195, 50)

Picture = NDArray[np.uint8]


def turned(picture: Picture, degrees: int) -> Picture:
    """The picture turned counter-clockwise on grey that holds all of it."""
    if degrees % 90 == 0:
        return np.ascontiguousarray(np.rot90(picture, degrees // 90))
    height, width = picture.shape[:2]
    side = int(np.hypot(height, width)) + 1
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, 1.0)
    matrix[:, 2] += (side - width) / 2, (side - height) / 2
    return np.asarray(cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_CUBIC, borderValue=(128, 128, 128)), np.uint8)


def covered(picture: Picture, face: Face, what: str) -> Picture:
    """Sunglasses or a mask drawn over a face."""
    shown, points = picture.copy(), face.landmarks[:, :2]
    if what == "mask":
        hull = cv2.convexHull(points[list(_LOWER)].astype(np.float32)).astype(np.int32)
        return np.asarray(cv2.fillConvexPoly(shown, hull, (150, 190, 210)), np.uint8)
    for corner in ((33, 133), (263, 362)):
        x, y = points[list(corner)].mean(axis=0)
        cv2.ellipse(shown, (int(x), int(y)), (int(0.19 * face.width), int(0.16 * face.width)), 0, 0, 360, (15, 15, 20), -1)
    return shown


def roll_figures(albums: Sequence[Sequence[Picture]], detector: FaceDetector) -> Iterator[str]:
    """How often a turned photo comes upright, to 30 degrees."""
    pictures = [picture for album in albums for picture in album]
    for degrees in (0, *ROLLS):
        ways = [turned_upright(turned(picture, degrees), detector).turned for picture in pictures]
        right = sum(abs((way - degrees + 180) % 360 - 180) <= 30 for way in ways)
        yield f"| turned by {degrees} degrees | {right} of {len(pictures)} upright |"


def people_figures(albums: Sequence[Sequence[Picture]], meter: IdentityMeter) -> Iterator[str]:
    """SFace's cosines, and drawn albums of three to five photos of one person with up to three of two others."""
    vectors = [np.stack([vector for picture in album if (vector := meter.embed(picture)) is not None]) for album in albums]
    same = np.concatenate([(one @ one.T)[~np.eye(len(one), dtype=bool)] for one in vectors])
    other = np.concatenate([(a @ b.T).ravel() for i, a in enumerate(vectors) for b in vectors[:i]])
    yield f"| SFace, same person | median {np.median(same):.2f}, least {same.min():.2f} |"
    yield f"| SFace, other people | median {np.median(other):.2f}, 95 % {np.percentile(other, 95):.2f}, most {other.max():.2f} |"
    rng, counts = np.random.default_rng(0), np.zeros(4, int)
    for _ in range(ALBUMS):
        own, second, third = rng.choice(len(vectors), 3, replace=False)
        drawn = [(int(own), int(photo)) for photo in rng.choice(PHOTOS, rng.integers(3, 6), replace=False)]
        drawn += [(int(second), int(photo)) for photo in rng.choice(PHOTOS, rng.integers(0, 3), replace=False)] + [(int(third), 0)]
        people = who_is_who([Sighting(number, 100.0, vectors[a][b]) for number, (a, b) in enumerate(drawn)])
        taken = set(people.persons[0].sightings)
        is_own = np.array([a == own for a, _ in drawn])
        is_taken = np.array([number in taken for number in range(len(drawn))])
        counts += (is_own & ~is_taken).sum(), is_own.sum(), (~is_own & is_taken).sum(), (~is_own).sum()
    yield f"| own photos lost in {ALBUMS} albums | {counts[0]} of {counts[1]} |"
    yield f"| strangers' photos taken | {counts[2]} of {counts[3]} |"


def cover_figures(albums: Sequence[Sequence[Picture]], detector: FaceDetector) -> Iterator[str]:
    """How many faces YuNet scores below COVERED_SCORE."""
    for what in ("nothing", "sunglasses", "mask"):
        told = seen = 0
        for picture in (picture for album in albums for picture in album):
            shown = picture if what == "nothing" else covered(picture, detector.detect(picture)[0], what)
            for face in detector.detect(shown)[:1]:
                row: Any = detector.closer_row(shown, face)
                told, seen = told + (row is None or row[14] < COVERED_SCORE), seen + 1
        yield f"| covered by {what} | {told} of {seen} told |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", nargs="+", default=["100000-100007"], help="seeds: 100000 and up tuning, 200000 and up reporting")
    arguments = parser.parse_args()
    albums = [[photo.image for photo in subject_photos(seed, PHOTOS, PHOTO_SIDE)] for seed in seeds(arguments.people)]
    print(f"`python -m lab.benchmarks.album_faces {shlex.join(sys.argv[1:])}`\n\n| | |\n|---|---|")
    with FaceDetector() as detector:
        for figures in (
            roll_figures(albums, detector),
            people_figures(albums, IdentityMeter((), detector)),
            cover_figures(albums, detector),
        ):
            for line in figures:
                print(line, flush=True)


if __name__ == "__main__":
    main()
