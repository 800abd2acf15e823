"""Where the faces of pictures are that are being drawn, seen in what their own steps estimate of the clean picture. Ours.

On Mini (20 steps, 8 pictures, mask of mouth and eyes against the finished picture's): a face was found in 8 of 8 from sigma 6.2 on; overlap
(intersection over union) 0.86 at sigma 6.2, 0.90 at 3.9, 0.93 at 2.6, 0.94 at 1.8, 0.98 at 1.0. Looked at in three quarters
of the size, 0.76 at all of them: a picture that small is looked at in whole. Measured once,
before `lab.benchmarks.seen_faces` could repeat it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..errors import FaceExprError
from ..faces.detector import Face
from .donor_faces import Picture, faces_in, location_of

Area = tuple[float, float, float, float]
"""Top, bottom, left and right in shares of the picture."""

WHOLE = 512
"""Pixels of the shorter side up to which a picture is looked at in its own size from the first."""
FIRST_SCALE = 0.75
"""Of the early looks at a larger one, whose estimate has no more detail, at 56 % of the cost."""
MARGIN = 0.1
"""What is decoded around faces that were seen before, as a share of their size."""
EARLY = 5.5
"""Noise level above which what is taken for a face need not be one: below, the whole picture is looked at anew. The default window begins
at 5.1, so that one look and one more, of the face alone, are all that it costs."""
AGAIN = (EARLY, 2.2)
"""Noise levels below which faces that were found are looked for once more: the first estimates are rough, and of large pictures made
smaller."""
MISSING = (10.0, 7.5, EARLY, 3.2, 2.2, 1.0)
"""The same for pictures in which none was found."""

FREE = (0.5, 0.0)
"""How much a picture is drawn, and a text said, where a face is meant: more than half, or, where no such face is, at all (grey masks)."""


class Where(NamedTuple):
    """Where in a picture an expression acts: `mask` float [H, W] in 0..1, None for everywhere; `regions` of the face, integers [H, W]
    (see `settings.region_ids`), None where they are not known."""

    mask: Tensor | None = None
    regions: Tensor | None = None


EVERYWHERE = Where()


class Look:
    """Faces of the pictures of one run of a sampler.

    `decode` makes a picture of a latent [1, 4, h, w]. `moved`: the regions of the face to which the change is held, () for all of it.
    `free` [B or 1, 1, h, w]: where the pictures are drawn at all (inpainting); a face elsewhere is not meant.
    `seen` is called after each evaluation. `look`, before the next, decodes a picture if that is due; `known` says what was found.
    `tell` is called where a face is wanted and there is nothing yet to see it in, and where none was found.
    """

    def __init__(
        self,
        decode: Callable[[Tensor], Picture],
        moved: Sequence[str] = (),
        folders: Iterable[str | os.PathLike[str]] = (),
        tell: Callable[[str], None] = lambda what: None,
        free: Tensor | None = None,
    ) -> None:
        self._decode, self._moved, self._folders, self._tell = decode, tuple(moved), tuple(folders), tell
        self._free = None if free is None else free.reshape(-1, *free.shape[-3:])[:, 0].detach().cpu()
        self._clean: Tensor | None = None
        self._told_unseen = False
        self._looked: dict[int, float] = {}
        self._faces: dict[int, list[Face]] = {}
        self._size = (0, 0)
        self._places: dict[tuple[int, Area | None, int], Where] = {}
        self._said: dict[int, Tensor] = {}

    def seen(self, clean: Tensor) -> None:
        """The latest estimate of the clean latents [B, 4, h, w], or, before there is one, those given to start from."""
        self._clean = clean

    def look(self, picture: int, sigma: float) -> None:
        """Look for the faces of a picture, if that is due at this noise level."""
        if self._clean is None:
            self._tell_unseen(sigma)
        elif self._due(picture, sigma):
            self._find(picture, sigma)

    def known(self, picture: int, sigma: float, area: Area | None = None, said: Tensor | None = None) -> Where:
        """Where the expression acts in a picture at a noise level: on its largest face (EVERYWHERE without one), of those in the area and
        in the mask of its text: `said` [P, h, w] in 0..1 over the whole picture, one for each of a batch, again from the first."""
        key = picture, area, id(said)
        if key not in self._places:
            known = self._faces.get(picture, [])
            faces = [face for least in FREE for face in known if self._meant(face, picture, area, said, least)]
            if known and not faces:
                self._tell(
                    f"no face of picture {picture + 1} lies in the area or the mask of the text, or where the noise mask lets it be drawn, "
                    f"at sigma {sigma:.2g}, so that the expression acts everywhere there"
                )
            if said is not None:
                self._said[id(said)] = said  # so that no other mask takes its id
            found = location_of(faces[0], *self._size, self._moved) if faces else None
            self._places[key] = EVERYWHERE if found is None else Where(found.mask, found.regions)
        return self._places[key]

    def _tell_unseen(self, sigma: float) -> None:
        if not self._told_unseen:
            self._told_unseen = True
            self._tell(
                f"at sigma {sigma:.3g}, the first step, nothing is drawn yet in which the face could be seen, so that the expression is "
                "not held to it there. With more steps, or a window that begins later, it is seen first"
            )

    def _due(self, picture: int, sigma: float) -> bool:
        if picture not in self._looked:
            return True
        return any(sigma <= level < self._looked[picture] for level in (AGAIN if self._faces[picture] else MISSING))

    def _find(self, picture: int, sigma: float) -> None:
        assert self._clean is not None
        latent, before = self._clean[picture : picture + 1], self._looked.get(picture)
        height, width = 8 * latent.shape[2], 8 * latent.shape[3]
        anew = before is None or before > EARLY
        known = [] if anew else self._faces[picture]
        smaller = min(height, width) > WHOLE and (before is None or sigma > EARLY)
        self._looked[picture] = sigma
        try:
            faces = self._seen_in(latent, smaller, known)
        except FaceExprError as error:
            faces = []
            self._tell(f"no mask of the face: {error}")
        if not known:
            self._tell_missing(picture, sigma, faces)
        if faces or not known:  # a face that is found no more was there all the same
            self._faces[picture], self._size = faces, (height, width)
            self._places = {key: where for key, where in self._places.items() if key[0] != picture}

    def _tell_missing(self, picture: int, sigma: float, faces: list[Face]) -> None:
        """Where none is found, that it is so until one is: told at the first look, and where what seemed to be one is gone."""
        if not faces and (picture not in self._faces or self._faces[picture]):
            self._tell(
                f"no face found in picture {picture + 1} at sigma {sigma:.2g}, so that the expression acts everywhere in it until one is"
            )

    def _seen_in(self, latent: Tensor, smaller: bool, known: list[Face]) -> list[Face]:
        """Faces, in the picture's pixels: in the whole made smaller, else where they are known to be, or, where none is, in the whole."""
        height, width = int(latent.shape[2]), int(latent.shape[3])
        if smaller:
            given = latent.cpu() if latent.device.type == "mps" else latent  # older torch has no antialias on a Mac's graphics chip
            less = F.interpolate(given, scale_factor=FIRST_SCALE, mode="bilinear", antialias=True).to(latent.device)
            scale = width / less.shape[3]
            return [face.moved(scale) for face in faces_in(self._decode(less), self._folders)]
        if not known:
            return faces_in(self._decode(latent), self._folders)
        edges = np.array([(*face.box, face.size * MARGIN) for face in known]) / 8
        left, top = (max(0, int((edges[:, side] - edges[:, 4]).min())) for side in (0, 1))
        right, bottom = (int((edges[:, side] + edges[:, 4]).max()) + 1 for side in (2, 3))
        crop = latent[:, :, top : min(bottom, height), left : min(right, width)]
        return [face.moved(1.0, -8 * left, -8 * top) for face in faces_in(self._decode(crop), self._folders)]

    def _meant(self, face: Face, picture: int, area: Area | None, said: Tensor | None, least: float) -> bool:
        """Whether the middle of a face lies in the area, and where more than the least of the picture is drawn and of the text said."""
        x, y = face.centre[0] / self._size[1], face.centre[1] / self._size[0]
        if area is not None and not (area[0] <= y <= area[1] and area[2] <= x <= area[3]):
            return False
        return all(_share_at(maps[picture % len(maps)], y, x) > least for maps in (self._free, said) if maps is not None)


def _share_at(share: Tensor, y: float, x: float) -> float:
    """Of a map [h, w] the value at a place in shares of the picture."""
    row, column = (min(max(int(at * size), 0), size - 1) for at, size in zip((y, x), share.shape, strict=True))
    return float(share[row, column])
