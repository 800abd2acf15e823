"""Who comes in: candidates one after the other, each by its portrait; who has another's face is passed over and told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceExprError
from ..evaluation.run import read_picture, write_drawn
from ..files import replace_file
from ..measure.judges import Judges, Picture
from ..measure.picture_score import NEUTRAL, Asked
from .people import SPARE, TRIES, Candidate
from .plan import MAKING, SPLITS, DatasetPlan, split_of
from .reading import TWIN, look, measure

WHO = "who"
"""Under which a portrait's file says whom it shows."""


@dataclass(frozen=True)
class Cast:
    """`splits`: who comes in, by name, with the split. `refused`: the others, with the columns of `reading.measure` and the reason.
    `unknown`: who has to be seen before more can be said."""

    people: tuple[Candidate, ...]
    splits: Mapping[str, str]
    refused: tuple[tuple[Candidate, Mapping[str, Any]], ...]
    unknown: tuple[Candidate, ...]


def portrait_file(output: Path, one: Candidate) -> Path:
    return output / MAKING / "portraits" / f"{one.name}.png"


def keep_portrait(output: Path, plan: DatasetPlan, one: Candidate, draw: Callable[[], Picture], judges: Judges) -> None:
    """Draw a candidate's portrait and keep it with what is measured in it."""
    picture = draw()
    write_drawn(portrait_file(output, one), picture)
    seen, faces = look(judges, picture)
    found = measure(seen, faces, Asked(NEUTRAL), plan.judge, plan.same_person, None, None)
    kept = {**found, "vector": None if seen.vector is None else seen.vector.tolist(), WHO: one.meaning}
    replace_file(portrait_file(output, one).with_suffix(".json"), (json.dumps(kept) + "\n").encode())


def kept_portrait(output: Path, one: Candidate) -> dict[str, Any] | None:
    """What was measured in a portrait, with `vector`, SFace's unit vector [128]; None where it was not drawn yet. Raises FaceExprError
    for a portrait of somebody else by the same name."""
    file = portrait_file(output, one).with_suffix(".json")
    if not file.exists():
        return None
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if (was := kept.pop(WHO, None)) != one.meaning:
        raise FaceExprError(
            f"{output} holds pictures of another {one.name}: there it is {was or 'not said who'}, here {one.meaning}; give another "
            "--output_dir."
        )
    return kept


def reference_of(output: Path, one: Candidate) -> np.ndarray:
    """SFace's unit vector [128] of the portrait of one who came in."""
    kept = kept_portrait(output, one)
    assert kept is not None
    return np.array(kept["vector"], np.float32)


def portrait(output: Path, one: Candidate) -> Picture:
    return read_picture(portrait_file(output, one))


def choose(output: Path, plan: DatasetPlan) -> Cast:
    """The people, as far as the portraits that there are tell. The same portraits give the same people, and more people to be found leave
    those before as they are. Raises FaceExprError where too few of the candidates are left."""
    chosen: list[tuple[Candidate, np.ndarray]] = []
    refused: list[tuple[Candidate, Mapping[str, Any]]] = []
    unknown: list[Candidate] = []

    def take(one: Candidate) -> None:
        kept = kept_portrait(output, one)
        if kept is None:
            unknown.append(one)
            return
        reasons, vector = list(kept["reasons"]), np.array(kept.pop("vector") or [], np.float32)
        if not reasons and (twin := _twin(vector, chosen, plan.twins)):
            reasons.append(f"{TWIN}, {twin}")
        if reasons:
            refused.append((one, {**kept, "reasons": reasons}))
        else:
            chosen.append((one, vector))

    for one in plan.learned:
        take(one)
    learned = len(chosen)
    number = 0
    while not unknown and len(chosen) - learned < plan.people:
        if number >= TRIES * plan.people + SPARE:
            raise FaceExprError(_too_few(plan, len(chosen) - learned, number, refused))
        missing = plan.people - (len(chosen) - learned)
        for following in range(number, number + missing):
            take(plan.described(following))
        number += missing
    people = tuple(one for one, _ in chosen)
    splits = {one.name: split for one, split in zip(people, split_of(len(people), plan.shares), strict=True)}
    return Cast(people, splits, tuple(refused), tuple(unknown))


def check_splits(plan: DatasetPlan, cast: Cast) -> None:
    """Raise FaceExprError where a split that was asked for has nobody."""
    there = {*cast.splits.values()}
    if empty := [name for name, share in zip(SPLITS, plan.shares, strict=True) if share and name not in there]:
        raise FaceExprError(
            f"of the people that came in none is left for {empty[0]}; give more people, or other --splits. {_told(cast.refused)}"
        )


def closest_pair(output: Path, cast: Cast) -> tuple[str, str, float] | None:
    """The two people of different splits whose portraits are most alike, and SFace's cosine."""
    if len({*cast.splits.values()}) < 2:
        return None
    vectors = np.stack([reference_of(output, one) for one in cast.people])
    splits = np.array([SPLITS.index(cast.splits[one.name]) for one in cast.people])
    alike = np.where(splits[:, None] == splits[None], -np.inf, vectors @ vectors.T)
    first, second = np.unravel_index(int(alike.argmax()), alike.shape)
    return cast.people[first].name, cast.people[second].name, float(alike[first, second])


def _twin(vector: np.ndarray, chosen: Sequence[tuple[Candidate, np.ndarray]], limit: float) -> str:
    alike = max(((float(vector @ other), one.name) for one, other in chosen), default=(-1.0, ""))
    return f"{alike[1]} ({alike[0]:.2f})" if alike[0] >= limit else ""


def _too_few(plan: DatasetPlan, found: int, tried: int, refused: Sequence[tuple[Candidate, Mapping[str, Any]]]) -> str:
    return (
        f"of {tried} people described only {found} could be used, {plan.people} were asked for. {_told(refused)} "
        f"Ask for fewer --people, give a higher --twins than {plan.twins:g}, or a --judge that is less strict."
    )


def _told(refused: Sequence[tuple[Candidate, Mapping[str, Any]]]) -> str:
    counts: dict[str, int] = {}
    for _, kept in refused:
        reason = kept["reasons"][0].split(",")[0]
        counts[reason] = counts.get(reason, 0) + 1
    return "Refused: " + ("; ".join(f"{reason} {count}" for reason, count in counts.items()) or "none") + "."
