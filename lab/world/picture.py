"""One call for a picture with its truth: identity's seed, picture's seed, expression -> pixels, parts, caption, attributes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .assets import Parts
from .captions import caption
from .expressions import Shown, weights_of
from .identity import Person, person_of
from .render import default_parts, draw
from .scene import Outfit, Scene, outfit_of, scene_of

WEIGHT_JITTER = (0.88, 1.06)
FRECKLES_SEEN = 0.45


class Picture(NamedTuple):
    image: np.ndarray  # uint8 [size, size, 3] RGB
    parts: np.ndarray  # uint8 [size, size], body.PART_...
    caption: str
    attributes: dict[str, Any]


def picture(identity: int, number: int, shown: Shown, size: int = 192, parts: Parts | None = None, **scene: Any) -> Picture:
    """Picture `number` of a person showing something. Keywords (`yaw=0.0`, `background="grey"` ...) replace fields of the random scene.

    The same arguments give the same pixels. Raises FaceExprError for unknown action units and where the parts folder is not given or
    incomplete, KeyError for an unknown expression, TypeError for a keyword that is no field of Scene.
    """
    person = person_of(identity)
    rng = np.random.default_rng([21, identity, number])
    outfit, chosen = outfit_of(person, rng), replace(scene_of(rng), **scene)
    weights = {unit: round(weight * float(rng.uniform(*WEIGHT_JITTER)), 4) for unit, weight in weights_of(shown).items()}
    image, found = draw(person, outfit, weights, chosen, size, parts or default_parts())
    attributes = attributes_of(person, outfit, chosen, shown, weights, number)
    return Picture(image, found, caption(attributes, rng), attributes)


def attributes_of(person: Person, outfit: Outfit, scene: Scene, shown: Shown, weights: dict[str, float], number: int) -> dict[str, Any]:
    """What is known of a picture, ready for JSON; captions are made of it."""
    return {
        "identity": person.seed, "number": number, "expression": shown.expression,
        "intensity": 0.0 if shown.expression == "neutral" else round(shown.intensity, 3), "action_units": list(shown.action_units),
        "weights": weights, "age": person.age, "gender": person.gender, "skin": person.skin, "hair": person.hair,
        "hair_style": person.style_word, "eyes": person.eyes, "beard": person.beard, "freckles": person.freckles > FRECKLES_SEEN,
        "glasses": outfit.glasses, "hat": outfit.cover, "hat_colour": outfit.cover_word, "earrings": outfit.earrings,
        "clothes": outfit.garment_words, "background": scene.background, "light": scene.light_word, "yaw": round(scene.yaw, 2),
        "pitch": round(scene.pitch, 2), "roll": round(scene.roll, 2), "scale": round(scene.scale, 3),
        "gaze": [round(g, 3) for g in scene.gaze],
    }
