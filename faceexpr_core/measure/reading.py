"""Which expression a photo shows, read by two judges that learned on different pictures (ours).

The classifier of `reader.py` learned on photographs and says which expression; the blendshapes, whose prototypes were fitted on renders,
say how strong it is and which action units moved, and are the only ones that know contempt. An expression is named where both together
are sure of it and the classifier does not contradict it (`SUPPORT`); else nothing is named, since a wrong caption teaches a person wrongly.

How sure they are: of each class k,

    log P(k) = log(p_k + ALLOWANCE) + SHARPNESS min(a_k, 1) c_k + constant

with the classifier's probability p_k, and the change of the blendshapes from the person's resting face: its cosine c_k to the prototype
of k, and its length a_k along it (1 = a usual full expression). For neutral the second term is SHARPNESS times NEUTRAL_LEVEL. It is a
product of the two opinions (Hinton, "Training products of experts", 2002), the second one's after the density of directions of
von Mises and Fisher. All the numbers below were chosen together, on renders of tuning people of `lab/world`
(`lab/benchmarks/caption_precision.py`) and of an older world, plainer, with resting faces of all kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .action_units import MOVED, moved_units, one_sidedness
from .expression import CLASSES, along_prototypes, blendshape_vector, prototypes, read_change
from .reader import READER_CLASSES, Judgement

READ_CLASSES = ("neutral", *CLASSES)
"""What a photo can be read as."""

ALLOWANCE = 0.1
"""Added to the classifier's probabilities, so that it never excludes a class by its sureness alone."""

SHARPNESS = 20.0
"""Weight of the blendshapes' opinion: half of a usual full expression, at a cosine of 0.6, is e^3 times as likely as a resting face."""

NEUTRAL_LEVEL = 0.15
"""A change of this length times its cosine is as likely of a resting face as of an expression."""

SURE = 0.5
"""P of the likeliest class from which it is named."""

SURE_FAINT = 0.8
"""The same where the likeliest is neutral, or a smile and the classifier's favourite is another: a faint expression called neutral
teaches a person wrongly too, and so does a resting face called happy."""

SUPPORT = 0.15
"""Share of its favourite's probability that the classifier must give a class; below, it contradicts, and the class is not named however
sure the blendshapes are. So low brows that it calls neutral are no anger, and a broad smile no disgust. Smiles need no support: they are
what blendshapes see best, on photographs too."""

ONE_SIDED = (12, 14)
"""Contempt raises or dimples one corner of the mouth (Ekman and Friesen, "A new pan-cultural facial expression of emotion", 1986): it is
named only where one of these action units moved further on one side than on the other by `action_units.MOVED`. The classifier cannot
confirm it, and closed smiles and resting faces of real people are a little one-sided too. Where the cosine to happy is the higher one, a
face is no contempt at all: the two prototypes are so alike (0.89) that it would take a third of a full smile's probability."""

RESTING_PENALTY = 0.15
"""Weight of a resting face's distance from the average one in `resting_face`."""

CLEAR_EXPRESSION = 0.7
"""A photo whose change from the average resting face has a higher cosine than this to a prototype may only be a resting face where the
classifier calls it neutral."""


@dataclass(frozen=True)
class Reading:
    """What a photo shows, by both judges.

    `expression`: one of READ_CLASSES, or None where they are not sure enough to name one. `likeliest`: the likeliest one even then, and
    `sure` its probability by both, 0..1. `intensity`: how far the face moved along the likeliest, 1 = a usual full expression; 0 for
    neutral. `units`: FACS codes of the action units that moved, strongest first. `classified`: the classifier's favourite.
    """

    expression: str | None
    likeliest: str
    sure: float
    intensity: float
    units: tuple[str, ...]
    classified: str


def read_album(blendshapes: Sequence[Mapping[str, float]], judgements: Sequence[Judgement]) -> list[Reading]:
    """A reading for each of one person's photos, from the resting face that is guessed from all of them."""
    if not blendshapes:
        return []
    resting = resting_face(blendshapes, judgements)
    return [read_expression(shapes, judgement, resting) for shapes, judgement in zip(blendshapes, judgements, strict=True)]


def read_expression(blendshapes: Mapping[str, float], judgement: Judgement, resting: NDArray[np.float64] | None = None) -> Reading:
    """One photo's reading: MediaPipe's 52 blendshapes (0..1), the classifier's probabilities, and the person's resting face as scaled
    blendshapes [K] (`resting_face`); without it the average person's."""
    fitted = prototypes()
    resting = fitted.resting / fitted.scale if resting is None else resting
    change = blendshape_vector(blendshapes) - resting
    along = along_prototypes(change[None])[0]
    cosines = along / max(1e-9, float(np.linalg.norm(change)))
    intensities = along / np.linalg.norm(fitted.vectors, axis=1)
    moved = np.concatenate([[NEUTRAL_LEVEL], np.clip(intensities, 0, 1) * cosines])
    scores = np.log(_support(judgement) + ALLOWANCE) + SHARPNESS * moved
    if cosines[CLASSES.index("contempt")] < cosines[CLASSES.index("happy")]:
        scores[READ_CLASSES.index("contempt")] = -np.inf
    weights = np.exp(scores - scores.max())
    index = int(weights.argmax())
    likeliest, sure = READ_CLASSES[index], float(weights[index] / weights.sum())
    at_rest = unscaled(resting)
    return Reading(
        expression=likeliest if _may_be_named(likeliest, sure, judgement, blendshapes, at_rest) else None,
        likeliest=likeliest,
        sure=sure,
        intensity=float(intensities[index - 1]) if index else 0.0,
        units=moved_units(blendshapes, at_rest),
        classified=judgement.expression,
    )


def resting_face(blendshapes: Sequence[Mapping[str, float]], judgements: Sequence[Judgement]) -> NDArray[np.float64]:
    """A person's resting face, scaled blendshapes [K], guessed from n photos of unknown expressions (ours).

    Candidates r are the average person's resting face r0, and each photo that the classifier calls neutral, or that it does not deny to
    be neutral (`SUPPORT`) and that is no clear expression against r0. Taken is the one that explains the photos best, as the resting face
    where the classifier says so (with probability q_i), else as some expression: the least
    `sum_i |x_i - r|^2 - (1 - q_i) max_c (along_c)^2 + n RESTING_PENALTY |r - r0|^2`.
    """
    fitted = prototypes()
    photos = np.stack([blendshape_vector(shapes) for shapes in blendshapes])
    neutral = np.array([judgement.of("neutral") for judgement in judgements])
    average = fitted.resting / fitted.scale

    def may_rest(photo: NDArray[np.float64], judgement: Judgement) -> bool:
        reading = read_change(photo - average)
        calm = reading.is_neutral() or max(reading.scores.values()) <= CLEAR_EXPRESSION
        return judgement.of("neutral") >= 0.5 or (calm and judgement.of("neutral") >= SUPPORT * judgement.confidence)

    def cost(resting: NDArray[np.float64]) -> float:
        changes = photos - resting
        explained = np.clip(along_prototypes(changes).max(axis=1), 0, None) ** 2
        far = float(((resting - average) ** 2).sum())
        return float((changes**2).sum() - ((1 - neutral) * explained).sum() + len(photos) * RESTING_PENALTY * far)

    own = [photo for photo, judgement in zip(photos, judgements, strict=True) if may_rest(photo, judgement)]
    return min([average, *own], key=cost)


def _may_be_named(
    likeliest: str, sure: float, judgement: Judgement, blendshapes: Mapping[str, float], resting: Mapping[str, float]
) -> bool:
    faint = likeliest == "neutral" or (likeliest == "happy" and judgement.expression != "happy")
    if sure < (SURE_FAINT if faint else SURE):
        return False
    if likeliest == "contempt" and not any(one_sidedness(unit, blendshapes, resting) >= MOVED for unit in ONE_SIDED):
        return False
    return likeliest == "happy" or bool(_support(judgement)[READ_CLASSES.index(likeliest)] >= SUPPORT * judgement.confidence)


def _support(judgement: Judgement) -> NDArray[np.float64]:
    """The classifier's probability of each of READ_CLASSES; contempt, which it takes for either, shares those of neutral and happy."""
    known = [judgement.of(name) if name in READER_CLASSES else 0.0 for name in READ_CLASSES]
    known[READ_CLASSES.index("contempt")] = (judgement.of("neutral") + judgement.of("happy")) / 2
    return np.array(known)


def unscaled(resting: NDArray[np.float64]) -> dict[str, float]:
    """Scaled blendshapes [K], as of `resting_face`, by name in MediaPipe's scale, 0..1."""
    fitted = prototypes()
    return dict(zip(fitted.blendshapes, (resting * fitted.scale).tolist(), strict=True))
