"""What one process does of an evaluation: it draws and measures what is missing in its places. What is recorded is not done again, unless
its picture is gone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import replace_file
from ..measure.judges import Judges, Looks, Picture, Seen
from ..measure.picture_score import NEUTRAL, Asked, score_picture
from ..provenance import say_drawn_by_a_model
from .arms import Arm
from .people import Person
from .plan import Place, Plan
from .records import Lines, read_all, read_lines, short_name

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

    from ..photos.subject import Subject

DrawPicture = Callable[[Arm, Path | None, Person, Place, str, float], Picture]
"""`draw.Drawer.draw`, or what draws alike."""

LoraOf = Callable[[str, Arm], Path | None]
"""Person's name and arm -> the LoRA's file, None for an arm without one."""


@dataclass(frozen=True)
class Evaluation:
    """`output` is the folder of all that is kept."""

    output: Path
    plan: Plan
    people: tuple[Person, ...]

    def places(self, rank: int = 0, processes: int = 1) -> list[Place]:
        """Those of one of several processes, shared out so that each has a part of every person."""
        return self.plan.places(tuple(one.name for one in self.people))[rank::processes]

    def missing(self, place: Place) -> dict[Arm, list[tuple[str, float]]]:
        """What is not recorded there yet, or whose picture is gone."""
        lines = [one for one in read_lines(place.records(self.output)) if (self.output / one["picture"]).exists()]
        known = {(one["arm"], one["expression"], one["intensity"]) for one in lines}
        wanted = list(self.plan.wanted())
        lacking = {arm: [one for one in wanted if (arm.name, *one) not in known] for arm in self.plan.arms}
        return {arm: ones for arm, ones in lacking.items() if ones}

    def count_missing(self, places: Sequence[Place]) -> int:
        return sum(len(ones) for place in places for ones in self.missing(place).values())

    def records(self) -> list[dict[str, Any]]:
        """What the plan asks for of all that is recorded, in the plan's order."""
        where = {one.name: number for number, one in enumerate(self.people)}
        arms = {arm.name: number for number, arm in enumerate(self.plan.arms)}
        wanted = {one: number for number, one in enumerate(self.plan.wanted())}
        places = {place: number for number, place in enumerate(self.places())}

        def order(one: Mapping[str, Any]) -> tuple[int, ...] | None:
            found = (
                where.get(one["person"]),
                places.get(Place(one["person"], one["scene"], one["seed"])),
                arms.get(one["arm"]),
                wanted.get((one["expression"], one["intensity"])),
            )
            return None if None in found else tuple(number for number in found if number is not None)

        # by what was asked: two processes that were given the same work each recorded it, the later one over the other's picture
        known = {key: _without_face(one) for one in read_all(self.output / "records") if (key := order(one)) is not None}
        return [known[key] for key in sorted(known)]


def _without_face(record: dict[str, Any]) -> dict[str, Any]:
    """Earlier versions compared what may be half a face with the photos; where no face is found there is no likeness."""
    return record if record["face"] else {**record, "likeness": None}


def person_folder(output: Path, name: str) -> Path:
    return output / "people" / short_name(name)


def keep_person(output: Path, person: Person, subject: Subject, judges: Judges, at_rest: Picture | None = None) -> None:
    """Keep a person's prepared photos, and what the judges make of them (`at_rest` as in `Judges.looks`)."""
    folder = person_folder(output, person.name)
    pictures = [photo.image for photo in subject.photos]
    for number, picture in enumerate(pictures):
        write_picture(folder / f"photo_{number}.png", picture)
    looks = judges.looks(pictures, [photo.face for photo in subject.photos], at_rest)
    about = {"reference": looks.reference.tolist(), "resting": dict(looks.resting), "photos": len(pictures), "report": subject.report}
    replace_file(folder / "person.json", (json.dumps(about) + "\n").encode())


def kept_person(output: Path, name: str) -> Looks | None:
    """What the judges made of a person's photos; None where that is not known yet."""
    about = person_folder(output, name) / "person.json"
    if not about.exists():
        return None
    kept = json.loads(about.read_text(encoding="utf-8"))
    return Looks(np.array(kept["reference"], np.float32), kept["resting"])


def draw_place(
    run: Evaluation,
    place: Place,
    person: Person,
    looks: Looks,
    draw: DrawPicture,
    lora_of: LoraOf,
    judges: Judges,
    on_picture: Callable[[], None],
) -> None:
    """Draw, measure and record what is missing in a place. Raises FaceExprError, and OSError where the disk takes no more."""
    lines = Lines(place.records(run.output))
    neutrals: dict[tuple[Any, ...], Seen] = {}

    def neutral_of(arm: Arm, lora: Path | None) -> Seen:
        """The arm's neutral picture as it is seen, drawn once for all arms that draw it alike."""
        key = (lora, arm.lora_strength, arm.scale)
        if key not in neutrals:
            kept = run.output / place.picture(arm.name, NEUTRAL, 1.0)
            known = any(one["arm"] == arm.name and one["expression"] == NEUTRAL for one in lines.values)
            picture = read_picture(kept) if known and kept.exists() else draw(arm, lora, person, place, NEUTRAL, 1.0)
            neutrals[key] = judges.see(picture)
        return neutrals[key]

    for arm, wanted in run.missing(place).items():
        lora = lora_of(person.name, arm)
        neutral = neutral_of(arm, lora)
        for expression, intensity in wanted:
            at_rest = expression == NEUTRAL
            seen = neutral if at_rest else judges.see(draw(arm, lora, person, place, expression, intensity))
            score = score_picture(seen, Asked(expression, intensity), looks, None if at_rest else neutral)
            path = place.picture(arm.name, expression, intensity)
            write_drawn(run.output / path, seen.picture)
            where = {"person": person.name, "arm": arm.name, "scene": place.scene, "seed": place.seed}
            lines.add({**where, "expression": expression, "intensity": intensity, **asdict(score), "picture": path.as_posix()})
            on_picture()


def write_drawn(path: Path, picture: Picture) -> None:
    """`write_picture` of what a model drew, which the file says."""
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    say_drawn_by_a_model(texts)
    write_picture(path, picture, texts)


def write_picture(path: Path, picture: Picture, texts: PngInfo | None = None) -> None:
    """A PNG file, whole or not at all."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", pnginfo=texts)
    replace_file(path, stream.getvalue())


def read_picture(path: Path) -> Picture:
    """uint8 [H, W, 3]."""
    from PIL import Image

    with Image.open(path) as opened:
        return np.array(opened.convert("RGB"))
