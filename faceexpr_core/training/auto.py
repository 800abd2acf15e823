"""The preset `auto`: the best settings that fit the memory of the card; and the refusal of what cannot fit, with what would."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ..errors import FaceExprError
from .bits import unusable
from .plan import GB, Need, need_of
from .settings import AUTO, PLAIN, PRIOR_IMAGES, TrainSettings, preset, preset_settings, require_used

if TYPE_CHECKING:
    from .state import StateFolder

SIDES = (1024, 768, 640, 512)
"""Photos' sides, the best first."""
CANDIDATES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("default", {"gradient_checkpointing": False}),
    ("default", {}),
    ("default", {"base": "nf4"}),
    ("low-vram", {}),
    ("low-vram", {"base": "nf4"}),
)
"""Preset and what is changed of it, the best first."""


@dataclass(frozen=True)
class Settled:
    """What a run is to be done with. `told` says in a line what `auto` chose, "" where it chose nothing."""

    preset: str
    settings: TrainSettings
    side: int
    told: str = ""


def settle(
    name: str,
    given: Mapping[str, Any],
    side: int | None,
    room: int | None,
    stopped: Mapping[str, Any] | None = None,
    draws: bool = True,
) -> Settled:
    """The settings of the preset `name`, or of `auto`, with those that were `given` over them.

    `side` of the photos in pixels, None where it is free. `room`: bytes of the card that training may take, None for a CPU or a model
    smaller than SDXL, where `auto` is the preset PLAIN. `stopped` is the make-up of a run that was stopped (`RunState.run`), which
    `auto` chooses again. `draws`: pictures of the class, where the settings want some, are drawn with the whole U-Net on the card.
    Raises FaceExprError for a value out of range, and where `auto` finds nothing that fits.
    """
    if name != AUTO or room is None:
        plain = PLAIN if name == AUTO else name
        return Settled(plain, preset_settings(plain, **given), side or preset(plain).resolution)
    fitting = list(_fitting(given, (side,) if side else SIDES, room, draws))
    if not fitting:
        alone = any(_fitting({}, (side,) if side else SIDES, room, draws))
        takes = "What was asked for does not fit" if alone else f"No preset{f' with photos at {side} px' if side else ''} fits"
        raise FaceExprError(_refusal(takes, given, side or SIDES[0], room, draws))
    chosen, need = next((one for one in fitting if stopped is not None and _is_of(one[0], stopped)), fitting[0])
    on = "with" if chosen.settings.gradient_checkpointing is not False else "without"
    base = "" if chosen.settings.base == "full" else f", base in {chosen.settings.base}"
    told = (
        f"auto: preset {chosen.preset}, photos at {chosen.side} px, {on} gradient checkpointing{base}: "
        f"{need.needed / GB:.1f} of {room / GB:.1f} GB{_missed(given, (side,) if side else SIDES, room, draws)}"
    )
    return Settled(chosen.preset, chosen.settings, chosen.side, told)


def settle_again(
    name: str,
    given: Mapping[str, Any],
    side: int | None,
    room: int | None,
    states: StateFolder | None,
    finished: Callable[[], Mapping[str, Any] | None],
    draws: bool,
) -> Settled:
    """`settle` for a run of which there may be an earlier one, which `auto` chooses again: the one that was stopped, whose states these
    are, or else the one that `finished` finds. Raises as that does, and FaceExprError for a setting without effect."""
    stopped = None
    if name == AUTO and room is not None:
        stopped = None if states is None else states.stopped_run()
        stopped = finished() if stopped is None else stopped
    settled = settle(name, given, side, room, stopped, draws)
    require_used(settled.settings, given)
    return settled


def require_fit(name: str, settings: TrainSettings, side: int, room: int, draws: bool = True, prior_images: int = PRIOR_IMAGES) -> Need:
    """What the run takes. Raises FaceExprError when the tensors of its steps alone, or those while it draws the class (`draws` as in
    `settle`), are more than `room` bytes."""
    need, what = need_of(settings, side, prior_images=prior_images), f"{f'Preset {name}' if name else 'This run'} with photos at {side} px"
    if need.allocated > room:
        takes = f"{what} takes {need.allocated / GB:.1f} GB of the card and does not fit"
        raise FaceExprError(_refusal(takes, {}, side, room, draws))
    if draws and need.drawing > room:
        takes = f"{what} draws pictures of the class before its steps, which takes {need.drawing / GB:.1f} GB of the card and does not fit"
        raise FaceExprError(f"{_refusal(takes, {}, side, room, draws)} Prior distill or off draws none.")
    return need


def _fitting(
    given: Mapping[str, Any], sides: Sequence[int], room: int, draws: bool, packed: bool | None = None
) -> Iterator[tuple[Settled, Need]]:
    """What fits, the best first. `packed`: with candidates that bitsandbytes makes possible; None where it can be used."""
    packed = unusable() is None if packed is None else packed
    for side in sides:
        for name, changes in CANDIDATES:
            if "base" in changes and not packed:
                continue
            settings = preset_settings(name, **{**changes, **given})
            try:
                require_used(settings, given)
            except FaceExprError:  # what was asked for would be without effect
                continue
            need = need_of(settings, side)
            if need.peak(draws) <= room:
                yield Settled(name, settings, side), need


def _missed(given: Mapping[str, Any], sides: Sequence[int], room: int, draws: bool) -> str:
    """What to say where bitsandbytes cannot be used and the best that would fit with it needs it; "" elsewhere."""
    reason = unusable()
    if reason is None:
        return ""
    best = next((one for one, _ in _fitting(given, sides, room, draws, packed=True)), None)
    if best is None or best.settings.base == "full":
        return ""
    return (
        f". Preset {best.preset} with photos at {best.side} px and the base in {best.settings.base} would fit, but that needs the package "
        f"bitsandbytes, which {reason}"
    )


def _is_of(one: Settled, run: Mapping[str, Any]) -> bool:
    if run.get("side", one.side) != one.side:
        return False
    asked = one.settings.used()
    # not compared, counted over processes, added to, or known of the model alone
    free = ("gradient_checkpointing", "accumulation", "steps", "prediction", "zero_snr")
    settings = {field.name: field.default for field in fields(TrainSettings) if field.name not in free}
    return all(run.get(name, plain) == asked.get(name, plain) for name, plain in settings.items())


def _takes_more(one: Settled, name: str, value: Any, draws: bool) -> bool:
    try:
        other = replace(one.settings, **{name: value})
    except FaceExprError:  # it cannot stand alone, as a warm-up without its steps
        return False
    return need_of(other, one.side).peak(draws) > need_of(one.settings, one.side).peak(draws)


def _refusal(takes: str, given: Mapping[str, Any], side: int, room: int, draws: bool) -> str:
    would = next(_fitting({}, [side, *(one for one in SIDES if one < side)], room, draws), None)
    if would is None:
        every = _fitting({}, SIDES, sys.maxsize, draws)
        least, one = min(((need.peak(draws), one) for one, need in every), key=lambda found: found[0])
        packed = _missed({}, SIDES, room, draws)
        advice = (
            f"Nothing would fit{' as things are' if packed else ''}; the least, preset {one.preset} with photos at {one.side} px, takes "
        )
        advice += f"{least / GB:.1f} GB{packed}."
    else:
        one, need = would
        changed = {name: value for name, value in vars(one.settings).items() if value != getattr(preset_settings(one.preset), name)}
        more = "".join(f", {name} {value}" for name, value in changed.items())
        advice = f"This would: preset {one.preset}{more}, photos at {one.side} px ({need.peak(draws) / GB:.1f} GB)"
        advice += f"{_missed({}, [side, *(lower for lower in SIDES if one.side <= lower < side)], room, draws)}."
        if costly := [name for name, value in given.items() if _takes_more(one, name, value, draws)]:
            advice += f" Leave out what was given beside the preset ({', '.join(costly)}), or part of it."
    return f"{takes}: {room / GB:.1f} GB are free for it. {advice}"
