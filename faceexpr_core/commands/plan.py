"""`faceexpr plan`: what a training run will take of the card, of time and of the disk, before it is begun."""

from __future__ import annotations

import argparse

from ..errors import FaceExprError
from ..training.asked import require_in_range
from ..training.options import BY_NAME, KEEPING, OPTIONS, SEEING, TRAINING
from ..training.settings import PRIOR_IMAGES, TrainSettings
from .flags import add_flag, check_number, refuse_unused
from .train import given_settings, require_drawn, settings_of

CARDS = (6, 8, 12, 16, 24)
"""GB of usual cards."""
LARGEST = 10000
"""GB, more than any card has."""
SPEEDS = (10, 30)
"""TFLOP a second for which a table says how long a run takes."""


def add_plan_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `plan` to the `faceexpr` command."""
    parser = subparsers.add_parser(
        "plan",
        help="what a training run of SDXL will take, before it is begun",
        description="What a training run of SDXL will take of the card (simulated), of time (one call of the U-Net timed) and of the disk.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--model", default="", help="the model, as for train; it is loaded, and one call of it timed on this machine's card")
    where.add_argument("--card", type=float, metavar="GB", help="no model: for a card of this size, which need not be here")
    where.add_argument("--cards", action="store_true", help="no model: a table of what the preset takes on usual cards")
    parser.add_argument("--resolution", type=int, help="side of the training pictures in pixels (preset)")
    parser.add_argument("--device", default="", help="cpu, cuda (the best there is)")
    groups = {title: parser.add_argument_group(title) for title in (TRAINING, KEEPING, SEEING)}
    for option in OPTIONS:
        if option.flag and (option.field in TrainSettings.__dataclass_fields__ or option.name in ("preset", "prior_images")):
            add_flag(groups.get(option.group, groups[TRAINING]), BY_NAME[option.name])
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan. Returns 0. Raises FaceExprError for what cannot be, what does not fit included."""
    require_in_range(vars(arguments), ("prior_images",))
    check_number(arguments, "card")
    if arguments.card is not None and not 0 < arguments.card <= LARGEST:
        raise FaceExprError(f"--card is {arguments.card:g}; give the card's GB: above 0, up to {LARGEST}.")
    require_drawn(settings_of(arguments), {"--prior_images": arguments.prior_images != PRIOR_IMAGES})
    if not arguments.model:
        refuse_unused(arguments, {"device": ""}, "no model is loaded. Give --model, or leave it out.")
    print(_cards(arguments) if arguments.cards else _on_card(arguments) if arguments.card is not None else _here(arguments))
    return 0


def _on_card(arguments: argparse.Namespace) -> str:
    from ..training.auto import require_fit, settle
    from ..training.plan import GB, rest, told

    room = round(arguments.card * GB) - rest()
    one = settle(arguments.preset, given_settings(arguments), arguments.resolution, max(0, room))
    need = require_fit(one.preset, one.settings, one.side, room, prior_images=arguments.prior_images)
    where = f"a card of {arguments.card:g} GB, {rest() / GB:g} GB of it left for the rest"
    return "\n".join([*filter(None, [one.told]), told(one.preset, one.settings, one.side, need, where)])


def _cards(arguments: argparse.Namespace) -> str:
    """A table in Markdown."""
    from ..training.auto import require_fit, settle
    from ..training.plan import GB, rest, size_of

    hours = " | ".join(f"hours at {speed} TFLOP/s" for speed in SPEEDS)
    lines = [
        f"| card | preset | photos | checkpointing | base | memory, simulated | {hours} | disk |",
        f"|---|---|---|---|---|---|{'---|' * len(SPEEDS)}---|",
    ]
    for size in CARDS:
        room = size * GB - rest()
        try:
            one = settle(arguments.preset, given_settings(arguments), arguments.resolution, room)
            need = require_fit(one.preset, one.settings, one.side, room, prior_images=arguments.prior_images)
        except FaceExprError:
            lines.append(f"| {size} GB | nothing fits | | | | |{' |' * len(SPEEDS)} |")
            continue
        on = "on" if one.settings.gradient_checkpointing is not False else "off"
        base = "16 bits" if one.settings.base == "full" else one.settings.base
        disk = size_of(need.lora + need.states + need.pictures)
        memory, long = f"{need.needed / GB:.1f} GB", " | ".join(f"{need.tflop / speed / 3600:.1f}" for speed in SPEEDS)
        lines.append(f"| {size} GB | `{one.preset}` | {one.side} px | {on} | {base} | {memory} | {long} | {disk} |")
    return "\n".join(lines)


def _here(arguments: argparse.Namespace) -> str:
    from ..diffusers_host.devices import chosen_device
    from ..diffusers_host.pipeline import load_pipeline
    from ..diffusers_host.training import DiffusersHost
    from ..training.auto import require_fit, settle
    from ..training.plan import plan_on
    from ..training.precision import compute_dtype

    device = chosen_device(arguments.device)
    dtype = compute_dtype(arguments.precision or "auto", device)
    host = DiffusersHost(load_pipeline(arguments.model, dtype), device)
    room = host.room() if host.full_size else None
    one = settle(arguments.preset, given_settings(arguments), arguments.resolution, room)
    if not host.full_size:
        return f"{arguments.model} is smaller than SDXL, for which alone there are figures."
    if room is not None:
        require_fit(one.preset, one.settings, one.side, room)
    unet = host.unet(dtype)
    host.release(decode=False)
    return "\n".join([*filter(None, [one.told]), plan_on(device, unet, one.preset, one.settings, one.side, arguments.prior_images)])
