"""Donors of an expression: twin runs of the base model whose U-Net features are recorded, in any host.

The paper (FaceExpr, Information Fusion 125, 103431) records the features of an expression instance; the twin of neutral expression, the
branch and the photo's way are ours.
A host (diffusers, ComfyUI) lends its model calls through `Host`; everything else is here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..errors import FaceExprError
from .bank import FeatureBank
from .donor_faces import Location, PhotoCrops, Picture, Twins, locate, neutral_mask
from .grids import grid_mask
from .recorder import Recorder
from .settings import CONTEXT_SITE, FusionSettings, require_photo_site, window_range, window_sigmas

Which = Literal["n", "e"]

BRANCH_SIGMA = 5.1
"""Above this noise level a text's twins are one run, under the neutral prompt: the scene is drawn there, not the expression."""

NEUTRAL_SIGMA = 3.3
"""Noise from which a photo's neutral twin is drawn."""

NEUTRALS = ("drawn", "none")

LOOK_STEPS = 6
"""Evaluations after which the face's place can be seen (`neutral_look`)."""

_NEUTRAL_STEPS = 12
_NEUTRAL_END = 0.03


class Host(Protocol):
    """The base model, its LoRAs off, with the neutral (`n`) and the expression's (`e`) conditioning.

    Latents are float32 [1, 4, h, w] in the U-Net's scale, x = z + sigma eps, on the device of the latents given.
    """

    def predict(self, x: Tensor, sigma: float, which: Which, record: int | None = None) -> Tensor:
        """The noise in x with classifier-free guidance. With `record`, the conditional row's features are kept as those of the
        bank's sigma of that index."""
        ...

    def observe(self, x: Tensor, sigma: float, which: Which, record: int) -> None:
        """Record the conditional row alone."""
        ...

    def record_contexts(self) -> None:
        """Record the keys and values of both conditionings (site `cross_attention_difference`)."""
        ...

    def encode(self, picture: Picture) -> Tensor:
        """The VAE's latent of a picture."""
        ...

    def decode(self, latent: Tensor) -> Picture:
        """The picture uint8 [8h, 8w, 3] of a latent; one without a face where the host has no VAE."""
        ...


@dataclass(frozen=True, eq=False)
class Donors:
    """Features, the pictures of what they were recorded from, and what to tell the user."""

    bank: FeatureBank
    twins: Twins
    report: str


def describe(made: Donors) -> str:
    """What was recorded, how large it is, and where it will act, in a line."""
    bank = made.bank
    levels = f" at {len(bank.sigmas)} noise levels, {bank.sigmas[0]:.3g} to {bank.sigmas[-1]:.3g}" if bank.sigmas else ""
    return f"{bank.site}: {len(bank.places())} places{levels}, {bank.nbytes / 2**20:.1f} MB; {made.report}"


class _Watcher:
    """Looks for the face as soon as the neutral twin can be seen, so that the recorder keeps no more than it needs."""

    def __init__(self, recorder: Recorder, moved: Sequence[str], folders: Iterable[str | os.PathLike[str]]) -> None:
        self._recorder, self._moved, self._folders = recorder, moved, folders
        self.location = Location(None, None, "")

    def __call__(self, neutral: Picture) -> None:
        self.location = locate(neutral, self._moved, self._folders)
        self._recorder.focus(self.location.mask)

    def bank(self, notes: Mapping[str, str] | None) -> FeatureBank:
        """What was recorded; of where it acts the notes say what `donor_faces.moved_in` reads."""
        held = {"regions": ",".join(self._moved)} if self._moved else {}
        return self._recorder.bank(self.location.regions, {**(notes or {}), **held})


def text_donors(
    host: Host,
    recorder: Recorder,
    start: Tensor,
    sigmas: Sequence[float],
    *,
    moved: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
    folders: Iterable[str | os.PathLike[str]] = (),
) -> Donors:
    """Features of text twins at the recorder's sigmas, which are some of the sampler's (`recorder_for`), and pictures of both.

    Where tokens are recorded, a look at the neutral face comes first (`neutral_look`), so that only those of the face are ever kept: all
    of a neutral run at 1024 px would take 2 GB of the host's memory.

    `start` [1, 4, h, w] is the sampler's own first latent, `sigmas` its falling schedule with its 0, `moved` the regions of the face
    to which the change is held (`donor_faces.held_regions`).
    """
    watcher = _Watcher(recorder, moved, folders)
    recorded = _record_texts(host, recorder, sigmas)
    if recorded:
        watcher(host.decode(neutral_look(host, start, sigmas)))
    twins = text_twin(host, start, sigmas, recorded, None if recorded else watcher)
    return Donors(watcher.bank(notes), twins, watcher.location.report)


def own_features(
    host: Host,
    recorder: Recorder,
    start: Tensor,
    sigmas: Sequence[float],
    *,
    moved: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
    folders: Iterable[str | os.PathLike[str]] = (),
) -> tuple[FeatureBank, str]:
    """The same features and the report, without pictures: what a sampler needs for the picture that it is about to draw.

    At the site `cross_attention_difference` nothing is drawn, and there is no mask: the sampler sees the face in its own steps
    (`look.Look`). At other sites, the twins, as far as they are recorded.
    """
    recorded = _record_texts(host, recorder, sigmas)
    watcher = _Watcher(recorder, moved, folders)
    if recorded:
        watcher(host.decode(neutral_look(host, start, sigmas)))
        text_twin(host, start, sigmas, recorded, finish=False)
    return watcher.bank(notes), watcher.location.report


def _record_texts(host: Host, recorder: Recorder, sigmas: Sequence[float]) -> tuple[int, ...]:
    """Record what needs no latent; the steps at which the rest is to be recorded."""
    if recorder.site == CONTEXT_SITE:
        host.record_contexts()
    return _recorded_steps(recorder, sigmas)


def _recorded_steps(recorder: Recorder, sigmas: Sequence[float]) -> tuple[int, ...]:
    if recorder.site == CONTEXT_SITE:
        return ()
    return tuple(index for index, sigma in enumerate(sigmas) if sigma in recorder.sigmas)


def photo_donors(
    host: Host,
    recorder: Recorder,
    crops: PhotoCrops,
    noise: Tensor,
    *,
    neutral: str = "drawn",
    moved: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
    folders: Iterable[str | os.PathLike[str]] = (),
) -> Donors:
    """Features of a photograph at the recorder's sigmas, with one noise [1, 4, h, w] for all of them.

    Without a neutral photo, `neutral` is `drawn` (the base model draws one under the face's mask) or `none` (features without a neutral
    twin, fused by AdaIN). Raises FaceExprError for the site `cross_attention_difference`, which reads words alone.
    """
    require_photo_site(recorder.site)
    if neutral not in NEUTRALS:
        raise FaceExprError(f"'{neutral}' is no way to a neutral twin; it must be one of: {', '.join(NEUTRALS)}.")
    watcher = _Watcher(recorder, moved, folders)
    side = crops.photo.shape[0]
    drawn = neutral_mask(crops.face, side, side) if neutral == "drawn" else None
    twins = photo_twin(host, crops.photo, recorder.sigmas, noise, crops.neutral, drawn, watcher)
    return Donors(watcher.bank(notes), twins, watcher.location.report)


def text_evaluations(recorder: Recorder, sigmas: Sequence[float], pictures: bool) -> int:
    """How often `text_donors` (with `pictures` of both twins) or `own_features` has the model evaluated."""
    recorded = _recorded_steps(recorder, sigmas)
    last = len(sigmas) - 2
    end = last if pictures else max(recorded, default=-1)
    look = min(LOOK_STEPS, len(sigmas) - 1) if recorded else 0
    alone = sum(sigma > BRANCH_SIGMA and index < last and index not in recorded for index, sigma in enumerate(sigmas[: end + 1]))
    return look + 2 * (end + 1) - alone


def photo_evaluations(recorder: Recorder, neutral_photo: bool, neutral: str) -> int:
    """How often `photo_donors` has the model evaluated: at each of the recorder's sigmas, and for a neutral twin that it draws."""
    drawn = not neutral_photo and neutral == "drawn"
    return len(recorder.sigmas) * (2 if neutral_photo or drawn else 1) + (_NEUTRAL_STEPS if drawn else 0)


def steps_in_window(sigmas: Sequence[float], window: tuple[float, float]) -> tuple[int, ...]:
    """The steps of a schedule at which features are used: indices of `sigmas`, at least one."""
    return window_sigmas(sigmas, *window_range(window))


def recorder_for(settings: FusionSettings, sigmas: Sequence[float], keep: str = "face", levels: int | None = None) -> Recorder:
    """A recorder of what a sampler with the schedule `sigmas` needs: its steps in the window, or `levels` of them, evenly chosen.

    The site `cross_attention_difference` needs no sigma, the mode `paper` all tokens, whose printed formula adds up position by position.
    """
    if settings.site == CONTEXT_SITE:
        return Recorder(settings.site)
    steps = steps_in_window(sigmas, settings.window)
    count = len(steps) if levels is None else min(levels, len(steps))
    chosen = tuple(sigmas[steps[(2 * number + 1) * len(steps) // (2 * count)]] for number in range(count))
    return Recorder(settings.site, chosen, keep="all" if settings.mode == "paper" else keep, sparse=count < len(steps))


def text_twin(
    host: Host,
    start: Tensor,
    sigmas: Sequence[float],
    recorded: Sequence[int],
    on_neutral: Callable[[Picture], None] | None = None,
    finish: bool = True,
) -> Twins:
    """Run the neutral prompt from `start`, the sampler's own first latent at sigmas[0], branch at BRANCH_SIGMA, and record both twins.

    `sigmas` is the sampler's falling schedule with its 0; `recorded` are indices into it, in rising order, and the position of one in
    `recorded` is its index in the bank. The steps are Euler's. Where a sigma above the branch is recorded, both conditionings look at
    the one latent there is. `on_neutral` is shown the neutral twin before the other begins. Without `finish` the runs end with the last
    recorded sigma and the pictures are the model's estimates there.
    """
    _check_schedule(sigmas, recorded)
    marks = {index: position for position, index in enumerate(recorded)}
    last = len(sigmas) - 2
    end = last if finish or not recorded else max(recorded)
    branch, fork = 0, start
    x = clean = start
    for index in range(end + 1):
        sigma, following = sigmas[index], sigmas[index + 1]
        noise = host.predict(x, sigma, "n", marks.get(index))
        shared = sigma > BRANCH_SIGMA and index < last
        if shared and index in marks:
            host.observe(x, sigma, "e", marks[index])
        x, clean = x + (following - sigma) * noise, x - sigma * noise
        if shared:
            branch, fork = index + 1, x
    neutral = host.decode(clean)
    if on_neutral is not None:
        on_neutral(neutral)
    x = fork
    for index in range(branch, end + 1):
        sigma, following = sigmas[index], sigmas[index + 1]
        noise = host.predict(x, sigma, "e", marks.get(index))
        x, clean = x + (following - sigma) * noise, x - sigma * noise
    return Twins(neutral, host.decode(clean))


def neutral_look(host: Host, start: Tensor, sigmas: Sequence[float], steps: int = LOOK_STEPS) -> Tensor:
    """A rough neutral twin, latent [1, 4, h, w]: Euler over `steps` of the schedule's levels, evenly spaced from its first, to 0.

    Good enough to find the face: on Mini its mask overlaps that of the finished twin (20 steps) by 0.97, at the least 0.87 (intersection
    over union, 16 pictures, three masks each), with 4 levels by 0.95, with 8 by 0.98; no face was lost.
    """
    _check_schedule(sigmas, ())
    count = len(sigmas) - 1
    taken = min(steps, count)
    levels = [sigmas[index * count // taken] for index in range(taken)]
    x = start
    for sigma, following in pairwise([*levels, 0.0]):
        x = x + (following - sigma) * host.predict(x, sigma, "n")
    return x


def photo_twin(
    host: Host,
    photo: Picture,
    sigmas: Sequence[float],
    noise: Tensor,
    neutral: Picture | None = None,
    neutral_mask: Tensor | None = None,
    on_neutral: Callable[[Picture], None] | None = None,
) -> Twins:
    """Record a photograph at the bank's sigmas: x = z + sigma eps with one eps (`noise` [1, 4, h, w]) for every sigma and both twins.

    `photo` and `neutral` are crops of one size ([8h, 8w, 3]; see `PhotoCrops`). Without a `neutral` photo, a `neutral_mask` (float
    [8h, 8w]: the face) has the base model draw one there from NEUTRAL_SIGMA with the neutral prompt; without both there is no neutral
    twin, and the bank will be `single`. `on_neutral` is shown the neutral twin (else the photo) before recording begins.
    """
    of_expression = host.encode(photo).to(noise)
    of_neutral = None
    if neutral is not None:
        of_neutral = host.encode(neutral).to(noise)
    elif neutral_mask is not None:
        of_neutral = _neutralised(host, of_expression, noise, neutral_mask)
        neutral = host.decode(of_neutral)
    if on_neutral is not None:
        on_neutral(photo if neutral is None else neutral)
    for position, sigma in enumerate(sigmas):
        host.observe(of_expression + sigma * noise, sigma, "e", position)
        if of_neutral is not None:
            host.observe(of_neutral + sigma * noise, sigma, "n", position)
    return Twins(neutral, photo)


def _neutralised(host: Host, latent: Tensor, noise: Tensor, mask: Tensor) -> Tensor:
    """Image to image with the neutral prompt under the mask; outside it the latent stays as it is."""
    inside = grid_mask(mask, (latent.shape[2], latent.shape[3])).to(latent)
    levels = torch.linspace(math.log(NEUTRAL_SIGMA), math.log(_NEUTRAL_END), _NEUTRAL_STEPS).exp().tolist()
    x = latent + levels[0] * noise
    for sigma, following in pairwise([*levels, 0.0]):
        x = x + (following - sigma) * host.predict(x, sigma, "n")
        x = inside * x + (1 - inside) * (latent + following * noise)
    return x


def _check_schedule(sigmas: Sequence[float], recorded: Sequence[int]) -> None:
    if len(sigmas) < 2 or any(following >= sigma for sigma, following in pairwise(sigmas)):
        raise FaceExprError(
            f"the noise levels are {[round(s, 4) for s in sigmas]}; they must fall, from the first step's to the last one's."
        )
    if list(recorded) != sorted(set(recorded)) or any(not 0 <= index < len(sigmas) - 1 for index in recorded):
        raise FaceExprError(f"steps {list(recorded)} cannot be recorded of a run of {len(sigmas) - 1} steps.")


def donor_notes(
    *, model: str, expression: str, prompt: str, source: str, width: int, height: int, seed: int | None = None, **more: str
) -> dict[str, str]:
    """What a bank says of itself, alike in every host; `source` is `text` or `photo`, `seed` that of the noise where it had one."""
    known = {"model": model, "expression": expression, "prompt": prompt, "source": source, "size": f"{width}x{height}"}
    return {**known, **({} if seed is None else {"seed": str(seed)}), **more}


def same_place(bank: FeatureBank, seed: int, width: int, height: int, neutral: str) -> bool:
    """Whether a picture drawn from this seed's first noise, which says `neutral` without its expression, has its face where the bank's
    donor has it, so that the bank's mask and regions hold for it too: only for a text's twins of the same noise, size and words."""
    own = {"source": "text", "seed": str(seed), "size": f"{width}x{height}", "neutral": neutral}
    return all(bank.notes.get(name) == value for name, value in own.items())
