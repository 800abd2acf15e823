"""What widgets and flags ask for, by names of TrainSettings, and what they may not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import FaceExprError
from .options import BY_NAME, PRESET, SWITCH
from .settings import AUTO, PRIOR_IMAGES, TrainSettings


def widget_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """What widgets ask for, by names of TrainSettings, without what is left to the preset. Of other options a number of pictures of the
    class counts, as `prior_of_pictures` says."""
    chosen: dict[str, Any] = {}
    for name, value in given.items():
        option = BY_NAME[name]
        assert option.widget is not None
        meant = SWITCH[value] if option.kind == "switch" else value
        if option.field in TrainSettings.__dataclass_fields__ and meant not in (None, PRESET, option.widget.unset):
            chosen[option.field] = meant
    asked = given.get("prior_images", PRIOR_IMAGES) != PRIOR_IMAGES
    return {**prior_of_pictures(given.get("preset", ""), asked), **chosen}


def prior_of_pictures(preset: str, asked: bool) -> dict[str, Any]:
    """What it means that pictures of the class were `asked` for, by their number or their folder, where the preset may choose a prior that
    has none: who says which pictures wants them."""
    return {"prior": "images"} if preset == AUTO and asked else {}


def require_in_range(given: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise FaceExprError for a flag out of its range, of those `names` that TrainSettings does not look after."""
    for name in names:
        option, value = BY_NAME[name], given[name]
        if value is None or option.low is None:
            continue
        if option.kind == "float" and option.high is not None:
            if not option.low <= value <= option.high:
                raise FaceExprError(f"--{name} is {value}; give a value from {option.low:g} to {option.high:g}.")
        elif value < option.low:
            raise FaceExprError(f"--{name} is {value}; give {option.low:g} or more.")
        elif option.high is not None and value > option.high:
            raise FaceExprError(f"--{name} is {value}; give {option.high:.0f} or less.")
