"""What one process does of a data set: it draws and measures what is missing in its places. What is recorded is never done again; what was
deleted by hand stays out of the data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FaceExprError
from ..evaluation.plan import Place
from ..evaluation.records import Lines, read_lines, short_name
from ..evaluation.run import read_picture, write_drawn
from ..measure.judges import Judges, Seen
from ..measure.picture_score import NEUTRAL, Asked
from .cast import Cast, portrait, reference_of
from .people import Candidate
from .plan import MAKING, REJECTED, DatasetPlan, picture_name, places_of
from .reading import NO_NEUTRAL, look, measure

if TYPE_CHECKING:
    from ..evaluation.draw import Drawer


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
        known = {(one["expression"], one["asked"]) for one in read_lines(self.lines(place))}
        return [one for one in self.plan.grid.wanted() if one not in known]

    def count_missing(self, places: Iterable[Place]) -> int:
        return sum(len(self.missing(place)) for place in places)

    def recorded(self, people: Iterable[Candidate]) -> Iterator[dict[str, Any]]:
        """What the plan asks for of all that is recorded and whose picture still lies there, in the plan's order, a place at a time."""
        return (one for one in self._asked_for(people) if (self.output / one["file"]).exists())

    def count_gone(self, people: Iterable[Candidate]) -> int:
        """Pictures that were recorded, and that somebody deleted or moved since."""
        return sum(not (self.output / one["file"]).exists() for one in self._asked_for(people))

    def _asked_for(self, people: Iterable[Candidate]) -> Iterator[dict[str, Any]]:
        wanted = list(self.plan.grid.wanted())
        for _, place in places_of(self.plan, people):
            known = {(one["expression"], one["asked"]): one for one in read_lines(self.lines(place))}
            yield from (known[one] for one in wanted if one in known)

    def check_nothing_left_out(self, people: Iterable[Candidate]) -> None:
        """Raise FaceExprError where pictures are recorded that are no longer asked for: they would lie beside those of the data set."""
        wanted, places = {*self.plan.grid.wanted()}, {place for _, place in places_of(self.plan, people)}
        for path in sorted(self.records.glob("*.jsonl")):
            for one in read_lines(path):
                place, shown = Place(one["person"], one["scene"], one["seed"]), (one["expression"], one["asked"])
                if place not in places or shown not in wanted:
                    raise FaceExprError(
                        f"{self.output} holds a picture that is no longer asked for: {place.person} in '{place.scene}' from seed "
                        f"{place.seed}, {shown[0]} at intensity {shown[1]:g}. Ask for all of it that was asked for before, or give "
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
        write_drawn(run.output / path, seen.picture)
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
    if kept is not None and (run.output / kept["file"]).exists():
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
