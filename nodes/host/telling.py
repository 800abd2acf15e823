"""What a donor's twins are at, said on the node that records them."""

from __future__ import annotations

from torch import Tensor

from ...faceexpr_core.fusion.donor_faces import Picture
from ...faceexpr_core.fusion.donors import Host, Which
from .progress import say, show

FACES: dict[Which, str] = {"n": "the neutral face", "e": "the face with the expression"}


class TellingHost:
    """A `donors.Host` that hands everything on to another one, says before each of its `total` evaluations what it is for, and shows the
    pictures that it decodes."""

    def __init__(self, host: Host, total: int) -> None:
        self._host, self._total, self._done = host, total, 0

    def predict(self, x: Tensor, sigma: float, which: Which, record: int | None = None) -> Tensor:
        self._say("drawing", which)
        return self._host.predict(x, sigma, which, record)

    def observe(self, x: Tensor, sigma: float, which: Which, record: int) -> None:
        self._say("reading", which)
        self._host.observe(x, sigma, which, record)

    def record_contexts(self) -> None:
        say("reading the words")
        self._host.record_contexts()

    def encode(self, picture: Picture) -> Tensor:
        return self._host.encode(picture)

    def decode(self, latent: Tensor) -> Picture:
        picture = self._host.decode(latent)
        show(picture)
        return picture

    def _say(self, doing: str, which: Which) -> None:
        self._done += 1
        say(f"{doing} {FACES[which]}, step {self._done} of {self._total}")
