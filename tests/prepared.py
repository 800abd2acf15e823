"""Photos prepared in the process that trains: `faceexpr train` has a process of its own for them, which takes seconds to start."""

from __future__ import annotations

from collections.abc import Sequence

from faceexpr_core.faces.images import SourceImage
from faceexpr_core.photos.subject import Subject, SubjectSettings, prepare_subject
from faceexpr_core.photos.subject_process import prepare_centred


def prepare_here(images: Sequence[SourceImage], settings: SubjectSettings, centre_crop: bool = False) -> Subject:
    """In place of `subject_process.prepare_apart`. The subject is the same to the bit: test_train_memory.py has that."""
    return prepare_centred(images, settings) if centre_crop else prepare_subject(images, settings)
