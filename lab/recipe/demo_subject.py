"""Render the demo's subject: `python -m lab.recipe.demo_subject`. A reporting identity, which Mini never saw."""

from __future__ import annotations

from PIL import Image

from faceexpr_core import mini
from lab.world.dataset import subject_photos

IDENTITY = 200_102
SIDE = 384


def main() -> None:
    folder = mini.subject_path()
    folder.mkdir(exist_ok=True)
    for number, photo in enumerate(subject_photos(IDENTITY, size=SIDE), start=1):
        Image.fromarray(photo.image).save(folder / f"photo_{number}.png", optimize=True)


if __name__ == "__main__":
    main()
