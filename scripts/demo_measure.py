"""What the demo's pictures show, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from comfy_process import models_path
from demo_graph import ARMS, EXPRESSIONS, NEUTRAL, STRANGER, STRENGTHS, STRONGER, WORDS
from numpy.typing import NDArray

from faceexpr_core.faces.detector import Face, FaceDetector
from faceexpr_core.measure.action_units import moved_units
from faceexpr_core.measure.expression import CLASSES, ExpressionMeter, intensity_of, measured_as
from faceexpr_core.measure.identity import IdentityMeter, normalised
from faceexpr_core.measure.statistics import spearman

NOTE = (
    "Expression: nearest class of the change of MediaPipe's blendshapes from the neutral picture of the same noise; shocked is no class of "
    "its own and counts as surprised. Identity: SFace similarity to the photos, 0 = another person, 1 = another photo of the same person, "
    "null = no face found. Strength: of the asked expression in the change from the neutral picture, 1 a usual full one; rho is its rank "
    "correlation (Spearman) with what was asked. Moved: action units read out of that change, from a quarter of their full strength on."
)
Picture = NDArray[np.uint8]


def measure(photos: Sequence[Picture], pictures: Mapping[str, Mapping[str, Picture]]) -> dict[str, Any]:
    """Expression of each cell against the neutral picture of the same noise, and its likeness to the photos; then the totals."""
    folders = [models_path()]
    with FaceDetector(folders) as detector:
        expression_meter, identity_meter = ExpressionMeter(folders, detector), IdentityMeter(folders, detector)
        person = identity_meter.reference(photos)

        def likeness(drawn: Picture) -> dict[str, float | None]:
            similarity = identity_meter.similarity(drawn, person)
            rounded = None if similarity is None else round(similarity, 3)
            return {"identity": None if similarity is None else round(normalised(similarity), 3), "sface_cosine": rounded}

        cells = []
        for arm in ARMS:
            neutral = expression_meter.face(pictures[arm][NEUTRAL])
            for asked in EXPRESSIONS:
                reading = expression_meter.measure(pictures[arm][asked], neutral)
                about = {"arm": arm, "asked": asked, "counts_as": measured_as(asked), "measured": reading.expression}
                read = {"right": reading.hits(asked), "intensity": round(reading.intensity, 3)}
                cells.append({**about, **read, **likeness(pictures[arm][asked])})
        resting = expression_meter.face(pictures["with_lora"][NEUTRAL])
        strips = {row: {name: expression_meter.face(one) for name, one in pictures[row].items()} for row in (*WORDS, STRANGER)}
        blends = {name: (expression_meter.measure(face, resting), pictures["blend"][name]) for name, face in strips["blend"].items()}
        stranger = expression_meter.measure(strips[STRANGER]["person"], resting)
        return {
            "model": "FaceExpr Mini",
            "photos": len(photos),
            "classes": list(CLASSES),
            "note": NOTE,
            "cells": cells,
            "totals": {arm: totals([cell for cell in cells if cell["arm"] == arm]) for arm in ARMS},
            "strength": _strength(list(strips["strength"].values()), resting),
            "units": [{"asked": units, "moved": _moved(face, resting)} for units, face in strips["units"].items()],
            "blend": [{"asked": name, "measured": read.expression, **likeness(one)} for name, (read, one) in blends.items()],
            STRANGER: {"measured": stranger.expression, "right": stranger.hits("happy"), **likeness(pictures[STRANGER]["person"])},
        }


def _strength(faces: Sequence[Face | None], resting: Face | None) -> dict[str, Any]:
    """A face that is not found counts as no expression."""
    found = [round(intensity_of(face, resting, STRONGER), 3) if face and resting else 0.0 for face in faces]
    return {"asked": list(STRENGTHS), "measured": found, "rho": round(spearman(list(STRENGTHS), found), 3)}


def _moved(face: Face | None, resting: Face | None) -> list[str]:
    return list(moved_units(face.blendshapes, resting.blendshapes)) if face and resting else []


def totals(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over the cells of one arm; a cell without a face counts as likeness 0."""
    return {
        "cells": len(cells),
        "faces_found": sum(cell["identity"] is not None for cell in cells),
        "expressions_right": sum(cell["right"] for cell in cells),
        "identity": round(sum(cell["identity"] or 0.0 for cell in cells) / len(cells), 3),
    }
