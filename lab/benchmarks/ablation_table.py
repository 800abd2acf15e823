"""The ablation's records as Markdown: a line an arm, then what each part does and whether it harms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.evaluation.plan import Place
from faceexpr_core.evaluation.run import read_picture
from faceexpr_core.evaluation.summary import Difference, Measure, Records, Row, differences, grouped, intensity_order, strongest
from faceexpr_core.measure.expression import CLASSES
from faceexpr_core.measure.identity import normalised
from faceexpr_core.measure.judges import Picture
from faceexpr_core.measure.picture_score import NEUTRAL
from faceexpr_core.measure.statistics import Interval

from . import summary
from .ablation_arms import ARMS, PARTS
from .ablation_unseen import UNSEEN

HARM = 0.03
"""By so much a part may be worse in a measure, on average over people, without being said to harm."""
HARM_SHARE = 0.2
"""The same of the background, as a share of what it is without the part: its numbers are a tenth as large as the others'."""
LEAST_PEOPLE = 5
"""Of fewer people nothing is said."""
COMMON_STRENGTH = 0.5
"""Of an expression, at which arms are compared: one that shows less of it keeps more of the person, whatever else it does."""

PARTS_LEGEND = (
    "What each part changes, on the same people and noise. effect: measures whose interval lies on the good side of 0. harm: measures "
    f"that are worse by more than {HARM:g} on average, the background by {HARM_SHARE:g} of what it is without the part, with (?) where the "
    "interval holds 0. Not judged: how strong the expression is, and "
    "both kept, identity, unseen, SFace and leak, which follow from that; drift, whose size counts (moved)."
)


def _mean(of: Callable[[Any], float | None], neutral: bool = False) -> Callable[[Records], float | None]:
    """Over the pictures at full strength, and with `neutral` the neutral ones too."""

    def measured(records: Records) -> float | None:
        chosen = [one for one in strongest(records) if neutral or one["expression"] != NEUTRAL]
        values = [value for one in chosen if (value := of(one)) is not None]
        return float(np.mean(values)) if values else None

    return measured


def _at_strength(records: Records, of: Callable[[Any], float | None]) -> float | None:
    """`of` where the expression read is COMMON_STRENGTH, on the line through neutral and the intensities asked, each the mean over its
    pictures; None where it is never so strong."""
    steps = grouped([{**one, "asked": 0.0 if one["expression"] == NEUTRAL else one["intensity"]} for one in records], "asked")
    points = []
    for asked, own in steps.items():
        read = [one["strength"] for one in own if one["strength"] is not None]
        values = [value for one in own if (value := of(one)) is not None]
        if values and (read or not asked):
            points.append((float(np.mean(read)) if asked else 0.0, float(np.mean(values))))
    if len(points) < 2 or max(points)[0] < COMMON_STRENGTH:
        return None
    strengths, found = zip(*sorted(points), strict=True)
    return float(np.interp(COMMON_STRENGTH, strengths, found))


def _identity_at_strength(records: Records) -> float | None:
    """Scaled identity to unseen photos; None where pictures were not compared with them."""
    if any(UNSEEN not in one for one in records):
        return None
    return _at_strength(records, lambda one: normalised(one[UNSEEN]))


def _kept_at_strength(records: Records) -> float | None:
    alike = _identity_at_strength(records)
    resting = [normalised(one[UNSEEN]) for one in records if one["expression"] == NEUTRAL and UNSEEN in one]
    return None if alike is None or not resting else alike - float(np.mean(resting))


def _changed(what: str) -> Callable[[Any], float | None]:
    """What is compared with the neutral picture of the same noise, which is that itself."""
    return lambda one: 0.0 if one["expression"] == NEUTRAL else one[what]


def _kept(records: Records) -> float | None:
    resting = {(one["scene"], one["seed"]): normalised(one["likeness"]) for one in records if one["expression"] == NEUTRAL}
    return _mean(lambda one: normalised(one["likeness"]) - resting[one["scene"], one["seed"]])(records)


def _share(right: bool | None) -> float | None:
    return None if right is None else float(right)


_drift = _mean(lambda one: one.get("drift"), neutral=True)


def _moved(records: Records) -> float | None:
    drift = _drift(records)
    return None if drift is None else abs(drift)


MEASURES = (
    Measure("right", "right", _mean(lambda one: float(bool(one["right"]))), 1, 2,
            "of seven expressions at full strength, the change of blendshapes from the arm's neutral picture of the same noise is read as "
            "the one asked; no face is a miss"),
    Measure("on the person", "on the person", _mean(lambda one: float(bool(one["right_on_person"])), neutral=True), 1, 2,
            "of eight with neutral, the change from the resting face of the person's photos is"),
    Measure("strength", "strength", _mean(lambda one: one["strength"]), 0, 2,
            "how strong the expression asked is, 1 as a usual full one"),
    Measure("kept", "kept", _kept, 0, 2,
            "identity less that of the same LoRA's neutral picture of the same noise; 0: the expression costs nothing"),
    Measure("identity", "identity", _mean(lambda one: normalised(one["likeness"])), 0, 2,
            "SFace to the learned photos, 0 another person, 1 another photo; no face counts 0"),
    Measure("unseen", "unseen", _mean(lambda one: normalised(one[UNSEEN]) if UNSEEN in one else None), 0, 2,
            "the same to other photos of the person, which nothing learned"),
    Measure("alike", f"identity at {COMMON_STRENGTH:g}", _identity_at_strength, 1, 2,
            f"to the unseen photos too, where the expression is {COMMON_STRENGTH:g} strong, between the intensities asked: arms compared "
            "at one strength"),
    Measure("kept alike", f"kept at {COMMON_STRENGTH:g}", _kept_at_strength, 0, 2,
            "that less the neutral pictures' to the same photos"),
    Measure("background", f"background at {COMMON_STRENGTH:g}", lambda records: _at_strength(records, _changed("background")), -1, 3,
            "change of the pixels outside the face against the arm's neutral picture of the same noise, 0..1, at that strength"),
    Measure("pose", f"pose at {COMMON_STRENGTH:g}", lambda records: _at_strength(records, _changed("pose")), 0, 2,
            "degrees by which the head turns against that picture, at that strength"),
    Measure("order", "order", intensity_order, 1, 2,
            "Spearman's rank correlation of the intensities asked and read, of each expression and noise"),
    Measure("leak", "leak", _mean(lambda one: one.get("leak")), 0, 3,
            "SFace nearer than the arm's neutral picture to what the model without the LoRA draws of the same words and noise; words alone "
            "have it too, so that a fusion's own is its difference from the same LoRA's words"),
    Measure("SFace", "SFace", _mean(lambda one: float(one["likeness"] or 0.0)), 0, 3,
            "mean cosine to the learned photos; no face counts 0"),
    Measure("class", "class", _mean(lambda one: _share(one.get("class_right"))), 1, 2,
            "right, of the class asked for without the trigger word, by text, with the arm's LoRA"),
    Measure("drift", "drift", _drift, 0, 3,
            "SFace of such a face to the learned photos less that of the model without the LoRA, from the same noise; 0: the class was "
            "kept, below: pushed away from the person"),
    Measure("moved", "moved", _moved, -1, 3, "the size of each person's drift, whichever way"),
    Measure("face", "face", _mean(lambda one: float(one["face"]), neutral=True), 1, 2, "share of the pictures in which a face was found"),
)  # fmt: skip


def table(rows: Sequence[Row], command: str) -> str:
    """Markdown of the arms of these rows, which have MEASURES."""
    row_of = {row.arm: row for row in rows}
    titles = [one.title for one in MEASURES]
    says = " ".join(f"{one.title}: {one.says}." for one in MEASURES)
    lines = [f"`{command}`", "", f"{says} [95 % bootstrap intervals over people].", ""]
    lines += table_head(["arm", "pictures", *titles])
    for row in rows:
        cells = [_cell(row.values[one.name], one, _lacking(one, row.people)) for one in MEASURES]
        lines.append(table_line([f"`{row.arm}`", f"{row.pictures}", *cells]))
    lines += ["", PARTS_LEGEND, "", *table_head(["part", "", "with / without", *titles, "effect", "harm"])]
    for part in PARTS:
        for kind, (have, lack) in part.pairs():
            if (found := difference_of(rows, have, lack)) is not None:
                shared = sorted({*row_of[have].people} & {*row_of[lack].people})
                own = [{name: row_of[arm].people[name] for name in shared} for arm in (have, lack)]
                cells = [_cell(found.values[one.name], one, _lacking(one, *own), signed=True) for one in MEASURES]
                known = {one.name: found.values[one.name] if _known(one, *own) >= LEAST_PEOPLE else None for one in MEASURES}
                judged = replace(found, values=known)
                enough = len(shared) >= LEAST_PEOPLE
                said = [_told(effects(judged)), _told(harms(judged, row_of[lack]))] if enough else ["too few people"] * 2
                lines.append(table_line([part.name, kind, f"`{have}` / `{lack}`", *cells, *said]))
    lines += ["", *(f"- `{name}`: `{ARMS[name]}`" for name in row_of if name in ARMS)]
    return "\n".join(lines) + "\n"


def difference_of(rows: Sequence[Row], have: str, lack: str) -> Difference | None:
    """The arm `have` less `lack`; None where one of them is not there."""
    by_name = {row.arm: row for row in rows}
    return differences([by_name[lack], by_name[have]])[0] if have in by_name and lack in by_name else None


def effects(found: Difference) -> list[str]:
    """Measures in which the interval lies wholly on the good side of 0."""
    return [one.title for one, value in _judged(found) if (value.low > 0 if one.better > 0 else value.high < 0)]


def harms(found: Difference, without: Row) -> list[str]:
    """Measures in which the mean is worse by more than HARM, or HARM_SHARE of what it is in the arm `without` the part, with (?) where the
    interval holds 0."""
    worse = [(one, value) for one, value in _judged(found) if one.better * value.mean < -_limit(one, without)]
    return [one.title if value.low * value.high > 0 else f"{one.title} (?)" for one, value in worse]


def _limit(one: Measure, without: Row) -> float:
    before = without.values[one.name]
    return HARM if one.name != "background" or before is None else HARM_SHARE * before.mean


def _lacking(one: Measure, *people: Mapping[str, Mapping[str, float | None]]) -> str:
    """Of how many people a mean is, where the measure is not known of all of them."""
    known = _known(one, *people)
    return "" if known in (0, len(people[0])) else f" (of {known})"


def _known(one: Measure, *people: Mapping[str, Mapping[str, float | None]]) -> int:
    """Of how many people a measure is known in each of these."""
    return sum(all(own[name].get(one.name) is not None for own in people) for name in people[0])


def _judged(found: Difference) -> list[tuple[Measure, Interval]]:
    return [(one, value) for one in MEASURES if one.better and (value := found.values[one.name]) is not None]


def _told(titles: Sequence[str]) -> str:
    return ", ".join(titles) or "none"


def _cell(value: Any, measure: Measure, of: str, signed: bool = False) -> str:
    return f"{summary.cell(value, measure.title, signed, measure.digits)}{of}"


def sheet(output: Path, records: Records, names: Sequence[str], people: int = 2) -> Image.Image:
    """Neutral and every expression at full strength of the first people from their first noise, a row an arm."""
    rows: list[tuple[str, list[Picture]]] = []
    for person, own in list(grouped(records, "person").items())[:people]:
        place = Place(person, own[0]["scene"], own[0]["seed"])
        drawn = {(one["arm"], one["expression"]): one["picture"] for one in strongest(own) if one["seed"] == place.seed}
        for name in names:
            pictures = [read_picture(output / drawn[name, one]) for one in (NEUTRAL, *CLASSES) if (name, one) in drawn]
            if pictures:
                rows.append((f"{person}: {name}", pictures))
    return summary.page_of(rows, (NEUTRAL, *CLASSES))
