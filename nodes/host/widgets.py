"""What ComfyUI's page shows of a node, and what its lists allow."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ...faceexpr_core.errors import FaceExprError
from ...faceexpr_core.expressions import NONE, parse_action_units
from ...faceexpr_core.training.options import PRESET, SWITCH, Option
from .progress import kept_lines, say_and_keep


def action_units_or_reason(given: str | None) -> bool | str:
    """True for action units as text that can be read, or nothing; otherwise why not, as a node's validation says it."""
    try:
        parse_action_units(given or "")
    except ValueError as error:
        return str(error)
    return True


def one_value(name: str, values: Any, why: str) -> Any:
    """The value of an input that ComfyUI hands over as a list; None where it comes by a link and is not known yet.

    Raises FaceExprError for none, and for several that differ, `why` saying what one is needed for.
    """
    if not isinstance(values, (list, tuple)):
        return values
    if not values:
        raise FaceExprError(f"No value came in '{name}': the list that is connected there is empty. Look at the node that it comes from.")
    if any(value is not values[0] and value != values[0] for value in values[1:]):
        raise FaceExprError(f"{len(values)} different values of '{name}' were given; {why}")
    return values[0]


def require_pictures(name: str, batches: Iterable[Any] | None) -> None:
    """Raise FaceExprError where an input that is connected brings no picture: an empty list, or batches of none."""
    if batches is not None and not any(len(batch) for batch in batches):
        raise FaceExprError(
            f"No pictures came in '{name}': the batch or list that is connected there is empty. Look at the node that it comes from, and "
            "give one picture or more."
        )


def advanced(*widgets: Any) -> tuple[Any, ...]:
    """Inputs that the web page shows only when asked."""
    for widget in widgets:
        widget.optional = True
        widget.extra_dict = {**widget.extra_dict, "advanced": True}
    return widgets


def widget_of(option: Option) -> Any:
    """The widget of an option of the training that has one."""
    about = option.widget
    assert about is not None
    low, high = (one if other is None else other for one, other in ((option.low, about.low), (option.high, about.high)))
    if low is not None and about.unset is not None:
        low = min(low, about.unset)
    if option.kind == "int":
        more = {"control_after_generate": False} if option.name == "seed" else {}
        widget: Any = io.Int.Input(option.name, default=about.start, min=_whole(low), max=_whole(high), tooltip=option.tooltip, **more)
    elif option.kind == "float":
        numbers = {"default": about.start, "min": low, "max": high, "step": about.step, "round": about.round}
        floats = {name: None if value is None else float(value) for name, value in numbers.items()}
        widget = io.Float.Input(option.name, tooltip=option.tooltip, **floats)
    elif option.kind == "text":
        widget = io.String.Input(option.name, default=about.start, tooltip=option.tooltip)
    elif option.kind == "file":
        files = [about.start, *folder_paths.get_filename_list("loras")]
        widget = io.Combo.Input(option.name, options=files, default=about.start, tooltip=option.tooltip)
    else:
        known = list(SWITCH) if option.kind == "switch" else list(option.labels or option.choices)
        options = [PRESET, *known] if about.start == PRESET and PRESET not in known else known
        widget = io.Combo.Input(option.name, options=options, default=about.start, tooltip=option.tooltip)
    return advanced(widget)[0] if about.advanced else widget


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


EMPTY_MASK = "Load Image gives an empty mask for a picture without transparency: paint one in its mask editor, or disconnect the input"


def require_mask(name: str, mask: Any) -> None:
    """Raise FaceExprError where the MASK that a node got, if it did, has no height and width."""
    if mask is not None and (mask.dim() not in (2, 3) or 0 in mask.shape):
        raise FaceExprError(f"{name} got a mask of shape {tuple(mask.shape)}; it needs height and width.")


def require_choices(node: type[io.ComfyNode], **given: Any) -> None:
    """Raise FaceExprError for a value, given by its widget's name, that is not in that list of the node; ComfyUI lets any pass."""
    for widget in node.define_schema().inputs:
        if isinstance(widget, io.Combo.Input) and widget.id in given and given[widget.id] not in widget.options:
            raise FaceExprError(f"{widget.id} is {given[widget.id]!r}; choose one of {', '.join(widget.options)}.")


def tell(node: type[io.ComfyNode], what: str) -> None:
    """Say it in the log and on the node."""
    logging.warning("%s: %s", node.define_schema().display_name, what)
    say_and_keep(what)


def shown_report(report: str) -> ui.PreviewText:
    """What the page shows below a node that has run: what was told meanwhile, which it would cover, and the report."""
    return ui.PreviewText("\n".join([*kept_lines(), report]))


def name_within(file: Path, folder: Path) -> Path:
    """A file that was written into a folder of ComfyUI's, by its name there: where that lies on the disk is nobody else's."""
    return file.relative_to(os.path.abspath(folder))


def tell_idle_strengths(
    node: type[io.ComfyNode], expression: str, intensity: float, second_expression: str, second_weight: float, action_units: str
) -> None:
    """`tell_unused` of an intensity and a weight that weigh nothing."""
    if expression in (NONE, "neutral") and not action_units.strip():
        tell_unused(node, f"it weighs expression and action_units, and expression is {expression}", intensity=intensity)
    if second_expression == NONE:
        tell_unused(node, "there is no second_expression", second_weight=second_weight)


def tell_unused(node: type[io.ComfyNode], reason: str, **given: Any) -> None:
    """Say in the log, and on the node, which of the inputs, given by name, change nothing: those connected or set to another value than
    the default."""
    inputs = node.define_schema().inputs
    defaults = {one.id: one.default for one in inputs if isinstance(one, io.WidgetInput)}
    shown = {one.id: repr(one.display_name) for one in inputs if one.display_name}
    if names := [shown.get(name, name) for name, value in given.items() if value != defaults.get(name)]:
        tell(node, f"{' and '.join(names)} changed nothing: {reason}")
