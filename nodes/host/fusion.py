"""Features into ComfyUI's U-Net: small callables in the hooks that compose with other packs' patches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from ...faceexpr_core.fusion.bank import FeatureBank, fused_places
from ...faceexpr_core.fusion.composition import NOISE, TEXTS, why_elsewhere
from ...faceexpr_core.fusion.grids import Grid
from ...faceexpr_core.fusion.injection import Attention, Injection, Part, cut_area
from ...faceexpr_core.fusion.look import EVERYWHERE, Look, Where
from ...faceexpr_core.fusion.settings import FusionSettings
from .composition import composition_of
from .folders import model_folders
from .passes import Earlier
from .rows import Row
from .run import (
    RUN,
    UNET,
    Run,
    Session,
    attention_grid,
    conditional_rows,
    is_whole,
    place_of,
    places_of,
    running_blocks,
    skips_of,
    warn,
    with_run,
)


class Seen(NamedTuple):
    """How the face is found in the picture that is drawn: with which VAE, and the regions to which the change is held (() for all)."""

    vae: Any
    moved: tuple[str, ...] = ()


class Fusion:
    """One fusion of a bank into a MODEL; its methods are the patches. Clones of the MODEL share it."""

    outermost = True  # see `run.note_unet`

    def __init__(
        self,
        bank: FeatureBank,
        settings: FusionSettings,
        places: Sequence[str],
        skips: int,
        masks: Tensor | None = None,
        seen: Seen | None = None,
        tag: int | None = None,
        pictures: Sequence[int] | None = None,
    ) -> None:
        self._bank, self._skips, self._seen, self._tag, self._pictures = bank, skips, seen, tag, pictures
        self._own = EVERYWHERE if bank.mask is None and bank.regions is None else Where(bank.mask, bank.regions)
        self._masks = None if masks is None else list(masks.float().cpu())  # where the regions of faces that are seen lie too
        self._injection = Injection(bank, settings, places, warn)
        self._query = f"faceexpr_query_{id(self)}"

    def __deepcopy__(self, memo: Any) -> Fusion:
        return self

    def looks(self, run: Run) -> bool:
        """Whether this evaluation will ask where the face is seen."""
        if self._seen is None or not any(row.said and self._is_ours(row) for row in run.positive.values() or (Row(),)):
            return False
        return any(self._injection.weight(place, run.call) > 0 for place in self._injection.places)

    def look(self, run: Run) -> None:
        """See where the faces are, before the network runs."""
        look, session = self._look(run), run.session
        if session.clean is not None:
            look.seen(session.clean)
        for picture in self._pictures or range(run.pictures):
            look.look(picture, run.call.sigma)

    def skip(self, h: Tensor, hsp: Tensor | None, to: dict[str, Any], **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """`output_block_patch`: output block i consumes the skip of input block last - i."""
        if hsp is None:  # as SUPIR leaves it
            if RUN in to:
                told = "another patch of the MODEL uses the skip connections up; nothing is changed there. Apply the fusion before it"
                self._tell(told, to[RUN])
            return h, hsp
        place = f"input.{self._skips - 1 - to['block'][1]}"
        return h, self._fuse(hsp, place, (int(hsp.shape[2]), int(hsp.shape[3])), to)

    def cross_attention(self, n: Tensor, extra: dict[str, Any], **kwargs: Any) -> Tensor:
        """`attn2_output_patch`."""
        return self._fuse(n, place_of(extra), attention_grid(extra), extra)

    def note_query(self, n: Tensor, context: Any, value: Any, extra: dict[str, Any], **kwargs: Any) -> tuple[Tensor, Any, Any]:
        """`attn2_patch`: keep the tokens for the patch behind the attention, which is given the same `extra`."""
        extra[self._query] = n
        return n, context, value

    def context_difference(self, n: Tensor, extra: dict[str, Any], **kwargs: Any) -> Tensor:
        """`attn2_output_patch`: another text's cross-attention on the target's own queries."""
        place, tokens, run = place_of(extra), extra.pop(self._query, None), extra.get(RUN)
        if tokens is None or run is None or UNET not in extra or not self._acts(place, run):
            return n
        layer = running_blocks(extra)[place].attn2

        def query(rows: slice, chosen: Tensor | None) -> Tensor:
            given = tokens[rows]
            asked: Tensor = layer.to_q(given if chosen is None else given[:, chosen])
            return asked

        attention = Attention(query, layer.to_out, layer.heads)
        return self._injection.add_context(place, n, attention_grid(extra), run.call, self._parts(n, extra), attention)

    def _fuse(self, x: Tensor, place: str, grid: Grid, to: dict[str, Any]) -> Tensor:
        run = to.get(RUN)
        if run is None or not self._acts(place, run):
            return x
        return self._injection.fuse(place, x, grid, run.call, self._parts(x, to))

    def _acts(self, place: str, run: Run) -> bool:
        return self._injection.weight(place, run.call) > 0

    def _parts(self, x: Tensor, to: dict[str, Any]) -> list[Part]:
        """The rows of the conditional entries that are this fusion's."""
        run, rows = to[RUN], conditional_rows(to)
        count, found = run.pictures, list[Part]()
        if len(x) != count * len(rows):
            self._tell(
                f"another pack gives the model {len(x)} rows where the sampler has {count * len(rows)}, as in tiles; nothing is changed, "
                "since the negative prompt's cannot be told from the others. Have it draw one tile at a time, or without tiles",
                run,
            )
            return []
        for number, row in enumerate(rows):
            if row is None or not self._is_ours(row):
                continue
            pictures = self._pictures or range(count)
            where = tuple(self._where(run, picture, row) for picture in pictures)
            if not all(one is EVERYWHERE for one in where) and not is_whole(to, row.area):
                self._tell(
                    "another pack draws the picture in tiles, on which a mask of the whole does not fit; nothing is changed. Draw without "
                    "tiles, or without mask and VAE, so that the expression acts everywhere",
                    run,
                )
                continue
            if self._pictures is not None:
                starts = [number * count + picture for picture in pictures]
                found += [Part(slice(start, start + 1), (one,), row.area) for start, one in zip(starts, where, strict=True)]
                continue
            alike = all(one.mask is where[0].mask and one.regions is where[0].regions for one in where)
            found.append(Part(slice(number * count, (number + 1) * count), where[:1] if alike else where, row.area))
        return found

    def _is_ours(self, row: Row) -> bool:
        return self._tag is None or row.tag == self._tag

    def _where(self, run: Run, picture: int, row: Row) -> Where:
        """Where the expression acts: by the mask connected, else where the face is seen, else where the bank has it."""
        seen = EVERYWHERE if self._seen is None else self._look(run).known(picture, run.call.sigma, row.area, row.mask)
        if seen is EVERYWHERE and self._own is not EVERYWHERE:
            why = self._why_elsewhere(run, picture)
            if not why:
                seen = self._own
            elif self._masks is None and self._seen is None:
                self._tell(
                    "the features know where the face is in the picture of their own noise and text alone, and not in another one that is "
                    f"drawn ({why}): there the expression acts everywhere. Connect a VAE, or a mask, and nothing but the face is changed",
                    run,
                )
        return seen if self._masks is None else Where(self._mask(self._masks, run, picture), seen.regions)

    def _mask(self, masks: Sequence[Tensor], run: Run, picture: int) -> Tensor:
        """The mask of a picture; of a part of one that is drawn by itself, what lies there."""
        spot, kept = run.spot, run.session.kept
        if spot is None:
            return masks[picture % len(masks)]
        key = "mask", self
        if key not in kept:
            kept[key] = cut_area(masks[spot.picture % len(masks)], spot.area)
        mask: Tensor = kept[key]
        return mask

    def _look(self, run: Run) -> Look:
        assert self._seen is not None
        vae, session = self._seen.vae, run.session
        key = Look, id(vae), self._seen.moved
        if key not in session.kept:
            tell = partial(self._tell, run=run)
            session.kept[key] = Look(lambda latent: session.decode(vae, latent), self._seen.moved, model_folders(), tell, session.free)
        look: Look = session.kept[key]
        return look

    def _why_elsewhere(self, run: Run, picture: int) -> str:
        """Why the bank's mask does not hold; "" where it does: for the picture of its own composition, and for a later pass in the same
        graph over that picture at any size, which is known again by its latents."""
        session, key, earlier = run.session, (self, picture), self._earlier(run.session)
        if key not in session.kept:
            if session.start is None:
                why = why_elsewhere(self._bank.notes, composition_of(session, picture))
            elif run.spot is None and earlier.knows(session.start, picture):
                why = ""
            else:
                why = "it goes on from a picture that was given, and no sampler before it in this graph drew that of their noise and text"
            session.kept[key] = why
            if not why:
                session.at_end[key] = lambda drawn: earlier.remember(drawn, picture)
        return str(session.kept[key])

    def _earlier(self, session: Session) -> Earlier:
        key = Earlier, self
        if key not in session.kept:
            session.kept[key] = Earlier((self._bank.notes.get(NOISE), self._bank.notes.get(TEXTS)))
        earlier: Earlier = session.kept[key]
        return earlier

    def _tell(self, what: str, run: Run) -> None:
        """Once a run: ComfyUI keeps a fusion for the next one."""
        told = run.session.kept.setdefault(("told", self), set())
        if what not in told:
            told.add(what)
            warn(what)


def attach_fusion(
    model: Any,
    bank: FeatureBank,
    settings: FusionSettings,
    masks: Tensor | None = None,
    seen: Seen | None = None,
    tag: int | None = None,
    pictures: Sequence[int] | None = None,
) -> Any:
    """A clone of `model` with the features of `bank` fused into its conditional rows.

    `masks`: float [P, H, W] in 0..1, one for each picture of the batch, again from the first where there are more pictures. `seen`: look
    for the face in the picture that is drawn. `tag`: only rows of the entries that have it (`texts.TAG`). `pictures`: only of these of the
    batch. At strength 0, of texts that say the same, and where all masks are empty, the clone has no patch. Raises FaceExprError where
    bank, settings and model do not belong together.
    """
    places = fused_places(bank, settings, places_of(model, bank.site))
    if settings.strength == 0 or bank.says_nothing or (masks is not None and not masks.any()):
        return model.clone()
    clone = with_run(model)
    patch = Fusion(bank, settings, places, skips_of(model), masks, seen, tag, pictures)
    if bank.site == "skip":
        clone.set_model_output_block_patch(patch.skip)
    elif bank.site == "cross_attention":
        clone.set_model_attn2_output_patch(patch.cross_attention)
    else:
        clone.set_model_attn2_patch(patch.note_query)
        clone.set_model_attn2_output_patch(patch.context_difference)
    return clone
