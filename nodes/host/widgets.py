"""What ComfyUI's page shows of a node, and what its lists allow."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...faceexpr_core.errors import FaceExprError


def advanced(*widgets: Any) -> tuple[Any, ...]:
    """Inputs that the web page shows only when asked."""
    for widget in widgets:
        widget.optional = True
        widget.extra_dict = {**widget.extra_dict, "advanced": True}
    return widgets


def require_choices(node: type[io.ComfyNode], **given: Any) -> None:
    """Raise FaceExprError for a value, given by its widget's name, that is not in that list of the node; ComfyUI lets any pass."""
    for widget in node.define_schema().inputs:
        if isinstance(widget, io.Combo.Input) and widget.id in given and given[widget.id] not in widget.options:
            raise FaceExprError(f"{widget.id} is {given[widget.id]!r}; choose one of {', '.join(widget.options)}.")
