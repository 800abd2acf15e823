"""What judges a picture of a person: the blendshapes' landmarker, the classifier, and SFace, on one detector of faces."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceExprError
from ..faces.detector import Face
from .expression import ExpressionMeter
from .fitted import PROTOTYPES_FILE
from .identity import IdentityMeter
from .reader import Judgement, judge_faces
from .reader_network import READER_FILE
from .reading import resting_face, unscaled

Picture = NDArray[np.uint8]

_FITTED = {"prototypes": PROTOTYPES_FILE, "reader": READER_FILE}
MEASURES = 1
"""To be raised when the same picture is measured otherwise than before: what was measured by then is not mixed with what comes."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture uint8 [H, W, 3] as the judges see it: its largest face or the one that was meant, the classifier's word on it, SFace's unit
    vector [128]."""

    picture: Picture
    face: Face | None
    judgement: Judgement | None
    vector: NDArray[np.float32] | None


def measured_by() -> dict[str, str | int]:
    """What decides what is measured in a picture, but for the files that find faces, which never change."""
    fitted = {name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for name, file in _FITTED.items()}
    return {"measures": MEASURES, **fitted}


@dataclass(frozen=True, eq=False)
class Looks:
    """A person: `reference` unit vector [128], the mean of the photos; `resting` blendshapes (0..1) of the face at rest."""

    reference: NDArray[np.float32]
    resting: Mapping[str, float]


class Judges:
    """Both judges and SFace on one detector of faces. Use it as a context manager, or call `close`."""

    def __init__(self, folders: Iterable[str | os.PathLike[str]] = ()) -> None:
        folders = tuple(folders)
        self._expression = ExpressionMeter(folders)
        self.detector = self._expression.detector
        self._identity = IdentityMeter(folders, self.detector)

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._expression.close()

    def see(self, picture: Picture, meant: Face | None = None) -> Seen:
        """A picture's largest face; with `meant`, in the picture's pixels, the one that was found there before."""
        face = self._expression.face(picture) if meant is None else self._found_again(picture, meant)
        if face is None:
            return Seen(picture, None, None, self._identity.embed(picture))
        (judgement,) = judge_faces([picture], [face])
        return Seen(picture, face, judgement, self._identity.embed(picture, face))

    def looks(self, photos: Sequence[Picture], meant: Sequence[Face] | None = None, at_rest: Picture | None = None) -> Looks:
        """A person by photos. `meant` are the person's faces in them, one each; without them each photo's largest is taken, which may be
        another's. `at_rest` is a picture that is known to show the person at rest; without it the resting face is guessed.
        Raises FaceExprError where none shows a face, or `at_rest` shows none."""
        given: Sequence[Face | None] = [None] * len(photos) if meant is None else meant
        seen = [self.see(*one) for one in zip(photos, given, strict=True)]
        faces = [(one.face, one.judgement) for one in seen if one.face is not None and one.judgement is not None]
        vectors = [one.vector for one in seen if one.vector is not None]
        if not faces or not vectors:
            raise FaceExprError("No face was found in any of the person's photos, so that there is nothing to compare with.")
        mean = np.mean(vectors, axis=0)
        rest = None if at_rest is None else self._expression.face(at_rest)
        if at_rest is not None and rest is None:
            raise FaceExprError("No face was found in the photo that should show the person at rest.")
        reference = np.asarray(mean / np.linalg.norm(mean), np.float32)
        if rest is not None:
            return Looks(reference, rest.blendshapes)
        resting = resting_face([face.blendshapes for face, _ in faces], [judgement for _, judgement in faces])
        return Looks(reference, unscaled(resting))

    def _found_again(self, picture: Picture, meant: Face) -> Face:
        """The face as the picture shows it, measured as any other picture's: before it was cut and resized it had other blendshapes. The
        one given where it is not seen again."""
        for every in (False, True):
            if again := [face for face in self.detector.detect(picture, every) if face.again(meant)]:
                return min(again, key=lambda face: float(np.hypot(*np.subtract(face.centre, meant.centre))))
        return meant
