"""What one process does of a data set: it draws and measures what is missing in its places. What is recorded is never done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FaceExprError
from ..evaluation.plan import Place
from ..evaluation.records import Lines, read_all, short_name
from ..evaluation.run import read_picture, write_picture
from ..measure.judges import Judges, Seen
from ..measure.picture_score import NEUTRAL, Asked
from .cast import Cast, portrait, reference_of
from .people import Candidate
from .plan import MAKING, REJECTED, DatasetPlan, picture_name, places_of
from .reading import NO_NEUTRAL, look, measure

if TYPE_CHECKING:
    from ..evaluation.draw import Drawer

Key = tuple[str, str, int, str, float]
"""Person, scene, seed, expression, intensity."""


@dataclass(frozen=True)
class Dataset:
    """`output` is the folder of all that is kept."""

    output: Path
    plan: DatasetPlan

    @property
    def records(self) -> Path:
        return self.output / MAKING / "records"

    def lines(self, place: Place) -> Path:
        return self.records / f"{place.person}_{short_name(place.scene)}_{place.seed}.jsonl"

    def missing(self, place: Place) -> list[tuple[str, float]]:
        """Expressions and intensities that are not recorded there yet."""
        path = self.lines(place)
        known = {(one["expression"], one["asked"]) for one in (Lines(path).values if path.exists() else ())}
        return [one for one in self.plan.grid.wanted() if one not in known]

    def count_missing(self, places: Iterable[Place]) -> int:
        return sum(len(self.missing(place)) for place in places)

    def recorded(self, people: Iterable[Candidate]) -> list[dict[str, Any]]:
        """What the plan asks for of all that is recorded, in the plan's order."""
        order: dict[Key, int] = {}
        for _, place in places_of(self.plan, people):
            for expression, intensity in self.plan.grid.wanted():
                order[place.person, place.scene, place.seed, expression, intensity] = len(order)
        known = {_key(one): one for one in read_all(self.records)}
        return sorted((one for key, one in known.items() if key in order), key=lambda one: order[_key(one)])

    def check_nothing_left_out(self, people: Iterable[Candidate]) -> None:
        """Raise FaceExprError where pictures are recorded that are no longer asked for: they would lie beside those of the data set."""
        people = tuple(people)
        known = read_all(self.records)
        if len(self.recorded(people)) == len({_key(one) for one in known}):
            return
        for what, asked in (
            ("person", {one.name for one in people}),
            ("expression", {name for name, _ in self.plan.grid.wanted()}),
            ("scene", {*self.plan.grid.scenes}),
            ("seed", {seed for one in people for seed in one.seeds}),
            ("asked", {*self.plan.grid.intensities, 1.0}),
        ):
            for one in known:
                if one[what] not in asked:
                    said = "intensity" if what == "asked" else what
                    raise FaceExprError(
                        f"{self.output} holds pictures of the {said} '{one[what]}', which is no longer asked for. Ask for it too, or give "
                        "another --output_dir."
                    )


def draw_place(
    run: Dataset, cast: Cast, one: Candidate, place: Place, drawer: Callable[[], Drawer], judges: Judges, on_picture: Callable[[], None]
) -> None:
    """Draw, measure and record what is missing in a person's place. Raises FaceExprError, and OSError where the disk takes no more."""
    plan = run.plan
    missing = run.missing(place)
    if not missing:
        return
    lines = Lines(run.lines(place))
    arm = plan.grid.arms[0]
    reference = reference_of(run.output, one)
    is_portrait = place == plan.portrait(one)

    def drawn(expression: str, intensity: float) -> tuple[Seen, int]:
        return look(judges, drawer().draw(arm, one.lora, one.person, place, expression, intensity))

    def add(expression: str, intensity: float, seen: Seen, found: Mapping[str, Any]) -> None:
        split = REJECTED if found["reasons"] else cast.splits[one.name]
        path = Path(split) / one.name / picture_name(place, expression, intensity)
        write_picture(run.output / path, seen.picture)
        lines.add(
            {
                "file": path.as_posix(),
                "person": one.name,
                "scene": place.scene,
                "seed": place.seed,
                "expression": expression,
                "asked": intensity,
                **found,
            }
        )
        on_picture()

    kept = next((line for line in lines.values if line["expression"] == NEUTRAL), None)
    if kept is not None:
        neutral, faces = look(judges, read_picture(run.output / kept["file"]))
    elif is_portrait:
        neutral, faces = look(judges, portrait(run.output, one))
    else:
        neutral, faces = drawn(NEUTRAL, 1.0)
    at_rest = measure(neutral, faces, Asked(NEUTRAL), plan.judge, plan.same_person, None if is_portrait else reference, None)
    for expression, intensity in missing:
        if expression == NEUTRAL:
            add(expression, intensity, neutral, at_rest)
            continue
        seen, faces = drawn(expression, intensity)
        found = measure(seen, faces, Asked(expression, intensity), plan.judge, plan.same_person, reference, neutral)
        if at_rest["reasons"]:
            found["reasons"] = [NO_NEUTRAL, *found["reasons"]]
        add(expression, intensity, seen, found)


def _key(one: Mapping[str, Any]) -> Key:
    return one["person"], one["scene"], one["seed"], one["expression"], one["asked"]
