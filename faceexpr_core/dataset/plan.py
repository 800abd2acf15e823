"""What a data set holds: people x scenes x seeds, and in each of these neutral and every expression at every intensity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import FaceExprError
from ..evaluation.plan import Place, Plan
from ..evaluation.records import short_name
from ..measure.picture_score import NEUTRAL
from .people import Candidate, described

SPLITS = ("train", "validation", "test")
REJECTED = "rejected"
MAKING = "making"
"""The folder of what a run keeps for itself."""
JUDGES = ("both", "blendshapes", "classifier")


@dataclass(frozen=True)
class DatasetPlan:
    """`grid`: the arm, expressions, intensities, scenes and seeds. `people`: how many described ones, beside the `learned`. `shares` of
    the people in SPLITS. `same_person`: SFace's cosine to the person's portrait that a picture must reach. `twins`: the cosine from which
    two portraits are of one person. `judge`: one of JUDGES, which says whether a picture shows what was asked."""

    grid: Plan
    people: int
    seed: int
    learned: tuple[Candidate, ...]
    shares: tuple[float, float, float]
    same_person: float
    twins: float
    judge: str

    def __post_init__(self) -> None:
        if self.people < 0 or not self.people + len(self.learned):
            raise FaceExprError("A data set needs people; give --people N, or --lora with files, or both.")
        if not (min(self.shares) >= 0 and abs(sum(self.shares) - 1) <= 1e-3):
            raise FaceExprError(f"The splits' shares are {' '.join(f'{one:g}' for one in self.shares)}; three that add up to 1 are needed.")
        for name, cosine in (("same_person", self.same_person), ("twins", self.twins)):
            if not -1 <= cosine <= 1:
                raise FaceExprError(f"--{name} is {cosine:g}; SFace's cosine lies between -1 and 1.")
        if self.judge == "classifier" and "contempt" in self.grid.expressions:
            raise FaceExprError("The classifier does not know contempt; leave out one of the two.")
        if empty := [name for name, share, count in zip(SPLITS, self.shares, self._sizes(), strict=True) if share and not count]:
            raise FaceExprError(
                f"{self.people + len(self.learned)} people are too few for these splits: {empty[0]} would be empty. Give more people, or "
                "other --splits, such as 0.34 0.33 0.33."
            )

    @property
    def arm_name(self) -> str:
        return self.grid.arms[0].name

    def _sizes(self) -> list[int]:
        given = split_of(len(self.learned) + self.people, self.shares)
        return [given.count(name) for name in SPLITS]

    def described(self, number: int) -> Candidate:
        return described(self.seed, number)

    def portrait(self, one: Candidate) -> Place:
        """Where a person's neutral picture is drawn that all others are compared with."""
        return self.places(one)[0]

    def places(self, one: Candidate) -> list[Place]:
        return [Place(one.name, scene, seed) for scene in self.grid.scenes for seed in one.seeds]


def split_of(people: int, shares: Sequence[float]) -> list[str]:
    """The split of each of so many people, in order: always the one that lacks most of its share, so that more people change nothing."""
    found: list[str] = []
    for number in range(1, people + 1):
        lacking = [share * number - found.count(name) for name, share in zip(SPLITS, shares, strict=True)]
        found.append(SPLITS[lacking.index(max(lacking))])
    return found


def picture_name(place: Place, expression: str, intensity: float) -> str:
    """A file's name in its person's folder. Words of the user's come in as digits: `datasets` tells splits by words in names."""
    scene = hashlib.sha256(place.scene.encode()).hexdigest()[:6]
    shown = NEUTRAL if expression == NEUTRAL else f"{short_name(expression)}_{intensity:g}"
    return f"{scene}_{place.seed}_{shown}.png"


def places_of(plan: DatasetPlan, people: Iterable[Candidate]) -> list[tuple[Candidate, Place]]:
    """Every place of every person, in order."""
    return [(one, place) for one in people for place in plan.places(one)]
