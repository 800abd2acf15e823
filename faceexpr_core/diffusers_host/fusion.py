"""Features out of diffusers' U-Net and into it, by hooks on its modules: what nodes/host/fusion.py does in ComfyUI.

Hooks leave the U-Net's own code and attention processors as they are, add up when several fusions are applied, and are gone afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..fusion.bank import FeatureBank, fused_places
from ..fusion.grids import Grid
from ..fusion.injection import Attention, Call, Injection, Part
from ..fusion.look import EVERYWHERE, Look, Where
from ..fusion.settings import CONTEXT_SITE, FusionSettings

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

Add = Callable[[str, Tensor, Grid], None]
"""(place, features of every row of the batch, grid of the map)."""


@dataclass
class Rows:
    """What a sampler says of its calls of the U-Net, the noise level anew before each (`at`).

    `conditional`: rows of the batch that may be changed; `pictures`: which picture each of them draws, empty for one picture in all.
    `schedule`: the sigmas that will be visited, falling, by which a window between two steps still finds one. `looks` for faces are the
    fusions' own, called by `at`.
    """

    conditional: tuple[int, ...]
    pictures: tuple[int, ...] = ()
    cfg: float = 1.0
    schedule: tuple[float, ...] = ()
    sigma: float = 0.0
    looks: list[Callable[[], None]] = field(default_factory=list)

    def at(self, sigma: float) -> None:
        """Say the noise level of the next call, and look for faces where fusions want to know: not within the call, since a look decodes a
        picture, for which the U-Net has to leave a card that is too small for both."""
        self.sigma = sigma
        for look in self.looks:
            look()

    def of(self, picture: int | None) -> list[int]:
        """The conditional rows of one picture, or all."""
        if picture is None or not self.pictures:
            return list(self.conditional)
        return [row for row, drawn in zip(self.conditional, self.pictures, strict=True) if drawn == picture]

    def picture_of(self, row: int) -> int:
        """Which picture a conditional row draws."""
        return self.pictures[self.conditional.index(row)] if self.pictures else 0


@dataclass(frozen=True, eq=False)
class Fusion:
    """Features and how to fuse them. `mask` (float [H, W] in 0..1) and `regions` (integers [H, W], see `settings.region_ids`) lie over
    the picture to be drawn, None where they are not known; `picture` is the number of the only picture that is changed, None for all.
    `moved`: the regions to which the change is held, () for the whole face: the face is looked for in the picture's own steps, and `mask`
    and `regions` are what is taken until it is seen; None: it is not looked for."""

    bank: FeatureBank
    settings: FusionSettings
    mask: Tensor | None = None
    regions: Tensor | None = None
    picture: int | None = None
    moved: tuple[str, ...] | None = None

    @property
    def place(self) -> Where:
        """Where the expression acts, as far as it is known beforehand."""
        return Where(self.mask, self.regions)


# Places


def places_of(unet: UNet2DConditionModel, site: str) -> tuple[str, ...]:
    """Every place of the U-Net where the site may be recorded and changed, in ComfyUI's numbering of blocks."""
    if site == "skip":
        return tuple(f"input.{number}" for number in range(_skips(unet)))
    return tuple(transformer_blocks(unet))


def transformer_blocks(unet: UNet2DConditionModel) -> dict[str, Any]:
    """diffusers' BasicTransformerBlocks by place."""
    return {
        f"{name}.{layer}": block for name, transformer in _transformers(unet) for layer, block in enumerate(transformer.transformer_blocks)
    }


def _transformers(unet: UNet2DConditionModel) -> Iterator[tuple[str, Any]]:
    """Transformer2DModels with the names of their blocks."""
    number = 1
    for block in unet.down_blocks:
        for layer, attention in enumerate(getattr(block, "attentions", ())):
            yield f"input.{number + layer}", attention
        number += len(block.resnets) + (block.downsamplers is not None)
    yield from (("middle.0", attention) for attention in unet.mid_block.attentions)
    number = 0
    for block in unet.up_blocks:
        for layer, attention in enumerate(getattr(block, "attentions", ())):
            yield f"output.{number + layer}", attention
        number += len(block.resnets)


def _skips(unet: UNet2DConditionModel) -> int:
    return sum(len(block.resnets) for block in unet.up_blocks)


# Hooks: `act(place, x, grid, inputs)` sees what passes a place and may return something in its stead

Act = Callable[[str, Tensor, Grid, Tensor], Tensor]


@contextmanager
def _hooks(unet: UNet2DConditionModel, site: str, places: Iterable[str], act: Act) -> Iterator[None]:
    """Call `act` with what passes at the places: skips where the decoder takes them, or outputs of cross-attention.

    `inputs` are the tokens that the attention was given (elsewhere `x` itself).
    """
    chosen = frozenset(places)
    grids: dict[str, Grid] = {}
    handles = []

    def note_grid(name: str) -> Any:
        def hook(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            x = arguments[0] if arguments else named["hidden_states"]
            grids[name] = (x.shape[2], x.shape[3])

        return hook

    def attention(place: str) -> Any:
        def hook(module: Any, arguments: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> Tensor:
            return act(place, output, grids[place.rpartition(".")[0]], arguments[0])

        return hook

    def skips(first: int) -> Any:
        def hook(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            parts = list(named["res_hidden_states_tuple"])
            for layer in range(len(parts)):  # the block takes them from the end
                place, x = f"input.{last - first - layer}", parts[-1 - layer]
                if place in chosen:
                    parts[-1 - layer] = act(place, x, (x.shape[2], x.shape[3]), x)
            return arguments, {**named, "res_hidden_states_tuple": tuple(parts)}

        return hook

    last = _skips(unet) - 1
    try:
        if site == "skip":
            number = 0
            for block in unet.up_blocks:
                handles.append(block.register_forward_pre_hook(skips(number), with_kwargs=True))
                number += len(block.resnets)
        else:
            for name, transformer in _transformers(unet):
                handles.append(transformer.register_forward_pre_hook(note_grid(name), with_kwargs=True))
            for place, block in transformer_blocks(unet).items():
                if place in chosen:
                    handles.append(block.attn2.register_forward_hook(attention(place), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


# Out of the U-Net


@contextmanager
def record(unet: UNet2DConditionModel, site: str, places: Iterable[str], add: Add) -> Iterator[None]:
    """Give `add` what passes at the places of a site at every call of the U-Net.

    The site `cross_attention_difference` has nothing that passes: see `contexts`.
    """

    def act(place: str, x: Tensor, grid: Grid, inputs: Tensor) -> Tensor:
        add(place, x, grid)
        return x

    with _hooks(unet, site, places, act):
        yield


@torch.no_grad()
def contexts(unet: UNet2DConditionModel, places: Iterable[str], hidden: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Place, keys and values [1, T, C] that each cross-attention makes of a text's embedding [1, T, width]."""
    chosen = frozenset(places)
    for place, block in transformer_blocks(unet).items():
        if place in chosen:
            yield place, block.attn2.to_k(hidden), block.attn2.to_v(hidden)


# Into the U-Net


@contextmanager
def apply_fusion(unet: UNet2DConditionModel, fusion: Fusion, rows: Rows, look: Look | None = None) -> Iterator[set[str]]:
    """Fuse features into the conditional rows of every call of the U-Net. `look` says where the faces are, when it has seen them, which it
    does in `rows.at`.

    Yields what there is to tell the user, which fills while the U-Net runs. Several may be applied at once. At strength 0 nothing is
    hooked. Raises FaceExprError where bank, settings and U-Net do not belong together.
    """
    bank, settings = fusion.bank, fusion.settings
    places = fused_places(bank, settings, places_of(unet, bank.site))
    told: set[str] = set()
    if settings.strength == 0:
        yield told
        return
    injection = Injection(bank, settings, places, told.add)
    blocks, kept = transformer_blocks(unet), dict[Any, Any]()

    def call(place: str) -> tuple[Call, list[Part]]:
        now = Call(rows.sigma, rows.cfg, rows.schedule, kept)
        acts = injection.weight(place, now) > 0
        return now, [Part(alike, where(alike)) for alike in _slices(rows.of(fusion.picture))] if acts else []

    def see(look: Look) -> None:
        now = Call(rows.sigma, rows.cfg, rows.schedule, kept)
        if any(injection.weight(place, now) > 0 for place in places):
            for picture in sorted({rows.picture_of(row) for row in rows.of(fusion.picture)}):
                look.look(picture, rows.sigma)

    def where(alike: slice) -> tuple[Where, ...]:
        if look is None:
            return (fusion.place,)
        found = (look.known(rows.picture_of(row), rows.sigma) for row in range(alike.start, alike.stop))
        return tuple(fusion.place if one is EVERYWHERE else one for one in found)

    def fuse(place: str, x: Tensor, grid: Grid, inputs: Tensor) -> Tensor:
        return injection.fuse(place, x, grid, *call(place))

    def add_context(place: str, x: Tensor, grid: Grid, inputs: Tensor) -> Tensor:
        attention, known = blocks[place].attn2, queries.pop(place, None)

        def query(batch: slice, chosen: Tensor | None) -> Tensor:
            given = (inputs if known is None else known)[batch]
            given = given if chosen is None else given[:, chosen]
            asked: Tensor = attention.to_q(given) if known is None else given
            return asked

        return injection.add_context(place, x, grid, *call(place), Attention(query, attention.to_out[0], attention.heads))

    with _hooks(unet, bank.site, places, add_context if bank.site == CONTEXT_SITE else fuse), ExitStack() as stack:
        queries: dict[str, Tensor] = {}
        if look is not None:
            rows.looks.append(due := partial(see, look))
            stack.callback(rows.looks.remove, due)
        if bank.site == CONTEXT_SITE:  # the attention has asked already
            for place in places:
                handle = blocks[place].attn2.to_q.register_forward_hook(partial(_keep, queries, place))
                stack.callback(handle.remove)
        yield told


def _keep(queries: dict[str, Tensor], place: str, module: Any, arguments: Any, output: Tensor) -> None:
    queries[place] = output


def _slices(rows: Iterable[int]) -> list[slice]:
    """Rows in order, those that follow each other together: a list of numbers would have to be copied to the device."""
    found: list[slice] = []
    for row in rows:
        if found and found[-1].stop == row:
            found[-1] = slice(found[-1].start, row + 1)
        else:
            found.append(slice(row, row + 1))
    return found
