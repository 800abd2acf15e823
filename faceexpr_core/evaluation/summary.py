"""Records as numbers: each measure of each arm, with intervals over people, and the differences of two arms on the same people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..measure import pictures as compared
from ..measure.identity import normalised
from ..measure.picture_score import NEUTRAL
from ..measure.reader import READER_CLASSES
from ..measure.scores import BASIC_SIX, CONFUSED_PAIRS, TWELVE, accuracy, control_linearity, structural_confusion
from ..measure.statistics import Interval, mean_interval, spearman
from ..photos.people import SAME_PERSON
from .records import Record
from .run import read_picture

Records = Sequence[Record]


class Measure(NamedTuple):
    """`of` gives one person's value in one arm, or None where it cannot be said. `better`: 1 where more is better, -1 where less is, 0
    where neither. `says`: its definition for readers."""

    name: str
    title: str
    of: Callable[[Records], float | None]
    better: int
    digits: int
    says: str


@dataclass(frozen=True)
class Row:
    """An arm: each measure's mean over people with its interval, None where it cannot be said. `people` by name: each measure's value."""

    arm: str
    pictures: int
    values: Mapping[str, Interval | None]
    people: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Difference:
    """`arm` less `against`, person by person: each measure's mean with its interval."""

    arm: str
    against: str
    values: Mapping[str, Interval | None]


def measures(output: Path) -> tuple[Measure, ...]:
    """All of them; `output` is where the pictures lie, which diversity compares."""
    right, seen = "pictures at the strongest intensity asked", "of pictures with a face alone"
    return (
        Measure("accuracy_6", "Acc-6, blendshapes", _accuracy("read_of_six", BASIC_SIX), 1, 2,
                f"share of the {right} whose expression, of the basic six, is the one read in the change of MediaPipe's blendshapes "
                "from the arm's neutral picture of the same seed; no face is a miss; by chance 1 in 6"),
        Measure("accuracy_6_classifier", "Acc-6, classifier", _accuracy("classified", BASIC_SIX), 1, 2,
                "the same by a classifier that learned on photographs and sees the picture alone"),
        Measure("accuracy_12", "Acc-12, blendshapes", _accuracy_12, 1, 2,
                "of twelve: the six, contempt and five compounds; only where more than the six were asked"),
        Measure("right_7", "Right of 7", _mean("right", at_strongest=True), 1, 2,
                "as Acc-6, of seven with contempt, for all expressions asked"),
        Measure("right_on_person", "Right on the person", _mean("right_on_person", at_strongest=True), 1, 2,
                "as Right of 7, but as a change from the resting face of the person's photos: a person who always smiles counts here"),
        Measure("confusion", "mSCR, blendshapes", _confusion("read_of_six"), -1, 2,
                "how often fear and surprise, and anger and disgust, are taken for each other"),
        Measure("confusion_classifier", "mSCR, classifier", _confusion("classified"), -1, 2, "the same by the classifier"),
        Measure("linearity", "CLS, blendshapes", _linearity("strength"), 1, 2,
                "Pearson's r between the intensity asked and the one read, of each person, expression, scene and seed; from three "
                "intensities; 0 where a face is missing"),
        Measure("linearity_classifier", "CLS, classifier", _linearity("probability", READER_CLASSES), 1, 2,
                "the same with the classifier's probability"),
        Measure("order", "Order of intensities", intensity_order, 1, 2,
                "Spearman's rank correlation of the intensity asked and the one read by blendshapes; from three intensities; 0 where a "
                "face is missing"),
        Measure("l1", "L1 of blendshapes", _mean("l1"), -1, 3,
                "mean absolute difference of 51 blendshapes from the neutral picture's plus the expression asked; " + seen),
        Measure("units_error", "AU error", _mean("units_error"), -1, 3,
                f"mean absolute error of the strengths of 20 action units; those not asked should not move; {seen}"),
        Measure("likeness", "Likeness, SFace", _mean("likeness", zero=True), 1, 3,
                f"SFace's cosine to the mean of the person's photos; above {SAME_PERSON} photographs are called the same person; real "
                "photographs of one person are at 0.75, nine in ten above 0.6, a quarter above 0.8; no face counts 0"),
        Measure("likeness_scaled", "Likeness, scaled", scaled_likeness, 1, 2,
                "1 as another photo of the person (on renders), 0 as another person or less alike; no face counts 0"),
        Measure("likeness_lost", "Likeness lost", _lost, -1, 3, f"cosine of the neutral picture less that of the expressive ones; {seen}"),
        Measure("expression_score", "Expression score", _mean("expression_score"), 1, 2,
                "cosine and share of the intensity by blendshapes, and the classifier's probability, together (ours)"),
        Measure("hes", "HES", _mean("score"), 1, 2, "harmonic mean of the expression score and the likeness of each picture"),
        Measure("background", "Background change", _mean("background"), -1, 3,
                f"mean change outside the face against the neutral picture of the same seed, of full scale; {seen}"),
        Measure("pose", "Pose change", _mean("pose"), -1, 1, f"degrees by which the head is turned against the same; {seen}"),
        Measure("diversity", "Diversity", lambda records: _diversity(output, records), 0, 3,
                "root mean square difference between pictures of one prompt from different seeds; from two seeds"),
        Measure("face", "Face found", _mean("face"), 1, 2, "share of the pictures"),
    )  # fmt: skip


def summarise(records: Records, arms: Sequence[str], chosen: Sequence[Measure]) -> list[Row]:
    """A row an arm, in their order, with the `chosen` measures."""
    by_arm, rows = grouped(records, "arm"), []
    for arm in (one for one in arms if one in by_arm):
        people = {name: {one.name: one.of(own) for one in chosen} for name, own in grouped(by_arm[arm], "person").items()}
        rows.append(row_of(arm, len(by_arm[arm]), people, chosen))
    return rows


def row_of(arm: str, pictures: int, people: Mapping[str, Mapping[str, float | None]], chosen: Sequence[Measure]) -> Row:
    """The row of an arm, from what each of the `people` has in the `chosen` measures."""
    return Row(arm, pictures, {one.name: _interval([value[one.name] for value in people.values()]) for one in chosen}, people)


def differences(rows: Sequence[Row]) -> list[Difference]:
    """Every arm less every earlier one."""
    found = []
    for number, other in enumerate(rows):
        for row in rows[number + 1 :]:
            both = [name for name in row.people if name in other.people]
            values = {
                name: _interval([_less(row.people[person][name], other.people[person][name]) for person in both]) for name in row.values
            }
            found.append(Difference(row.arm, other.arm, values))
    return found


def by_expression(records: Records, arms: Sequence[str], judge: str) -> dict[str, dict[str, Interval | None]]:
    """Arm -> expression -> share right by a judge (`right` or `right_classifier`) at the strongest intensity, with its interval."""
    found: dict[str, dict[str, Interval | None]] = {}
    by_arm = grouped(records, "arm")
    for arm in arms:
        expressive = grouped([one for one in strongest(by_arm.get(arm, [])) if one["expression"] != NEUTRAL], "expression")
        found[arm] = {
            name: _interval([_mean(judge)(person) for person in grouped(own, "person").values()]) for name, own in expressive.items()
        }
    return found


def by_intensity(records: Records, arms: Sequence[str]) -> dict[str, dict[float, Interval | None]]:
    """Arm -> intensity asked -> intensity read by blendshapes."""
    found: dict[str, dict[float, Interval | None]] = {}
    by_arm = grouped(records, "arm")
    for arm in arms:
        asked = grouped([one for one in by_arm.get(arm, []) if one["strength"] is not None], "intensity")
        found[arm] = {
            intensity: _interval([_mean("strength")(person) for person in grouped(own, "person").values()])
            for intensity, own in sorted(asked.items())
        }
    return found


def grouped(records: Iterable[Record], key: str) -> dict[Any, list[Record]]:
    """The records of each value of `key`, in order."""
    found: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        found[record[key]].append(record)
    return dict(found)


def strongest(records: Records) -> list[Record]:
    """The neutral pictures, and those at the strongest intensity asked."""
    most = max((one["intensity"] for one in records if one["expression"] != NEUTRAL), default=0.0)
    return [one for one in records if one["expression"] == NEUTRAL or one["intensity"] == most]


def _expressive(records: Records) -> list[Record]:
    return [one for one in records if one["expression"] != NEUTRAL]


def _mean(key: str, at_strongest: bool = False, zero: bool = False) -> Callable[[Records], float | None]:
    """The mean over the expressive pictures that have a value; with `zero` one without counts 0."""

    def of(records: Records) -> float | None:
        chosen = _expressive(strongest(records) if at_strongest else records)
        values = [float(one[key] or 0.0) for one in chosen if zero or one[key] is not None]
        return float(np.mean(values)) if values else None

    return of


def _accuracy(key: str, among: Sequence[str]) -> Callable[[Records], float | None]:
    def of(records: Records) -> float | None:
        asked = [one for one in _expressive(strongest(records)) if one["expression"] in among]
        return accuracy([one["expression"] for one in asked], [one[key] for one in asked], among) if asked else None

    return of


def _accuracy_12(records: Records) -> float | None:
    asked = {one["expression"] for one in _expressive(records)}
    return _accuracy("read_of_twelve", TWELVE)(records) if any(name in TWELVE and name not in BASIC_SIX for name in asked) else None


def _confusion(key: str) -> Callable[[Records], float | None]:
    def of(records: Records) -> float | None:
        asked = _expressive(strongest(records))
        names = {one["expression"] for one in asked}
        pairs = [pair for pair in CONFUSED_PAIRS if names >= {*pair}]
        return structural_confusion([one["expression"] for one in asked], [one[key] for one in asked], pairs) if pairs else None

    return of


def _linearity(key: str, among: Sequence[str] = ()) -> Callable[[Records], float | None]:
    def of(records: Records) -> float | None:
        series = _series(records, key, among)
        return control_linearity(series) if series else None

    return of


def intensity_order(records: Records) -> float | None:
    """The mean over expressions, scenes and seeds of Spearman's rank correlation of the intensities asked and read by blendshapes."""
    series = _series(records, "strength")
    return float(np.mean([spearman(asked, read) for asked, read in series])) if series else None


def _series(records: Records, key: str, among: Sequence[str] = ()) -> list[tuple[list[float], list[float]]]:
    """Intensities asked and read (`key`) of each expression (of `among`, if given), scene and seed that has three or more. Where one could
    not be read, for want of a face, the series does not move."""
    series: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for one in _expressive(records):
        if not among or one["expression"] in among:
            series[one["expression"], one["scene"], one["seed"]].append(one)
    found = []
    for own in (own for own in series.values() if len(own) > 2):
        read = [one[key] for one in own]
        found.append(([one["intensity"] for one in own], [0.0] * len(own) if None in read else read))
    return found


def scaled_likeness(records: Records) -> float | None:
    """0 another person, 1 the same, of the expressive pictures. Below 0 is 0, so that no face is never better than any."""
    chosen = _expressive(records)
    return float(np.mean([max(0.0, normalised(one["likeness"])) for one in chosen])) if chosen else None


def _lost(records: Records) -> float | None:
    resting = {(one["scene"], one["seed"]): one["likeness"] for one in records if one["expression"] == NEUTRAL}
    lost = [_less(resting.get((one["scene"], one["seed"])), one["likeness"]) for one in _expressive(records)]
    known = [value for value in lost if value is not None]
    return float(np.mean(known)) if known else None


def _diversity(output: Path, records: Records) -> float | None:
    alike: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for one in strongest(records):
        alike[one["scene"], one["expression"]].append(one)
    sets = [own for own in alike.values() if len(own) > 1]
    return float(np.mean([compared.diversity([read_picture(output / one["picture"]) for one in own]) for own in sets])) if sets else None


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _interval(values: Iterable[float | None]) -> Interval | None:
    known = [[value] for value in values if value is not None]
    return mean_interval(known) if known else None
