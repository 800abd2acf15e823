"""What an evaluation draws: people x scenes x seeds, and in each of these every arm with every expression at every intensity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import FaceExprError
from ..expressions import canonical_name
from ..measure.picture_score import NEUTRAL
from .arms import Arm
from .records import short_name

PERSON = "{person}"
"""Stands for the person's words in a scene's prompt."""


@dataclass(frozen=True)
class Plan:
    """`scenes` are prompts that hold `{person}`. Every expression of `expressions` comes at every one of `intensities` (rising), and
    neutral once; they may be spelled as `canonical_name` takes them, and are kept as it gives them. The same `seeds` in all arms."""

    arms: tuple[Arm, ...]
    expressions: tuple[str, ...]
    intensities: tuple[float, ...]
    scenes: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "expressions", tuple(dict.fromkeys(map(canonical_name, self.expressions))))
        if NEUTRAL in self.expressions or not self.expressions:
            given = " ".join(self.expressions)
            raise FaceExprError(f"The expressions are '{given}'; give one or more, without neutral, which is always drawn.")
        if not self.intensities or not all(0 < one <= 1.5 for one in self.intensities):
            raise FaceExprError(f"The intensities are {self.intensities}; give one or more above 0 and up to 1.5.")
        if missing := [scene for scene in self.scenes if PERSON not in scene]:
            raise FaceExprError(f"The scene '{missing[0]}' does not say where the person goes; write {PERSON} there.")
        for words in (*(arm.name for arm in self.arms), *self.scenes):
            if words != (shown := words.encode("utf-8", "replace").decode("utf-8")):
                raise FaceExprError(f"'{shown}' is no UTF-8, so that no page could show it. Write it, and files that it names, in UTF-8.")
        if not self.scenes or not self.seeds:
            raise FaceExprError("An evaluation needs at least one scene and one seed.")

    def wanted(self) -> Iterator[tuple[str, float]]:
        """Expression and intensity of each picture of an arm in one place, the neutral one first."""
        yield NEUTRAL, 1.0
        for name in self.expressions:
            yield from ((name, intensity) for intensity in self.intensities)

    def places(self, people: tuple[str, ...]) -> list[Place]:
        return [Place(person, scene, seed) for person in people for scene in self.scenes for seed in self.seeds]


@dataclass(frozen=True)
class Place:
    """One person in one scene from one seed: what one process draws, and one file of records."""

    person: str
    scene: str
    seed: int

    def records(self, output: Path) -> Path:
        return output / "records" / f"{short_name(self.person)}_{short_name(self.scene)}_{self.seed}.jsonl"

    def picture(self, arm: str, expression: str, intensity: float) -> Path:
        """Where a picture lies, from the output folder."""
        name = f"{short_name(self.scene)}_{self.seed}_{short_name(expression)}_{intensity:g}.png"
        return Path("pictures") / short_name(self.person) / short_name(arm) / name
