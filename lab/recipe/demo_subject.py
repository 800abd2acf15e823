"""Render the demo's subject and the donor of its stranger's smile: `python -m lab.recipe.demo_subject`.

Reporting identities, whom Mini never saw. Needs the world's parts (FACEEXPR_PARTS).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceexpr_core import mini
from lab.world.dataset import subject_photos
from lab.world.expressions import Shown
from lab.world.picture import picture

IDENTITY, DONOR = 200_159, 200_112
SIDE = 256
SCENE = 24_002
"""The donor's two photos are one scene: the world draws the same camera, light and clothes under the same number."""


def save_jpeg(image: NDArray[np.uint8], path: Path) -> None:
    """At quality 85, colour in full resolution."""
    Image.fromarray(image).save(path, quality=85, subsampling=0, optimize=True)


def main() -> None:
    for folder in (mini.subject_path(), mini.donor_path()):
        folder.mkdir(exist_ok=True)
    for number, photo in enumerate(subject_photos(IDENTITY, size=SIDE), start=1):
        Image.fromarray(photo.image).save(mini.subject_path() / f"photo_{number}.png", optimize=True)
    for name, intensity in (("neutral", 0.0), ("happy", 1.0)):
        save_jpeg(picture(DONOR, SCENE, Shown("happy", intensity), SIDE).image, mini.donor_path() / f"another_person_{name}.jpg")


if __name__ == "__main__":
    main()
