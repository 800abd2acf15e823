"""What the widgets of Train FaceExpr LoRA ask for, as a run: settings, states, and where its pictures go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folder_paths

from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.lora.finished import last_run
from ..faceexpr_core.lora.start import read_start
from ..faceexpr_core.training.asked import widget_values
from ..faceexpr_core.training.auto import Settled, settle_again
from ..faceexpr_core.training.options import NO_FILE, RESUME
from ..faceexpr_core.training.previews import Previews
from ..faceexpr_core.training.run import ClassPictures, Job
from ..faceexpr_core.training.settings import AUTO, background_of, parse_settings
from ..faceexpr_core.training.state import StateFolder, Wording
from .host.folders import loras_folder
from .host.training import TrainingHost

OUTPUT = "faceexpr"
CONTINUE, ANEW = (next(label for label, meaning in RESUME.items() if meaning == wanted) for wanted in ("strict", "off"))


def settle_for(host: TrainingHost, subject: Any, path: Path, values: Mapping[str, Any]) -> Settled:
    """The run's settings: the preset's, or those that `auto` chooses for the card, the widgets that say something else, then `more`.

    Raises FaceExprError for a value out of range or without effect, and where nothing fits the card.
    """
    given = {**widget_values(values), **parse_settings(values["more"])}
    room = host.room() if host.full_size and values["preset"] == AUTO else None

    def finished() -> Mapping[str, Any] | None:
        return last_run(path) if _takes_finished(values) else None

    return settle_again(values["preset"], given, subject.resolution, room, states_at(path, values), finished, host.draws_whole)


def states_at(path: Path, values: Mapping[str, Any]) -> StateFolder | None:
    """Where the run of the LoRA at `path` keeps its states, in ComfyUI's output folder."""
    every = values["state_every"]
    if not every:
        return None
    first = f"set resume to {CONTINUE!r} and " if RESUME[values["resume"]] == "off" else ""
    wording = Wording(
        f"{first}run the graph again to go on from here",
        f"give another lora_name, or set resume (one of the node's advanced inputs) to {ANEW!r}, which gives it up",
    )
    keep = values["finished_state"] == "keep"
    return StateFolder(
        _home() / "training" / _name_of(path), every, resume=RESUME[values["resume"]], lengthened_later=keep, wording=wording
    )


def job_of(subject: Any, settled: Settled, path: Path, values: Mapping[str, Any]) -> Job:
    """The run; what it draws goes to ComfyUI's output folder."""
    background, name = values["background_weight"], _name_of(path)
    return Job(
        subject,
        settled.settings,
        background_of(settled.preset, None if background == -1 else background),
        ClassPictures(_home() / "class_images", values["prior_images"]),
        Previews(_home() / "previews" / name.parent, values["preview_every"], stem=f"{name.name}_step"),
        states_at(path, values),
        preset=settled.preset,
        start=None if values["start_from"] == NO_FILE else read_start(_lora(values["start_from"])),
        file=path,
        anew=f"To learn it again, set resume to {ANEW!r}." if _takes_finished(values) else "",
    )


def _takes_finished(values: Mapping[str, Any]) -> bool:
    return bool(RESUME[values["resume"]] != "off")


def _name_of(path: Path) -> Path:
    """A LoRA's path in the loras folder, without `.safetensors`."""
    return path.relative_to(loras_folder()).with_suffix("")


def _lora(name: str) -> Path:
    found = folder_paths.get_full_path("loras", name)
    if found is None:
        raise FaceExprError(
            f"start_from is {name!r}, which is no file of the loras folder. Put it there, press R in the page and choose it."
        )
    return Path(found)


def _home() -> Path:
    return Path(folder_paths.get_output_directory()) / OUTPUT
