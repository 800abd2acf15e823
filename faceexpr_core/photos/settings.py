"""How photos become a Subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import FaceExprError

Framing = Literal["face crop", "whole picture"]
FRAMINGS: tuple[Framing, ...] = ("face crop", "whole picture")

EVERYBODY = -1
"""As `person`: faces are not compared, and each photo's largest face is taken."""


@dataclass(frozen=True)
class SubjectSettings:
    """How photos become a Subject.

    `framing`: `face crop` cuts a square around the face, its side the face's longer side times 1 + 2 `padding`, inside the picture;
    `whole picture` cuts the largest square, as near to the face as it can lie. `person`: 0 takes the person who is in most photos, 1 the
    next ..., EVERYBODY whoever is largest. `face_index`: above 0 takes a face by its size instead: 1 the second largest of each photo ...
    `min_face`: the face's longer side in pixels of the photo below which it is too small; 0 takes an eighth of the resolution, at
    least 48.
    """

    trigger: str = "ohwx"
    class_word: str = "person"
    resolution: int = 1024
    framing: Framing = "face crop"
    padding: float = 0.75
    face_index: int = 0
    min_face: int = 0
    drop_small: bool = True
    drop_duplicates: bool = True
    person: int = 0

    def smallest_face(self) -> int:
        return self.min_face or max(48, self.resolution // 8)

    def compares(self) -> bool:
        """Whether faces are compared, to tell the person from others."""
        return self.face_index == 0 and self.person != EVERYBODY


def check(settings: SubjectSettings) -> None:
    """Raises FaceExprError for what is out of range."""
    if not 64 <= settings.resolution <= 4096 or settings.resolution % 8:
        near = min(4096, max(64, round(settings.resolution / 8) * 8))
        raise FaceExprError(f"The resolution is {settings.resolution}; it must be a multiple of 8 from 64 to 4096. The nearest is {near}.")
    if settings.framing not in FRAMINGS:
        raise FaceExprError(f"The framing is '{settings.framing}'; it must be one of: {', '.join(FRAMINGS)}.")
    if not 0 <= settings.padding <= 100:
        raise FaceExprError(f"The padding is {settings.padding}; it must lie between 0 and 100 (0.75 leaves room for hair and shoulders).")
    if settings.face_index < 0:
        raise FaceExprError(f"The face is number {settings.face_index}; give 0 for the largest, 1 for the second largest ...")
    if settings.person < EVERYBODY:
        raise FaceExprError(
            f"The person is number {settings.person}; give 0 for the one in most photos, 1 for the next ..., {EVERYBODY} for whoever is "
            "largest."
        )
    if settings.person > 0 and settings.face_index > 0:
        raise FaceExprError(
            f"The person is number {settings.person} and the face number {settings.face_index}; give one of them, and 0 for the other."
        )
    if not (settings.trigger.strip() or settings.class_word.strip()):
        raise FaceExprError("Trigger word and class word are both empty. Give a rare word such as ohwx and a class word such as person.")
