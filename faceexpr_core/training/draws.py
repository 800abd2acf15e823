"""What is random about a step: which pictures, timesteps and noise. Drawn on the CPU, so that it does not depend on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..schedule import TIMESTEPS
from .memory import pinned
from .settings import TrainSettings

CRAFTING_TIMESTEPS = (300, 700)
ALIGNED = 16
"""Bytes at whose multiples the tensors of an upload begin."""
PHOTO_BATCHES_PER_CRAFTING = 3
"""L_ec takes one batch for so many batches of photos: it costs about two of them."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One forward and backward pass of one part of the loss (`identity`, `prior` or `crafting`).

    `positions` int64 [B] of pictures in their set, `timesteps` int64 [B], `noise` float32 [B, 4, h, w]. `chosen` int64 [B] picks prompts
    where the part has several, `dropped` bool [B] says which captions are left out, `learning` int64 [B] which side of a pair of prompts
    learns: 0 the neutral one, 1 the expression.
    """

    part: str
    positions: Tensor
    timesteps: Tensor
    noise: Tensor
    chosen: Tensor | None = None
    dropped: Tensor | None = None
    learning: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Standing:
    """Where the draws stand: the generators' states, and the pictures that are left of each epoch."""

    generators: dict[str, Tensor]
    queues: dict[str, list[int]]


class Draws:
    """A generator for each part of the loss, so that one part sees the same noise whatever else is on.

    `photos` and `class_images` (None without them) are counts with the shape of a latent [4, h, w], `expressions` the pairs of crafting.
    """

    def __init__(
        self, settings: TrainSettings, photos: tuple[int, torch.Size], class_images: tuple[int, torch.Size] | None, expressions: int
    ) -> None:
        self.settings, self.photos, self.class_images, self.expressions = settings, photos, class_images, expressions
        self.generators = {name: seeded(settings.seed, number) for number, name in enumerate(("photos", "prior", "crafting"))}
        self.queues: dict[str, list[int]] = {"photos": [], "prior": []}

    def step(self, batches: int, crafting: bool) -> list[list[Batch]]:
        """All of a step: for each of its `batches` those of identity and prior, then those of crafting if it is taken."""
        steps = [[self.identity(), *([self.prior()] if self.settings.prior != "off" else [])] for _ in range(batches)]
        return steps + [[self.crafting()] for _ in range(crafting_batches(batches) if crafting else 0)]

    def identity(self) -> Batch:
        """Photos, each once an epoch, with t of 0 to 999; `noise_offset` moves the noise of each channel as a whole, `caption_dropout` is
        the chance of a caption to be left out."""
        settings, generator = self.settings, self.generators["photos"]
        positions = self._next("photos", self.photos[0])
        timesteps, noise = self._timesteps_and_noise("photos", self.photos[1])
        if settings.noise_offset:
            noise += settings.noise_offset * torch.randn(*noise.shape[:2], 1, 1, generator=generator)
        dropped = self._dropped("photos", positions, settings.caption_dropout)
        return Batch("identity", positions, timesteps, noise, dropped=dropped)

    def prior(self) -> Batch:
        """Pictures of the class; without them the photos with `chosen` of twice as many prompts, neutral as often as each expression.
        `prior_dropout` is the chance of the pictures' words to be left out."""
        count, shape = self.class_images or self.photos
        positions = self._next("prior", count)
        timesteps, noise = self._timesteps_and_noise("prior", shape)
        if self.class_images is not None:
            return Batch("prior", positions, timesteps, noise, dropped=self._dropped("prior", positions, self.settings.prior_dropout))
        chosen = torch.randint(self.expressions + 1, (len(positions),), generator=self.generators["prior"])
        return Batch("prior", positions, timesteps, noise, chosen)

    def crafting(self) -> Batch:
        """Photos, each with an expression, both by chance, with t of CRAFTING_TIMESTEPS; the sides that learn take turns in the batch."""
        count, shape = self.photos
        batch, generator = self.settings.batch_size, self.generators["crafting"]
        positions = torch.randint(count, (batch,), generator=generator)
        chosen = torch.randint(self.expressions, (batch,), generator=generator)
        low, high = CRAFTING_TIMESTEPS
        timesteps = torch.randint(low, high + 1, (batch,), generator=generator)
        noise = torch.randn(batch, *shape, generator=generator)
        learning = (torch.arange(batch) + torch.randint(2, (1,), generator=generator)) % 2
        return Batch("crafting", positions, timesteps, noise, chosen, learning=learning)

    def _dropped(self, name: str, positions: Tensor, share: float) -> Tensor | None:
        return torch.rand(len(positions), generator=self.generators[name]) < share if share else None

    def standing(self) -> Standing:
        """Where the draws stand, as a copy of their own."""
        return Standing(
            {name: generator.get_state() for name, generator in self.generators.items()},
            {name: list(queue) for name, queue in self.queues.items()},
        )

    def put_back(self, standing: Standing) -> None:
        """Go on from there: what is drawn next is what was drawn next then."""
        for name, state in standing.generators.items():
            self.generators[name].set_state(state)
        self.queues = {name: list(queue) for name, queue in standing.queues.items()}

    def _next(self, kind: str, length: int) -> Tensor:
        """The next batch of positions: every picture once an epoch, each epoch in a new order."""
        count, queue = self.settings.batch_size, self.queues[kind]
        while len(queue) < count:
            queue += torch.randperm(length, generator=self.generators[kind]).tolist()
        batch, self.queues[kind] = queue[:count], queue[count:]
        return torch.tensor(batch)

    def _timesteps_and_noise(self, kind: str, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        generator, batch = self.generators[kind], self.settings.batch_size
        timesteps = torch.randint(TIMESTEPS, (batch,), generator=generator)
        return timesteps, torch.randn(batch, *shape, generator=generator)


def uploaded(batches: Sequence[Batch], device: torch.device) -> list[Batch]:
    """The batches on `device`, in one copy from pinned memory, for which the host does not wait."""
    if device.type != "cuda":
        return [_with(batch, [tensor.to(device) for tensor in _tensors(batch).values()]) for batch in batches]
    given = [tensor for batch in batches for tensor in _tensors(batch).values()]
    sizes = [-(-tensor.nbytes // ALIGNED) * ALIGNED for tensor in given]
    packed = pinned([sum(sizes)], torch.uint8)
    for tensor, place in zip(given, packed.split(sizes), strict=True):
        place[: tensor.nbytes].copy_(tensor.contiguous().flatten().view(torch.uint8))
    there = packed.to(device, non_blocking=True).split(sizes)
    moved = iter([place[: one.nbytes].view(one.dtype).view(one.shape) for one, place in zip(given, there, strict=True)])
    return [_with(batch, [next(moved) for _ in _tensors(batch)]) for batch in batches]


def _tensors(batch: Batch) -> dict[str, Tensor]:
    named = {one.name: getattr(batch, one.name) for one in fields(batch)}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def _with(batch: Batch, tensors: Sequence[Tensor]) -> Batch:
    named: dict[str, Any] = dict(zip(_tensors(batch), tensors, strict=True))
    return replace(batch, **named)


def seeded(seed: int, number: int) -> torch.Generator:
    """The generator `number` of a run."""
    return torch.Generator().manual_seed((seed + number * 0x9E3779B97F4A7C15) % 2**64)


def crafting_batches(batches: int) -> int:
    """How many batches of L_ec a step takes beside so many batches of photos."""
    return -(-batches // PHOTO_BATCHES_PER_CRAFTING)
