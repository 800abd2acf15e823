"""Whether a picture shows the person, and not the photos that were learned: SFace to photos of the person that nothing learned.

They have other clothes, light, poses and expressions. A LoRA that repeats its photos is near to those and less near to these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceexpr_core.evaluation.plan import Place
from faceexpr_core.evaluation.records import Lines, read_all
from faceexpr_core.evaluation.run import read_picture
from faceexpr_core.evaluation.summary import Records
from faceexpr_core.measure.identity import IdentityMeter

from .albums import MIXED

UNSEEN = "unseen"
_KEYS = ("person", "scene", "seed", "arm", "expression", "intensity")


def unseen_album(album: str) -> str:
    """The photos that are compared with where those of `album` were learned."""
    return MIXED if album != MIXED else "lively"


def compare_unseen(output: Path, place: Place, records: Records, reference: NDArray[np.float32], meter: IdentityMeter) -> int:
    """Keep the cosine of every recorded picture of a place to the unseen photos' mean; how many were new."""
    lines = Lines(output / UNSEEN / place.records(output).name)
    known = {_key(one) for one in lines.values}
    new = [one for one in records if (one["person"], one["scene"], one["seed"]) == (place.person, place.scene, place.seed)]
    new = [one for one in new if _key(one) not in known]
    for one in new:
        similarity = meter.similarity(read_picture(output / one["picture"]), reference)
        lines.add({**{key: one[key] for key in _KEYS}, UNSEEN: similarity})
    return len(new)


def with_unseen(output: Path, records: Records) -> Sequence[dict[str, Any]]:
    """The records with `unseen`, None without a face; those not compared yet have no such key."""
    known = {_key(one): one[UNSEEN] for one in read_all(output / UNSEEN)}
    return [{**one, UNSEEN: known[_key(one)]} if _key(one) in known else dict(one) for one in records]


def _key(record: Any) -> tuple[Any, ...]:
    return tuple(record[key] for key in _KEYS)
