"""Who is who in an album: faces compared by SFace and grouped into people; the person in most photos is the subject (ours).

Of photographs OpenCV calls a cosine above 0.363 the same person (Zhong et al., "SFace", TIP 2021, by OpenCV's threshold for LFW). Rendered
people are more alike than real ones: other people reach 0.65, the same person's photos 0.62 and more. So an album has its own bar: a share
of the likeness that its faces have to their nearest ones (`python -m lab.benchmarks.album_faces`). Weak: side faces, sunglasses and many
years between photos lower the likeness of one person; relatives raise it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAME_PERSON = 0.363
"""Cosine from which OpenCV calls two faces of photographs the same person; the lowest bar of an album."""

HIGHEST_BAR = 0.55

SHARE = 0.62
"""An album's bar, as a share of the usual likeness of a face to its nearest in another photo."""

COPY = 0.97
"""A likeness above this is the same photo once more, and says nothing of other photos."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """A face seen: `photo` is the picture's number, `size` the face's longer side in pixels, `vector` SFace's unit vector [128]."""

    photo: int
    size: float
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class Person:
    """Somebody: the numbers of the sightings, ascending, and in how many photos."""

    sightings: tuple[int, ...]
    photos: tuple[int, ...]


@dataclass(frozen=True)
class People:
    """Everybody in an album, the person in most photos first; `likeness` of each sighting to its person's others, None where there is
    no other; `bar` is the mean likeness from which faces were taken for one person."""

    persons: tuple[Person, ...]
    likeness: Mapping[int, float]
    bar: float

    def of(self, sighting: int) -> int:
        """The number of the person that a sighting shows."""
        return next(number for number, person in enumerate(self.persons) if sighting in person.sightings)


def who_is_who(sightings: Sequence[Sighting]) -> People:
    """Group faces by average linkage, down to the album's bar; of equally many photos the person with the larger faces is first."""
    if not sightings:
        return People((), {}, SAME_PERSON)
    vectors = np.stack([one.vector for one in sightings])
    alike = np.clip(vectors @ vectors.T, -1, 1)
    bar = album_bar(alike, [one.photo for one in sightings])
    groups: dict[int, list[int]] = {}
    for number, group in enumerate(_linked(alike, bar)):
        groups.setdefault(group, []).append(number)

    def prominence(group: list[int]) -> tuple[int, float]:
        return len({sightings[number].photo for number in group}), sum(sightings[number].size for number in group)

    ordered = sorted(groups.values(), key=prominence, reverse=True)
    persons = tuple(Person(tuple(group), tuple(sorted({sightings[number].photo for number in group}))) for group in ordered)
    return People(persons, {number: _to_others(alike, number, group) for group in ordered if len(group) > 1 for number in group}, bar)


def album_bar(alike: NDArray[np.float32], photos: Sequence[int]) -> float:
    """Mean cosine from which faces count as one person, SAME_PERSON..HIGHEST_BAR: SHARE of the median likeness to the nearest face of
    another photo. `alike` [n, n] cosines, `photos` the photo of each face."""
    other = np.not_equal.outer(photos, photos) & (alike < COPY)
    nearest = [float(row[allowed].max()) for row, allowed in zip(alike, other, strict=True) if allowed.any()]
    return float(np.clip(SHARE * np.median(nearest), SAME_PERSON, HIGHEST_BAR)) if nearest else SAME_PERSON


def _linked(alike: NDArray[np.float32], bar: float) -> list[int]:
    if len(alike) == 1:
        return [0]
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    apart = np.clip(1 - alike.astype(np.float64), 0, 2)
    np.fill_diagonal(apart, 0)
    return [int(group) for group in fcluster(linkage(squareform((apart + apart.T) / 2), "average"), 1 - bar, "distance")]


def _to_others(alike: NDArray[np.float32], number: int, group: Sequence[int]) -> float:
    return float(np.mean([alike[number, other] for other in group if other != number]))
