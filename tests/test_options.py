"""One table of a training run's choices: the node and the command cannot say or allow different things."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pack
import pytest

from faceexpr_core.commands.cli import _parser
from faceexpr_core.commands.dreambooth_flags import build_parser
from faceexpr_core.commands.train import add_arguments
from faceexpr_core.training.asked import widget_values
from faceexpr_core.training.options import OPTIONS, PRESET
from faceexpr_core.training.settings import BOUNDS, BadSetting, TrainSettings, preset_settings

OF_THE_CHECKPOINT = {"prediction", "zero_snr"}


def flags() -> dict[str, argparse.Action]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return {action.option_strings[0].removeprefix("--"): action for action in parser._actions}


def test_every_setting_is_an_option_and_nothing_is_one_twice() -> None:
    names = [option.field for option in OPTIONS]
    assert len(names) == len(set(names))
    assert set(TrainSettings.__dataclass_fields__) - OF_THE_CHECKPOINT <= set(names)


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.flag], ids=lambda option: option.name)
def test_a_flag_says_and_allows_what_the_table_does(option: Any) -> None:
    action = flags()[option.name]
    words = option.help.format(*option.choices)
    assert action.dest == option.field and (action.help or "").startswith(f"{words} (")
    assert tuple(action.choices or ()) == option.choices and action.default == option.default
    assert {"int": int, "float": float, "text": str, "file": Path}.get(option.kind) == action.type


def test_the_widgets_say_and_allow_what_the_table_does(comfy_modules: Any) -> None:
    inputs = {one.id: one for one in pack.node("train_lora").TrainLoRA.define_schema().inputs}
    widgets = [option for option in OPTIONS if option.widget is not None]
    assert list(inputs)[-len(widgets) :] == [option.name for option in widgets]
    for option in widgets:
        about, shown = option.widget, inputs[option.name]
        assert about is not None
        words = option.help.format(*(option.labels or option.choices))
        assert shown.tooltip.lower().startswith(words.lower()) and shown.default == about.start
        assert bool((shown.extra_dict or {}).get("advanced")) == about.advanced == bool(shown.optional)
        if option.kind == "choice":
            assert [one for one in shown.options if one != PRESET] == list(option.labels or option.choices)
        elif option.kind in ("int", "float") and about.high is None:
            assert shown.max == option.high and shown.min == min(option.low if about.low is None else about.low, shown.default)


def test_what_a_widget_shows_at_first_is_left_to_the_preset_and_all_else_is_asked() -> None:
    first = {option.name: option.widget.start for option in OPTIONS if option.widget is not None}
    assert widget_values(first) == {"seed": 0}
    asked = {**first, "rank": 8, "ema": 0.0, "train_text_encoder": "off", "gradient_checkpointing": "on", "precision": "fp32"}
    given = {"rank": 8, "ema": 0.0, "text_encoder": False, "gradient_checkpointing": True, "precision": "fp32"}
    assert widget_values(asked) == {**given, "seed": 0}
    assert preset_settings("default", **widget_values(asked)) == preset_settings("default", **given)


def test_bounds_are_those_that_settings_hold_to() -> None:
    for name in BOUNDS:
        for value in (BOUNDS[name][0] - 1, BOUNDS[name][1] + 1 if name != "seed" else 2**64):
            with pytest.raises(BadSetting, match=f"{name} is"):
                preset_settings("default", **{name: value})


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A command and its verbs."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def test_help_says_each_default_once_and_none_where_there_is_none() -> None:
    told: dict[str, str] = {}
    for parser in (*parsers(_parser()), build_parser()):
        formatter = parser._get_formatter()
        told |= {f"{parser.prog} {action.dest}": formatter._expand_help(action) for action in parser._actions if action.help}
    assert not [one for one, help in told.items() if help.count("default: ") > 1 or "None" in help or "[" in help or "(default: )" in help]
    assert told["faceexpr generate seed"].endswith(" (default: 0)") and told["faceexpr generate model"].endswith("(.safetensors)")
    assert told["faceexpr generate width"].endswith("8 (default: what the model was made for)")
    assert told["python -m faceexpr_core.train num_class_images"] == "how many (default: 100)"
